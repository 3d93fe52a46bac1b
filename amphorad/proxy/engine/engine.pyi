"""What `engine.pyx` shows to Python; see there for who may call what."""

from typing_extensions import Buffer

from amphorad.proxy.engine.stick_table import Table
from amphorad.proxy.tls.context import ServerContext
from amphorad.proxy.tls.member_context import MemberContext
from amphorad.proxy.wire.log_line import LogProgram
from amphorad.proxy.wire.matcher import PolicyProgram

SOURCE: int
APP_COOKIE: int
HTTP_COOKIE: int
COOKIE_LIMIT_BYTES: int

class Runtime:
    """What every kind of object has: a slot on the board and a line per thread."""

    @property
    def slot_number(self) -> int: ...
    @property
    def references(self) -> int:
        """Sessions and connections that still need this object."""

class MemberRuntime(Runtime):
    """A member for as long as its identity, address and port live.

    Args:
        address: IPv4, or IPv6 without brackets.
    """

    def __init__(self, engine: Engine, slot_number: int, member_id: str, address: str, port: int) -> None: ...
    def show(self, state: int, weight: int, usable: bool, sticks: bool) -> None:
        """Puts state and weight on the board, and lets retries know whether the member is worth another try."""

    def remove(self) -> None: ...
    def count_idle(self) -> None:
        """Puts the number of idle connections on the board."""

    def failures(self) -> tuple[int, int]:
        """Connections, and answers, that have failed in a row."""

    def evict(self) -> None:
        """The next sweep ends the sessions and exchanges that began before now."""

    def forgive(self) -> None:
        """The rows of failures begin again."""

    @property
    def in_flight(self) -> int: ...

class View:
    """An immutable pool.

    Args:
        usable: places in `members` that the algorithm chooses from.
        weights: of the usable ones.
        reuse: 0 never, 1 safe, 2 retry.
        proxy_protocol: version of the PROXY header to members, 0 for none.
        insertions: header names and values; None stands for the port that the client connected to,
            a number for a fact about its certificate, see `proxy/tls/facts`; a text for `client_address`, `host` or `traceparent`.
    """

    @property
    def members(self) -> list[MemberRuntime]: ...
    def __init__(
        self,
        name: str,
        members: list[MemberRuntime],
        usable: list[int],
        weights: list[int],
        pool: PoolRuntime,
        *,
        algorithm: str,
        is_http: bool,
        reuse: int,
        proxy_protocol: int,
        forwarded_for: bool,
        insertions: list[tuple[bytes, bytes | int | str | None]],
        retries: int,
        redispatch: bool,
        timeout_connect_ms: int,
        timeout_member_ms: int,
        tls: MemberContext | None = None,
        tls_sends_sni: bool = False,
    ) -> None: ...
    @property
    def table(self) -> Table | None: ...
    def add_persistence(
        self,
        kind: int,
        cookie_name: bytes,
        table: Table | None,
        cookies: list[bytes],
        sticks: list[bool],
        attributes: bytes = b"",
    ) -> None:
        """Before it is published: how clients stick to members.

        Args:
            kind: SOURCE, APP_COOKIE or HTTP_COOKIE.
            cookie_name: of either cookie; empty for SOURCE.
            table: for SOURCE and APP_COOKIE.
            cookies: by member, the value of our own cookie, or empty.
            sticks: by member, whether it may be used for the clients that are its own.
            attributes: that our own cookie gets beside its path.
        """

class PoolRuntime(Runtime):
    """A pool for as long as its identity lives."""

    def __init__(self, engine: Engine, slot_number: int) -> None: ...
    @property
    def view(self) -> View | None: ...
    def publish(self, view: View | None) -> None:
        """From now on the pool is this; None: it is gone. The replaced view must be retired."""

class Config:
    """An immutable listener.

    Args:
        limit: client connections at a time.
        minimum_body_rate: bytes per second; 0 for no minimum.
        policies: L7 policies in the order of evaluation; None for none.
        policy_pools: what their pool indices count in.
        tls: None for a plain listener.
        timeout_tunnel_ms: of both directions of a tunnel or TCP session; 0 for those of client and member.
        rate: requests, or TCP connections, per second; 0 for no limit.
        source_rate: the same of one client address.
        burst: how many may come at once; 0 for one second's worth.
        hsts: complete header line for responses of members.
    """

    def __init__(
        self,
        name: str,
        *,
        is_http: bool,
        limit: int,
        timeout_client_ms: int,
        default_pool: PoolRuntime | None,
        log_program: LogProgram | None,
        minimum_body_rate: int,
        policies: PolicyProgram | None = None,
        policy_pools: list[PoolRuntime] | None = None,
        tls: ServerContext | None = None,
        timeout_tunnel_ms: int = 0,
        rate: float = 0,
        source_rate: float = 0,
        burst: int = 0,
        hsts: bytes | None = None,
    ) -> None: ...

class ListenerRuntime(Runtime):
    """A listener for as long as its identity lives."""

    def __init__(self, engine: Engine, slot_number: int) -> None: ...
    @property
    def config(self) -> Config | None: ...
    def publish(self, config: Config) -> None:
        """From now on the listener is this. The replaced one must be retired."""

    def open_bind(self, fd: int, address: str, port: int) -> None:
        """Accepts on a listening socket, which now belongs to the engine.

        Raises:
            OSError: the kernel refuses to watch it.
            ValueError: more than 32 binds.
        """

    def close_bind(self, port: int, address: str) -> int:
        """Stops accepting there. Returns the descriptor, to be closed after retirement, or -1."""

    def remove(self) -> None: ...
    def evict(self) -> None:
        """The next sweep ends every session."""

    @property
    def sessions(self) -> int: ...

class Engine:
    """N engine threads over one board.

    Args:
        memory: the board's mapping (writable buffer); it must stay open until `stop` has returned.
        thread_count: 1 to 64; the board must have rows for as many.
        slots: slots of the board.
        idle_lifetime_s: how long an unused member connection is kept.
        linger_s: how long a client may take to close after its last answer.
        splice_after: long reads in a row after which a TCP direction is spliced; 255 never.
    """

    def __init__(
        self,
        memory: Buffer,
        thread_count: int,
        slots: int,
        *,
        idle_lifetime_s: float = 10.0,
        linger_s: float = 2.0,
        splice_after: int = 4,
        rated_sources: int = 0,
    ) -> None: ...
    def start(self) -> None: ...
    def set_session_limit(self, limit: int) -> None: ...
    def set_log_socket(self, fd: int) -> None:
        """Where traffic-log lines go; the descriptor stays the caller's. -1: nowhere."""

    def set_listeners(self, runtimes: list[ListenerRuntime]) -> None:
        """All listeners, for the threads that look for paused ones."""

    def sweep(self, members: list[MemberRuntime]) -> None:
        """Idle clients of removed listeners and idle connections to these removed members are closed soon."""

    def sweep_sessions(self) -> None:
        """Sessions that an eviction ends are looked for soon."""

    def retire(self, item: object) -> None:
        """Keeps a replaced object until no thread can be using it."""

    def retired_items(self) -> list[object]: ...
    def wake(self) -> None: ...
    def release_retired(self) -> list[object]:
        """Objects that every thread is done with since they were retired; the caller drops or closes them."""

    @property
    def sessions(self) -> int: ...
    @property
    def member_failures(self) -> int:
        """Failed connections and answers of all members so far."""

    @property
    def accept_failures(self) -> int: ...
    @property
    def log_drops(self) -> int: ...
    def begin_stop(self, close_idle: bool = True) -> None:
        """No connection is kept alive from now on; idle ones are closed."""

    def stop(self, members: list[MemberRuntime]) -> None:
        """Ends the threads and every session and connection that is left. `members`: all that ever had connections."""
