"""The frozen configuration: what a controller asked for, in Octavia's words.

A dialect builds one `LoadBalancer` from text; `plan` compares two of them; the data plane turns one into engine tables.
Nothing here changes after construction and nothing here knows text, sockets or time. Durations are float seconds,
sizes are bytes, identifiers are the controller's UUID strings.

A pool appears once under every listener that uses it, because everything that lives at run time (health, counters,
connections) belongs to the pair: the identity of a member is (listener id, pool id, member id).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
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


class ClientAuthentication(StrEnum):
    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTls:
    """TLS options of a `bind` line (contract 4.8). Paths are as the controller wrote them."""

    crt_list: str | None
    ca_file: str | None = None
    client_authentication: ClientAuthentication | None = None
    crl_file: str | None = None
    ciphers: str | None = None
    ciphersuites: str | None = None
    versions: frozenset[str] = frozenset({"SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"})
    alpn: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberTls:
    """TLS options of a `server` line (contract 4.10.4): re-encryption towards the members."""

    certificate_file: str | None = None
    ca_file: str | None = None
    crl_file: str | None = None
    verify: bool = False
    send_client_sni: bool = False
    ciphers: str | None = None
    ciphersuites: str | None = None
    versions: frozenset[str] = frozenset({"SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"})
    alpn: tuple[str, ...] | None = None


class HealthMonitorType(StrEnum):
    TCP = "TCP"
    HTTP = "HTTP"
    HTTPS = "HTTPS"
    TLS_HELLO = "TLS-HELLO"
    PING = "PING"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthMonitor:
    """An enabled monitor of a pool (contract 4.11). The text does not tell TLS-HELLO from TCP: on a pool with TLS a
    plain `check` line is TLS_HELLO, on a plain pool it is TCP."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One server of a pool. `admin_state_up` False is HAProxy's `disabled`: never used, not checked."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceIp:
    """`stick on src`: persistence by client address (contract 4.10.2)."""

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
    id: str
    type: L7RuleType
    compare: L7Compare
    key: str | None = None
    value: str
    invert: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class L7Policy:
    """Enabled rules joined by AND. The text has no policy id; `redirect_code` None means 302."""

    action: L7Action
    rules: tuple[L7Rule, ...]
    redirect_pool: str | None = None
    redirect_url: str | None = None
    redirect_prefix: str | None = None
    redirect_code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A `frontend`. `pools` holds every pool it can reach; `default_pool` is an id among them or None."""

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
    """Everything of one configuration file."""

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
