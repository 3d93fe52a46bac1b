"""One traffic-log line as one syslog datagram (HAProxy configuration manual 8.2.6)."""

from collections.abc import Iterable
from typing import TypedDict, Unpack

__all__ = ["VARIABLES", "LogProgram"]

VARIABLES: frozenset[str]

class Record(TypedDict, total=False):
    """Fields of a `LogRecord`; an address is (packed bytes, port). Durations in milliseconds, -1 for not reached."""

    termination: bytes
    listener: bytes | None
    pool: bytes | None
    member: bytes | None
    request_line: bytes | None
    unique_id: bytes | None
    tls_dn: bytes | None
    tls_common_name: bytes | None
    tls_issuer: bytes | None
    tls_sha1: bytes | None
    tls_not_before: bytes | None
    tls_not_after: bytes | None
    tls_version: bytes | None
    tls_cipher: bytes | None
    tls_sni: bytes | None
    tls_alpn: bytes | None
    client: tuple[bytes, int] | None
    bind: tuple[bytes, int] | None
    source: tuple[bytes, int] | None
    target: tuple[bytes, int] | None
    accept_wall_us: int
    total_ms: int
    handshake_ms: int
    idle_ms: int
    request_ms: int
    queue_ms: int
    connect_ms: int
    response_ms: int
    status: int
    bytes_out: int
    bytes_in: int
    tls: int
    tls_verify: int
    tls_used: int
    tls_named: int
    tls_resumed: int
    process_connections: int
    listener_connections: int
    pool_connections: int
    member_connections: int
    retries: int
    redispatched: int
    member_queue: int
    pool_queue: int
    line_number: int
    request_number: int

class LogProgram:
    def __init__(
        self,
        segments: Iterable[tuple[bytes, str | None, int]],
        *,
        facility: int,
        tag: bytes,
        pid: int,
        host: bytes,
        room: int = 1025,
    ) -> None: ...
    def line(self, *, now_s: int = 0, room: int = 1025, **values: Unpack[Record]) -> bytes: ...
    def repeat(self, times: int, *, now_s: int = 0, **values: Unpack[Record]) -> int: ...
