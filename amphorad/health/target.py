"""What is checked of a member: address, bytes, TLS and time limits, from the model (Octavia contract section 4.11). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from amphorad.model import TLS_VERSIONS, HealthMonitorType, ProxyProtocol

if TYPE_CHECKING:
    from amphorad.model import HealthMonitor, Member, Pool

__all__ = ["CheckTls", "HttpCheck", "ProbeKind", "Target", "target_of"]

PING_WAIT_S: Final = 1.0
"""The stock wrapper sends one echo request and waits one second."""


_WITHOUT_LENGTH: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


class ProbeKind(StrEnum):
    """Which driver carries a check out. UDP_CONNECT and SCTP are for the pools of `amphorad.health.lvs`."""

    STREAM = "stream"
    PING = "ping"
    UDP_CONNECT = "udp-connect"
    SCTP = "sctp"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTls:
    """TLS of a check. No server name is ever sent."""

    verify: bool = False
    ca_file: str | None = None
    crl_file: str | None = None
    certificate_file: str | None = None
    ciphers: str | None = None
    ciphersuites: str | None = None
    versions: frozenset[str] = TLS_VERSIONS
    alpn: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCheck:
    """One request. `expected` is an unanchored regular expression on the status; None takes any 2xx and 3xx."""

    method: str
    path: str
    version: str
    host: str | None
    expected: str | None

    @property
    def request(self) -> bytes:
        """The bytes that HAProxy sends: names in lower case, no Host that was not asked for, not even in HTTP/1.1."""
        lines = [f"{self.method} {self.path} HTTP/{self.version}"]
        if self.host is not None:
            lines.append(f"host: {self.host}")
        if self.method not in _WITHOUT_LENGTH:
            lines.append("content-length: 0")
        if self.version == "1.1":
            lines.append("connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Everything a monitor depends on: two equal targets are the same monitor, and it goes on undisturbed.

    `connect_timeout_s` covers everything up to and including the TLS handshake, `timeout_s` what comes after it.
    """

    kind: ProbeKind
    address: str
    port: int
    member_address: str
    member_port: int
    interval_s: float
    rise: int
    fall: int
    connect_timeout_s: float
    timeout_s: float
    proxy_protocol: ProxyProtocol | None = None
    tls: CheckTls | None = None
    http: HttpCheck | None = None

    def is_same_member(self, other: Target) -> bool:
        """Whether both are about one and the same process, so that what is known of it stays true."""
        return (self.member_address, self.member_port) == (other.member_address, other.member_port)


def target_of(pool: Pool, member: Member) -> Target | None:
    """The target, or None for a member that is not checked (no monitor, or administratively down).

    With a monitor address or port the check inherits neither the pool's TLS nor its PROXY header; only an HTTPS monitor
    brings its own TLS. A PING monitor asks the member's own address whatever the monitor address is.
    """
    monitor = pool.health_monitor
    if monitor is None or not member.checked or not member.admin_state_up:
        return None
    is_ping = monitor.type is HealthMonitorType.PING
    inherits = member.monitor_address is None and member.monitor_port is None
    return Target(
        kind=ProbeKind.PING if is_ping else ProbeKind.STREAM,
        address=member.address if is_ping else member.monitor_address or member.address,
        port=member.port if is_ping else member.monitor_port or member.port,
        member_address=member.address,
        member_port=member.port,
        interval_s=monitor.interval_s,
        rise=monitor.rise,
        fall=monitor.fall,
        connect_timeout_s=(
            min(PING_WAIT_S, monitor.timeout_s) if is_ping else min(pool.timeout_connect_s, monitor.interval_s)
        ),
        timeout_s=monitor.timeout_s,
        proxy_protocol=pool.proxy_protocol if inherits and not is_ping else None,
        tls=None if is_ping else _tls(pool, monitor, inherits),
        http=_http(monitor),
    )


def _tls(pool: Pool, monitor: HealthMonitor, inherits: bool) -> CheckTls | None:
    """HTTPS never verifies the member. The others speak as the tenant's traffic does, verification included: a member
    whose certificate no session would accept is no use. (HAProxy does the same; its HTTPS checks verify with a CRL.)
    """
    own = monitor.type is HealthMonitorType.HTTPS
    if not own and (pool.tls is None or not inherits):
        return None
    if pool.tls is None:
        return CheckTls(alpn=monitor.alpn)
    verify = pool.tls.verify and not own
    return CheckTls(
        verify=verify,
        ca_file=pool.tls.ca_file if verify else None,
        crl_file=pool.tls.crl_file if verify else None,
        certificate_file=pool.tls.certificate_file,
        ciphers=pool.tls.ciphers,
        ciphersuites=pool.tls.ciphersuites,
        versions=pool.tls.versions,
        alpn=monitor.alpn or pool.tls.alpn,
    )


def _http(monitor: HealthMonitor) -> HttpCheck | None:
    if monitor.type not in (HealthMonitorType.HTTP, HealthMonitorType.HTTPS):
        return None
    return HttpCheck(
        method=monitor.http_method or "OPTIONS",  # HAProxy's defaults for a bare `option httpchk`
        path=monitor.url_path or "/",
        version=monitor.http_version or "1.0",
        host=monitor.domain_name,
        expected=monitor.expected_codes,
    )
