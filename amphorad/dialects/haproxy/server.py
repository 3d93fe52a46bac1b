"""`server` lines: one member each (Octavia contract section 4.10.4).

What the controller sets on the pool (check, PROXY protocol, TLS) is repeated on every server line; members that
disagree are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from amphorad.dialects.haproxy.features import Feature
from amphorad.dialects.haproxy.tls import VERSION_SWITCHES, read_options, versions
from amphorad.dialects.haproxy.values import address, address_and_port, alpn_protocols, duration_s, name, number
from amphorad.model import Member, MemberTls, ProxyProtocol

if TYPE_CHECKING:
    from amphorad.dialects.haproxy.lexer import Line
    from amphorad.dialects.haproxy.report import Report

__all__ = ["CheckOptions", "PoolOptions", "ServerReader"]

_PROXY: Final = {
    "send-proxy": ProxyProtocol.V1,
    "send-proxy-v2": ProxyProtocol.V2,
    "send-proxy-v2-ssl-cn": ProxyProtocol.V2_SSL_CN,
}
_TLS_VALUED: Final = ("crt", "ca-file", "crl-file", "verify", "sni", "ciphers", "ciphersuites", "alpn")
_TLS_WORDS: Final = (*_TLS_VALUED, *VERSION_SWITCHES)
_CHECK_WORDS: Final = ("check-ssl", "check verify", "check-alpn", "inter", "fall", "rise")
_FLAGS: Final = frozenset({"check", "check-ssl", "backup", "disabled", "ssl", *_PROXY, *VERSION_SWITCHES})
_VALUED: Final = frozenset({"weight", "check-alpn", "inter", "fall", "rise", "addr", "port", "cookie", *_TLS_VALUED})
_NEED_CHECK: Final = frozenset({"addr", "port", *_CHECK_WORDS})
_SHARED_WORDS: Final = (*_PROXY, "ssl", *_TLS_WORDS)
_MAX_THRESHOLD: Final = 1000


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """The check part of a server line. Defaults are HAProxy's (configuration manual 5.2: inter, rise, fall)."""

    interval_s: float
    fall: int
    rise: int
    over_tls: bool
    alpn: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """What all members of a pool share."""

    proxy_protocol: ProxyProtocol | None
    tls: MemberTls | None


class ServerReader:
    """Reads the server lines of one pool. `check` is None until a member is checked, `shared` until there is one."""

    __slots__ = ("_check_words", "_shared_words", "check", "members", "shared")

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.check: CheckOptions | None = None
        self.shared: PoolOptions | None = None
        self._check_words: tuple[str | None, ...] | None = None
        self._shared_words: tuple[str | None, ...] | None = None

    def read(self, line: Line, report: Report) -> None:
        """Take one `server ID ADDRESS:PORT [OPTIONS]` line."""
        words = line.words
        if len(words) < 3:
            raise line.error("a member is written: server ID ADDRESS:PORT [OPTIONS]", words[-1])
        member_id = name(line, words[1], "a member's id")
        if member_id in self.members:
            raise line.error("member given twice in this pool", member_id)
        report.count_member(line)
        host, port = address_and_port(line, words[2], "a member")
        options = read_options(line, 3, flags=_FLAGS, valued=_VALUED)
        self._take_shared(line, report, options)
        checked = "check" in options
        if checked:
            self._take_check(line, report, options)
        elif not _NEED_CHECK.isdisjoint(options):
            raise line.error("check options need 'check'", member_id)
        self.members[member_id] = Member(
            id=member_id,
            address=host,
            port=port,
            weight=number(line, options.get("weight", "1"), "a weight", low=0, high=256),
            backup="backup" in options,
            admin_state_up="disabled" not in options,
            checked=checked,
            monitor_address=_monitor_address(line, options),
            monitor_port=_monitor_port(line, options),
            cookie=options.get("cookie"),
        )

    def _take_check(self, line: Line, report: Report, options: dict[str, str]) -> None:
        found = tuple(map(options.get, _CHECK_WORDS))
        if found == self._check_words:
            return
        report.need(Feature.HEALTH_MONITOR, line)
        check = _check(line, options)
        if self.check is not None and check != self.check:
            raise line.error("members of one pool must have the same check options", line.words[1])
        self.check = check
        self._check_words = found

    def _take_shared(self, line: Line, report: Report, options: dict[str, str]) -> None:
        found = tuple(map(options.get, _SHARED_WORDS))
        if found == self._shared_words:
            return
        shared = PoolOptions(proxy_protocol=_proxy_protocol(line, report, options), tls=_tls(line, report, options))
        if self.shared is not None and shared != self.shared:
            raise line.error("members of one pool must have the same TLS and PROXY options", line.words[1])
        self.shared = shared
        self._shared_words = found


def _monitor_address(line: Line, options: dict[str, str]) -> str | None:
    return address(line, options["addr"], "a monitor address") if "addr" in options else None


def _monitor_port(line: Line, options: dict[str, str]) -> int | None:
    return number(line, options["port"], "a monitor port", low=1, high=65535) if "port" in options else None


def _check(line: Line, options: dict[str, str]) -> CheckOptions:
    if options.get("check verify", "none") != "none":
        raise line.error("only 'check-ssl verify none' is taken", options["check verify"])
    if "check-ssl" in options and "check verify" not in options:
        raise line.error("'check-ssl' is followed by 'verify none'", "check-ssl")
    return CheckOptions(
        interval_s=duration_s(line, options.get("inter", "2s"), "the check interval"),
        fall=number(line, options.get("fall", "3"), "fall", low=1, high=_MAX_THRESHOLD),
        rise=number(line, options.get("rise", "2"), "rise", low=1, high=_MAX_THRESHOLD),
        over_tls="check-ssl" in options,
        alpn=alpn_protocols(line, options["check-alpn"]) if "check-alpn" in options else None,
    )


def _proxy_protocol(line: Line, report: Report, options: dict[str, str]) -> ProxyProtocol | None:
    found = [version for word, version in _PROXY.items() if word in options]
    if not found:
        return None
    if len(found) > 1:
        raise line.error("more than one PROXY protocol version", line.words[1])
    with_tls = found[0] is ProxyProtocol.V2_SSL_CN
    report.need(Feature.PROXY_PROTOCOL_TLS if with_tls else Feature.PROXY_PROTOCOL, line)
    return found[0]


def _tls(line: Line, report: Report, options: dict[str, str]) -> MemberTls | None:
    """TLS to the members. HAProxy's default is to verify, which it cannot do without a CA."""
    if "ssl" not in options:
        for word in _TLS_WORDS:
            if word in options:
                raise line.error("a TLS option needs 'ssl'", word)
        return None
    report.need(Feature.TLS_MEMBER, line)
    verify = options.get("verify", "required")
    if verify not in ("required", "none"):
        raise line.error("member verification is required or none", verify)
    if verify == "required" and "ca-file" not in options:
        raise line.error("verifying members (the default) needs a ca-file", "ssl")
    if "crl-file" in options and "ca-file" not in options:
        raise line.error("a crl-file needs a ca-file", "crl-file")
    if options.get("sni", "ssl_fc_sni") != "ssl_fc_sni":
        raise line.error("only 'sni ssl_fc_sni' is taken", options["sni"])
    return MemberTls(
        certificate_file=options.get("crt"),
        ca_file=options.get("ca-file"),
        crl_file=options.get("crl-file"),
        verify=verify == "required",
        send_client_sni="sni" in options,
        ciphers=options.get("ciphers"),
        ciphersuites=options.get("ciphersuites"),
        versions=versions(line, options),
        alpn=alpn_protocols(line, options["alpn"]) if "alpn" in options else None,
    )
