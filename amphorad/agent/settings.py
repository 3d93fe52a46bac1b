"""The agent's settings: the controller's file, and our own options in group `[amphorad]` of the same or of a second file.

`TABLE` has every option once, with its default; what ours mean stands beside it. Groups other than `[amphorad]` may
hold whatever the controller writes, also what has no meaning here; an unknown name in `[amphorad]` is an error.

Source: Octavia contract section 2.1.
"""

from __future__ import annotations

import html
import ipaddress
import pwd
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from amphorad.agent.ini import MAX_BYTES, Assignment, Assignments, parse
from amphorad.dialects.haproxy import Escaping
from amphorad.errors import ConfigError
from amphorad.extras import FIELDS, Extra, Extras
from amphorad.model import ReusePolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MUTABLE", "AgentSettings", "Endpoint", "Topology", "parse_settings", "read_settings"]

T = TypeVar("T")
E = TypeVar("E", bound=Enum)


class Topology(StrEnum):
    SINGLE = "SINGLE"
    ACTIVE_STANDBY = "ACTIVE_STANDBY"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where heartbeats go: a name or address without brackets, and a UDP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


# (group, option): default. What the controller writes and has no meaning here is not in it.
TABLE: Final[dict[tuple[str, str], str]] = {
    ("DEFAULT", "debug"): "False",
    ("DEFAULT", "use_syslog"): "True",
    ("DEFAULT", "syslog_log_facility"): "LOG_LOCAL1",
    ("haproxy_amphora", "base_path"): "/var/lib/octavia",
    ("haproxy_amphora", "base_cert_dir"): "/var/lib/octavia/certs",
    ("haproxy_amphora", "bind_host"): "::",
    ("haproxy_amphora", "bind_port"): "9443",
    ("haproxy_amphora", "administrative_log_facility"): "1",
    ("health_manager", "controller_ip_port_list"): "",
    ("health_manager", "heartbeat_interval"): "10",
    ("health_manager", "heartbeat_key"): "None",  # what both ends of the stock sign with when no key is set
    ("amphora_agent", "agent_server_ca"): "/etc/octavia/certs/client_ca.pem",
    ("amphora_agent", "agent_server_cert"): "/etc/octavia/certs/server.pem",
    ("amphora_agent", "agent_server_network_dir"): "/etc/octavia/interfaces",
    ("amphora_agent", "agent_request_read_timeout"): "180",
    ("amphora_agent", "amphora_id"): "",
    ("controller_worker", "loadbalancer_topology"): "SINGLE",
    # --- our own ---
    ("amphorad", "namespace"): "amphora-haproxy",  # network namespace of the data plane and of VRRP
    ("amphorad", "user"): "",  # of data planes; empty: `amphorad` if there is such a user, else `nobody`
    ("amphorad", "threads"): "0",  # engine threads of each data plane; 0: nbthread of the text, else the CPUs
    ("amphorad", "escaping"): "intent",  # or `strict`: values as HAProxy would read them
    ("amphorad", "http_reuse"): "retry",  # or `safe`, `never`
    ("amphorad", "algorithms"): "",  # [OLD=]NEW, ...: balance with NEW where the text asks for OLD, or everywhere
    ("amphorad", "grace"): "10",  # seconds that open sessions may go on after a stop
    ("amphorad", "minimum_body_rate"): "",  # bytes per second of a request body; empty: the data plane's default
    ("amphorad", "traffic_log"): "",  # datagram socket; empty: the one that the texts name; `none`: no traffic log
    ("amphorad", "state_dir"): "/run/amphorad",  # runtime files that a reboot may delete
    ("amphorad", "admin_socket"): "",  # empty: admin.sock in state_dir
    ("amphorad", "log_target"): "",  # stderr, syslog or a path; empty: syslog if use_syslog and /dev/log exist
    ("amphorad", "heartbeat_key_unescape"): "False",  # True: undo the controller's HTML escaping of heartbeat_key
    ("amphorad", "keepalived_command"): "keepalived",  # program, looked up in PATH
    **{("amphorad", extra.name): str(extra.default) for extra in FIELDS},
}

MUTABLE: Final = frozenset(
    {"debug", "controllers", "heartbeat_interval", "heartbeat_key", "topology"},
)
"""Fields of `AgentSettings` that take effect without a restart; everything else needs one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """Settings of one agent. Durations are seconds. See `TABLE` for options, defaults and the meaning of each.

    Args:
        files: where they were read from; `PUT /1.0/config` replaces the first.
        heartbeat_key: text; its UTF-8 bytes are the key of the HMAC.
        network_dir: directory of interface files.
        log_facility: syslog facility of this agent, 0..7 for local0 to local7, or None for the default of syslog.
        administrative_log_facility: 0..7, given to keepalived.
        user: of data planes.
        namespace: name of the network namespace.
        threads: engine threads of each data plane; None leaves it to the text.
        traffic_log: None: the socket that a text names; "": no traffic log.
    """

    files: tuple[Path, ...]
    debug: bool
    base_path: Path
    base_cert_dir: Path
    bind_host: str
    bind_port: int
    controllers: tuple[Endpoint, ...]
    heartbeat_interval: float
    heartbeat_key: str
    server_ca: Path
    server_cert: Path
    network_dir: Path
    request_read_timeout: float
    amphora_id: str
    topology: Topology
    log_target: str
    log_facility: int | None
    administrative_log_facility: int
    namespace: str
    user: str
    threads: int | None
    escaping: Escaping
    http_reuse: ReusePolicy
    algorithms: tuple[tuple[str | None, str], ...]
    grace_s: float
    minimum_body_rate: int | None
    traffic_log: str | None
    state_dir: Path
    admin_socket: Path
    keepalived_command: str
    extras: Extras

    @property
    def namespace_path(self) -> Path:
        """The file that setns(2) takes."""
        return Path("/run/netns") / self.namespace


def read_settings(paths: Sequence[Path]) -> AgentSettings:
    """Settings of files; later ones win.

    Raises:
        ConfigError: a file that cannot be read, or the first wrong value, with file and line.
    """
    return parse_settings([(path, _read(path)) for path in paths])


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1).decode()
    except OSError as error:
        raise ConfigError(error.strerror or str(error), file=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the file is not UTF-8 (byte {error.start})", file=str(path)) from error


def parse_settings(texts: Sequence[tuple[Path, str]]) -> AgentSettings:
    """As `read_settings`, of texts that have been read already (or are not on the disk yet).

    Raises:
        ConfigError.
    """
    found = Assignments([parse(text, str(path)) for path, text in texts], TABLE)
    for name in found.names("amphorad"):
        if ("amphorad", name) not in TABLE:
            raise found.get("amphorad", name).refuse("no such option in [amphorad]", name)
    get = found.get
    key = get("health_manager", "heartbeat_key").text
    unescape = _boolean(get("amphorad", "heartbeat_key_unescape"))
    state_dir = _path(get("amphorad", "state_dir"))
    threads = _integer(get("amphorad", "threads"), 0, 64)
    return AgentSettings(
        files=tuple(path for path, _text in texts),
        debug=_boolean(get("DEFAULT", "debug")),
        base_path=_path(get("haproxy_amphora", "base_path")),
        base_cert_dir=_path(get("haproxy_amphora", "base_cert_dir")),
        bind_host=_address(get("haproxy_amphora", "bind_host")),
        bind_port=_integer(get("haproxy_amphora", "bind_port"), 0, 65535),
        controllers=_controllers(get("health_manager", "controller_ip_port_list")),
        heartbeat_interval=_seconds(get("health_manager", "heartbeat_interval"), 0.1),
        heartbeat_key=html.unescape(key) if unescape else key,
        server_ca=_path(get("amphora_agent", "agent_server_ca")),
        server_cert=_path(get("amphora_agent", "agent_server_cert")),
        network_dir=_path(get("amphora_agent", "agent_server_network_dir")),
        request_read_timeout=_seconds(get("amphora_agent", "agent_request_read_timeout"), 1),
        amphora_id=get("amphora_agent", "amphora_id").text,
        topology=_choice(get("controller_worker", "loadbalancer_topology"), Topology),
        log_target=_log_target(found),
        log_facility=_facility(get("DEFAULT", "syslog_log_facility")),
        administrative_log_facility=_integer(get("haproxy_amphora", "administrative_log_facility"), 0, 7),
        namespace=_namespace(get("amphorad", "namespace")),
        user=_user(get("amphorad", "user")),
        threads=threads or None,
        escaping=_choice(get("amphorad", "escaping"), Escaping),
        http_reuse=_choice(get("amphorad", "http_reuse"), ReusePolicy),
        algorithms=_algorithms(get("amphorad", "algorithms")),
        grace_s=_seconds(get("amphorad", "grace"), 0),
        minimum_body_rate=_optional(get("amphorad", "minimum_body_rate"), lambda of: _integer(of, 0, 2**31 - 1)),
        traffic_log=_traffic_log(get("amphorad", "traffic_log")),
        state_dir=state_dir,
        admin_socket=_optional(get("amphorad", "admin_socket"), _path) or state_dir / "admin.sock",
        keepalived_command=get("amphorad", "keepalived_command").text or "keepalived",
        extras=Extras(**{extra.name: _extra(get("amphorad", extra.name), extra) for extra in FIELDS}),
    )


# --- one value ---


def _boolean(value: Assignment) -> bool:
    match value.text.strip().lower():
        case "true" | "1" | "on" | "yes":
            return True
        case "false" | "0" | "off" | "no":
            return False
    raise value.refuse("neither true nor false")


def _integer(value: Assignment, least: int, most: int) -> int:
    try:
        number = int(value.text)
    except ValueError:
        raise value.refuse("not a whole number") from None
    if not least <= number <= most:
        raise value.refuse(f"not between {least} and {most}")
    return number


def _seconds(value: Assignment, least: float) -> float:
    try:
        number = float(value.text)
    except ValueError:
        raise value.refuse("not a number of seconds") from None
    if not least <= number <= 86400:
        raise value.refuse(f"not between {least:g} and 86400 seconds")
    return number


def _extra(value: Assignment, extra: Extra) -> Any:
    try:
        return extra.parse(value.text)
    except ValueError as error:
        raise value.refuse(str(error)) from None


def _path(value: Assignment) -> Path:
    path = Path(value.text)
    if not path.is_absolute() or "\0" in value.text:
        raise value.refuse("not an absolute path")
    return path


def _address(value: Assignment) -> str:
    try:
        return str(ipaddress.ip_address(value.text.strip().removeprefix("[").removesuffix("]")))
    except ValueError:
        raise value.refuse("not an IP address") from None


def _choice(value: Assignment, choices: type[E]) -> E:
    try:
        return choices(value.text)
    except ValueError:
        raise value.refuse(f"not one of {', '.join(str(choice.value) for choice in choices)}") from None


def _optional(value: Assignment, convert: Callable[[Assignment], T]) -> T | None:
    return convert(value) if value.text else None


def _items(value: Assignment) -> list[str]:
    text = value.text.strip().rstrip(",")
    return [item.strip() for item in text.split(",")] if text else []


def _controllers(value: Assignment) -> tuple[Endpoint, ...]:
    found = []
    for item in _items(value):
        host, colon, port = item.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not colon or not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise value.refuse("a controller is written ADDRESS:PORT", item)
        found.append(Endpoint(host, int(port)))
    return tuple(found)


def _algorithms(value: Assignment) -> tuple[tuple[str | None, str], ...]:
    found = []
    for item in _items(value):
        old, equals, new = item.rpartition("=")
        if not new or (equals and not old):
            raise value.refuse("an algorithm is written [OLD=]NEW", item)
        found.append((old or None, new))
    return tuple(found)


def _facility(value: Assignment) -> int | None:
    name = value.text.strip().upper().removeprefix("LOG_")
    if name.startswith("LOCAL") and name[5:] in set("01234567"):
        return int(name[5:])
    return None


def _log_target(found: Assignments) -> str:
    own = found.get("amphorad", "log_target").text
    if own:
        return own
    return "syslog" if _boolean(found.get("DEFAULT", "use_syslog")) and Path("/dev/log").is_socket() else "stderr"


def _namespace(value: Assignment) -> str:
    name = value.text
    if not name or name in (".", "..") or "/" in name or "\0" in name or len(name) > 100:
        raise value.refuse("not a name of a network namespace")
    return name


def _traffic_log(value: Assignment) -> str | None:
    if not value.text:
        return None
    return "" if value.text == "none" else str(_path(value))


def _user(value: Assignment) -> str:
    names = (value.text,) if value.text else ("amphorad", "nobody")
    for name in names:
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise value.refuse("no such user on this machine", names[-1])
