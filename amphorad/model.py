"""The frozen configuration: what a controller asked for, in Octavia's words.

A dialect builds one `LoadBalancer` from text; `plan` compares two of them; the data plane turns one into engine tables.
Nothing here changes after construction and nothing here knows text, sockets or time. Durations are float seconds,
sizes are bytes, identifiers are the controller's UUID strings.

A pool appears once under every listener that uses it, because everything that lives at run time (health, counters,
connections) belongs to the pair: the identity of a member is (listener id, pool id, member id).

Construction raises `ConfigError` for values that no data plane could carry out (a weight of 300, two members with one id,
a default pool that is not among the pools). Texts are not looked into: addresses, paths and expressions are the dialect's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from amphorad.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "MAX_WEIGHT",
    "TLS_VERSIONS",
    "Algorithm",
    "AppCookie",
    "Bind",
    "ClientAuthentication",
    "HeaderInsertion",
    "HealthMonitor",
    "HealthMonitorType",
    "HttpCookie",
    "L7Action",
    "L7Compare",
    "L7Policy",
    "L7Rule",
    "L7RuleType",
    "Listener",
    "ListenerTls",
    "LoadBalancer",
    "LogTarget",
    "Member",
    "MemberTls",
    "Mode",
    "Peer",
    "Pool",
    "ProxyProtocol",
    "ReusePolicy",
    "SourceIp",
]


TLS_VERSIONS: Final = frozenset({"SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"})
MAX_WEIGHT: Final = 256


def _require(holds: bool, reason: str, word: object = None) -> None:
    if not holds:
        raise ConfigError(reason, word=None if word is None else str(word))


def _require_distinct(keys: Iterable[object], reason: str) -> None:
    seen: set[object] = set()
    for key in keys:
        _require(key not in seen, reason, key)
        seen.add(key)


class Mode(StrEnum):
    """What a listener or a pool speaks: opaque bytes, or HTTP exchanges."""

    TCP = "tcp"
    HTTP = "http"


class Algorithm(StrEnum):
    """Built-in balancing algorithms; a pool may also name a registered one (see `amphorad.algorithms`)."""

    ROUND_ROBIN = "round_robin"
    WEIGHTED_ROUND_ROBIN = "weighted_round_robin"
    LEAST_CONNECTIONS = "least_connections"
    SOURCE_IP_HASH = "source_ip_hash"
    MAGLEV = "maglev"


class ReusePolicy(StrEnum):
    """When an idle member connection may carry a request of another client.

    `SAFE` is HAProxy's `http-reuse safe`: never for the first request of a client connection.
    `RETRY` adds: also for a first request that is idempotent and has no body, because such a request is kept until the
    first response byte and sent again on a fresh connection when the reused one dies before that.
    """

    NEVER = "never"
    SAFE = "safe"
    RETRY = "retry"


class ProxyProtocol(StrEnum):
    """The PROXY header sent to members of PROXY and PROXYV2 pools."""

    V1 = "v1"
    V2 = "v2"
    V2_SSL_CN = "v2-ssl-cn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """One address and port that a listener accepts on (the VIP or an additional VIP)."""

    address: str
    port: int

    def __post_init__(self) -> None:
        _require(0 <= self.port <= 65535, "a bind's port must be at most 65535 (0 asks the system for one)", self.port)

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class ClientAuthentication(StrEnum):
    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTls:
    """TLS options of a `bind` line (contract 4.8). Paths are as the controller wrote them.

    `versions` may have holes. `alpn` None leaves the choice to the data plane; the order is the listener's preference.
    `ciphers` may also hold names of TLS 1.3 suites (the development branch writes all in one string).
    `client_authentication` NONE with a `ca_file` asks the client for nothing.
    """

    crt_list: str | None
    ca_file: str | None = None
    client_authentication: ClientAuthentication | None = None
    crl_file: str | None = None
    ciphers: str | None = None
    ciphersuites: str | None = None
    versions: frozenset[str] = TLS_VERSIONS
    alpn: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _require(bool(self.versions) and self.versions <= TLS_VERSIONS, "unknown TLS versions, or none")
        _require(self.crl_file is None or self.ca_file is not None, "a CRL needs a CA")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberTls:
    """TLS options of a `server` line (contract 4.10.4): re-encryption towards the members.

    `verify` is about the tenant's traffic, and about checks that speak as it does. An HTTPS monitor never verifies, and takes
    nothing away from the traffic by that (HAProxy does; Octavia contract section 4.10.4, server line).
    """

    certificate_file: str | None = None
    ca_file: str | None = None
    crl_file: str | None = None
    verify: bool = False
    send_client_sni: bool = False
    ciphers: str | None = None
    ciphersuites: str | None = None
    versions: frozenset[str] = TLS_VERSIONS
    alpn: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _require(bool(self.versions) and self.versions <= TLS_VERSIONS, "unknown TLS versions, or none")
        _require(self.crl_file is None or self.ca_file is not None, "a CRL needs a CA")
        _require(not self.verify or self.ca_file is not None, "verifying members needs a CA")


class HealthMonitorType(StrEnum):
    TCP = "TCP"
    HTTP = "HTTP"
    HTTPS = "HTTPS"
    TLS_HELLO = "TLS-HELLO"
    PING = "PING"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthMonitor:
    """An enabled monitor of a pool (contract 4.11). The text does not tell TLS-HELLO from TCP: on a pool with TLS a
    plain `check` line is TLS_HELLO, on a plain pool it is TCP.

    A check uses the TLS and the PROXY header of its pool, except for a member with a monitor address or port: there only
    HTTPS uses TLS (which for TLS_HELLO leaves a TCP check). A PING monitor goes to the member's own address always.
    `expected_codes` None accepts any 2xx or 3xx. `http_version` None is HTTP/1.0 without a Host header.
    """

    type: HealthMonitorType
    interval_s: float
    timeout_s: float
    rise: int
    fall: int
    http_method: str | None = None
    url_path: str | None = None
    http_version: str | None = None
    domain_name: str | None = None
    expected_codes: str | None = None  # the rendered regular expression, unanchored
    alpn: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _require(self.interval_s > 0, "a monitor's interval must be more than 0", self.interval_s)
        _require(self.timeout_s > 0, "a monitor's timeout must be more than 0", self.timeout_s)
        _require(self.rise >= 1, "a monitor's rise must be at least 1", self.rise)
        _require(self.fall >= 1, "a monitor's fall must be at least 1", self.fall)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One server of a pool. `admin_state_up` False is HAProxy's `disabled`: never used, not checked.

    Weight 0 takes no new clients but still serves those that persistence sends to it.
    """

    id: str
    address: str
    port: int
    weight: int = 1
    backup: bool = False
    admin_state_up: bool = True
    checked: bool = False
    monitor_address: str | None = None
    monitor_port: int | None = None
    cookie: str | None = None

    def __post_init__(self) -> None:
        _require(0 <= self.weight <= MAX_WEIGHT, f"a weight must be from 0 to {MAX_WEIGHT}", self.weight)
        _require(1 <= self.port <= 65535, "a member's port must be from 1 to 65535", self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceIp:
    """`stick on src`: persistence by client address (contract 4.10.2). `size` is in entries."""

    size: int = 10240
    replicated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AppCookie:
    """Persistence by a cookie of the application, learned from responses."""

    name: str
    size: int = 10240
    value_limit: int = 64
    replicated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCookie:
    """Persistence by a cookie that the load balancer inserts."""

    name: str = "SRV"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderInsertion:
    """`http-request set-header NAME VALUE`: `value` is the rendered expression, e.g. `%[dst_port]` or `https`."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One pool seen from one listener (a `backend <pool_id>:<listener_id>`)."""

    id: str
    mode: Mode
    algorithm: str = Algorithm.ROUND_ROBIN
    members: tuple[Member, ...] = ()
    reuse: ReusePolicy = ReusePolicy.NEVER
    persistence: SourceIp | AppCookie | HttpCookie | None = None
    health_monitor: HealthMonitor | None = None
    forwarded_for: bool = False
    header_insertions: tuple[HeaderInsertion, ...] = ()
    proxy_protocol: ProxyProtocol | None = None
    tls: MemberTls | None = None
    timeout_connect_s: float = 5.0
    timeout_member_s: float = 50.0

    def __post_init__(self) -> None:
        _require(self.timeout_connect_s > 0, "the connect timeout must be more than 0", self.timeout_connect_s)
        _require(self.timeout_member_s > 0, "the member timeout must be more than 0", self.timeout_member_s)
        _require_distinct((member.id for member in self.members), "two members of a pool have one id")


class L7Action(StrEnum):
    REJECT = "REJECT"
    REDIRECT_TO_URL = "REDIRECT_TO_URL"
    REDIRECT_PREFIX = "REDIRECT_PREFIX"
    REDIRECT_TO_POOL = "REDIRECT_TO_POOL"


class L7RuleType(StrEnum):
    HOST_NAME = "HOST_NAME"
    PATH = "PATH"
    FILE_TYPE = "FILE_TYPE"
    HEADER = "HEADER"
    COOKIE = "COOKIE"
    SSL_CONN_HAS_CERT = "SSL_CONN_HAS_CERT"
    SSL_VERIFY_RESULT = "SSL_VERIFY_RESULT"
    SSL_DN_FIELD = "SSL_DN_FIELD"


class L7Compare(StrEnum):
    EQUAL_TO = "EQUAL_TO"
    STARTS_WITH = "STARTS_WITH"
    ENDS_WITH = "ENDS_WITH"
    CONTAINS = "CONTAINS"
    REGEX = "REGEX"


@dataclass(frozen=True, slots=True, kw_only=True)
class L7Rule:
    """One condition (contract 4.9). `key` names the header, cookie or DN field; `value` of SSL_CONN_HAS_CERT is "True"."""

    id: str
    type: L7RuleType
    compare: L7Compare
    key: str | None = None
    value: str
    invert: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class L7Policy:
    """Enabled rules joined by AND. The text has no policy id; `redirect_code` None means 302.

    No rules at all means always. The policies of a listener stay in file order, which is their position; evaluation is
    by kind: all REJECT first, then both kinds of redirect (`Listener.redirect_plain_to_https` before them), then
    REDIRECT_TO_POOL, and inside a kind in file order.
    """

    action: L7Action
    rules: tuple[L7Rule, ...]
    redirect_pool: str | None = None
    redirect_url: str | None = None
    redirect_prefix: str | None = None
    redirect_code: int | None = None

    def __post_init__(self) -> None:
        target = {
            L7Action.REDIRECT_TO_POOL: self.redirect_pool,
            L7Action.REDIRECT_TO_URL: self.redirect_url,
            L7Action.REDIRECT_PREFIX: self.redirect_prefix,
        }
        _require(
            self.action not in target or target[self.action] is not None, "the policy's target is missing", self.action
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A `frontend`. `pools` holds every pool it can reach; `default_pool` is an id among them or None.

    `tls` None is plain text on the port. `hsts` is the value of the Strict-Transport-Security header, for responses of
    members only. `log_format` is HAProxy's format with its blanks as blanks; None: no traffic log. A PROMETHEUS listener
    has no pool: it is answered with the metrics.
    """

    id: str
    mode: Mode
    binds: tuple[Bind, ...]
    connection_limit: int = 50000
    timeout_client_s: float = 50.0
    default_pool: str | None = None
    pools: tuple[Pool, ...] = ()
    policies: tuple[L7Policy, ...] = ()
    tls: ListenerTls | None = None
    redirect_plain_to_https: bool = False
    hsts: str | None = None
    log_format: str | None = None
    is_prometheus: bool = False

    def __post_init__(self) -> None:
        _require(self.timeout_client_s > 0, "the client timeout must be more than 0", self.timeout_client_s)
        _require(self.connection_limit >= 1, "a connection limit must be at least 1", self.connection_limit)
        _require_distinct((pool.id for pool in self.pools), "two pools of a listener have one id")
        _require_distinct(self.binds, "two binds of a listener are the same")
        known = {pool.id for pool in self.pools}
        _require(self.default_pool is None or self.default_pool in known, "no such default pool", self.default_pool)
        for policy in self.policies:
            target = policy.redirect_pool
            _require(target is None or target in known, "an L7 policy names an unknown pool", target)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTarget:
    """A `log` line of `global`: a unix datagram socket path, a syslog facility and the least severity, if limited."""

    path: str
    facility: str
    minimum_severity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    name: str
    address: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancer:
    """Everything of one configuration file.

    `connection_limit` is over all listeners. `retries` counts further attempts after a failed connect; with `redispatch`
    the last one goes to another member. `threads` None leaves their number to the machine; `thread_cpus` holds the CPU
    of each thread, or nothing. `tls_cache_blocks` is HAProxy's unit, 200 to 250 bytes each.
    """

    id: str
    listeners: tuple[Listener, ...] = ()
    connection_limit: int = 1_000_000
    retries: int = 3
    redispatch: bool = True
    log_targets: tuple[LogTarget, ...] = ()
    stats_socket: str | None = None
    server_state_file: str | None = None
    threads: int | None = None
    thread_cpus: tuple[int, ...] = ()
    tls_cache_blocks: int | None = None
    peers: tuple[Peer, ...] = ()

    def __post_init__(self) -> None:
        _require(self.connection_limit >= 1, "a connection limit must be at least 1", self.connection_limit)
        _require(self.retries >= 0, "retries cannot be negative", self.retries)
        _require_distinct((listener.id for listener in self.listeners), "two listeners have one id")
        fixed = (bind for listener in self.listeners for bind in listener.binds if bind.port)
        _require_distinct(fixed, "two listeners bind the same address and port")
