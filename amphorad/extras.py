"""What an operator may add to the controller's configuration, all of it off by default.

Each field of `Extras` is an option of `amphorad serve` (`--slow-start 30`), a name in `[amphorad]` of the agent's settings
(`slow_start = 30`), and reaches the data plane as it is. A new option is a field here, and the code that carries it out.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

import msgspec

__all__ = ["FIELDS", "Extra", "Extras"]


@dataclass(frozen=True, slots=True)
class Extra:
    """How one option is read. Numbers are limited to `least`..`most`, texts to `choices`."""

    name: str
    kind: type
    default: Any
    metavar: str
    help: str
    least: float
    most: float
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    def parse(self, text: str) -> Any:
        """The value that a text means.

        Raises:
            ValueError: it means none; with the reason.
        """
        if self.kind is bool:
            match text.strip().lower():
                case "true" | "1" | "on" | "yes":
                    return True
                case "false" | "0" | "off" | "no":
                    return False
            raise ValueError("neither true nor false")
        if self.kind is str:
            if text not in self.choices:
                raise ValueError(f"not one of {', '.join(filter(None, self.choices))}")
            return text
        try:
            number = self.kind(text)
        except ValueError:
            raise ValueError("not a whole number" if self.kind is int else "not a number") from None
        if not self.least <= number <= self.most:
            raise ValueError(f"not between {self.least:g} and {self.most:g}")
        return number


def _option(
    default: Any,
    text: str,
    metavar: str = "N",
    least: float = 0,
    most: float = 86400,
    choices: tuple[str, ...] = (),
) -> Any:
    metadata = {"help": text, "metavar": metavar, "least": least, "most": most, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """The options with their defaults. Durations are seconds."""

    eject_after: int = _option(
        0,
        "take a member out of the balancing when this many connections to it, or this many of its answers, have failed in a"
        " row (5xx apart from 501 and 505, broken or missing ones), whatever its health monitor says; 0: never",
        most=1_000_000,
    )
    ejection_time: float = _option(
        30.0, "how long the first time; each further time in a row as much longer, ten times at most", "SECONDS", 0.1
    )
    eject_at_most: int = _option(50, "percent of a pool's members that may be out this way at the same time", most=100)
    check_on_failure: bool = _option(
        False, "check a member at once when a connection to it has failed, beside the times of its health monitor"
    )
    slow_start: float = _option(
        0.0,
        "a member that comes back gets its full weight only after this time, growing from a tenth; 0: at once",
        "SECONDS",
    )

    rate_limit: float = _option(
        0.0,
        "requests (on a TCP listener connections) per second that each listener takes; more are answered 429, or closed;"
        " 0: no limit",
        most=1e7,
    )
    rate_limit_source: float = _option(
        0.0, "the same of each client address, of each /64 with IPv6; 0: no limit", most=1e7
    )
    rate_limit_burst: int = _option(
        0, "how many may come at once within a limit; 0: as many as in a second", most=1_000_000
    )
    secure_cookies: bool = _option(False, "the persistence cookie is Secure on a TLS listener")
    http_only_cookies: bool = _option(False, "the persistence cookie is HttpOnly")
    same_site_cookies: str = _option(
        "", "SameSite of the persistence cookie: Lax, Strict or None", "POLICY", choices=("", "Lax", "Strict", "None")
    )
    ocsp_stapling: bool = _option(
        False,
        "TLS listeners staple the OCSP response (DER) that stands in X.ocsp beside a certificate's file X; its issuer's"
        " certificate is looked for in X, and in X.issuer",
    )
    timeout_tunnel: float = _option(
        0.0,
        "how long a TCP session or an upgraded connection may be idle, in place of the timeouts of client and member;"
        " 0: those",
        "SECONDS",
    )
    drain_time: float = _option(
        0.0,
        "how long sessions may stay at a listener or member that was removed, disabled, or has got weight 0; 0: as long"
        " as they like",
        "SECONDS",
    )
    x_real_ip: bool = _option(False, "requests to members get X-Real-IP, the client's address")
    x_forwarded_host: bool = _option(False, "requests to members get X-Forwarded-Host, what the client asked for")
    traceparent: bool = _option(
        False, "requests to members get a traceparent (W3C Trace Context) if the client has sent none"
    )
    traffic_log_json: bool = _option(False, "lines of the traffic log are JSON objects with the same values, by name")

    def encode(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, text: str) -> Extras:
        """Raises: msgspec.ValidationError."""
        return msgspec.json.decode(text, type=cls)


def _extra(field: dataclasses.Field[Any]) -> Extra:
    return Extra(field.name, type(field.default), field.default, **field.metadata)


FIELDS: Final = tuple(_extra(field) for field in dataclasses.fields(Extras))
"""Every option, in the order of the help texts."""
