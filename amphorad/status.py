"""What an operator sees of a running load balancer: one tree of values, built from the configuration and the board.

`build` reads, `render` writes text; the admin socket carries the tree as JSON in between. Durations are seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from amphorad.board import (
    Board,
    LastCheck,
    ListenerStatistics,
    MemberStatistics,
    PoolStatistics,
    bucket_upper_bound_s,
)
from amphorad.plan import MemberKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from amphorad.messages import PeerNews
    from amphorad.model import Listener, LoadBalancer, Pool

__all__ = [
    "Counts",
    "DataPlaneStatus",
    "ListenerStatus",
    "MemberCheck",
    "MemberStatus",
    "PeerStatus",
    "PoolStatus",
    "StandingStatus",
    "Status",
    "TransitionStatus",
    "build_listeners",
    "quantile",
    "render",
    "state_text",
    "table",
]


class Counts(msgspec.Struct, frozen=True):
    """Counters and gauges of one object. `buckets` is the latency histogram (see `amphorad.board`)."""

    counters: dict[str, int] = {}
    current: int = 0
    max_current: int = 0
    p50_s: float | None = None
    p99_s: float | None = None
    buckets: tuple[int, ...] = ()

    @classmethod
    def of(cls, statistics: ListenerStatistics | PoolStatistics | MemberStatistics | None) -> Counts:
        """The counts of an object that has no place on the board yet are zero."""
        if statistics is None:
            return cls()
        return cls(
            statistics.counters,
            statistics.current,
            statistics.max_current,
            statistics.latency_quantile(0.5),
            statistics.latency_quantile(0.99),
            statistics.buckets,
        )

    def __getitem__(self, name: str) -> int:
        return self.counters.get(name, 0)


class MemberCheck(msgspec.Struct, frozen=True):
    """The last health check of a member; see `amphorad.board.LastCheck` for its fields."""

    state: str
    code: str
    text: str
    info: str
    status: int | None
    duration_s: float
    since: float
    checked_at: float
    checks: int
    failures: int
    transitions: int

    @classmethod
    def of(cls, check: LastCheck) -> MemberCheck:
        values = check._asdict()
        return cls(**(values | {"status": check.status if check.status >= 0 else None}))

    @property
    def summary(self) -> str:
        """As HAProxy's statistics page has it: `L7STS/500 in 3ms`, and what the member said."""
        status = "" if self.status is None else f"/{self.status}"
        info = f" ({self.info})" if self.info else ""
        return f"{self.code}{status} in {self.duration_s * 1000:.0f}ms{info}"


class TransitionStatus(msgspec.Struct, frozen=True):
    """A change of a member's health: wall time, the new state, and what the deciding check found."""

    at: float
    up: bool
    reason: str


class StandingStatus(msgspec.Struct, frozen=True):
    """Why a member gets less than its due; see `amphorad.board.Standing` for its fields."""

    ejected_until: float
    percent: int


class MemberStatus(msgspec.Struct, frozen=True):
    id: str
    address: str
    port: int
    weight: int
    backup: bool
    state: str
    idle: int
    counts: Counts
    check: MemberCheck | None = None
    history: tuple[TransitionStatus, ...] = ()
    standing: StandingStatus | None = None

    @property
    def is_ejected(self) -> bool:
        return self.standing is not None and self.standing.ejected_until > 0

    @property
    def percent(self) -> int:
        """Of its weight that it gets."""
        return self.standing.percent if self.standing is not None else 100


class PoolStatus(msgspec.Struct, frozen=True):
    id: str
    algorithm: str
    members: tuple[MemberStatus, ...]
    counts: Counts


class ListenerStatus(msgspec.Struct, frozen=True):
    id: str
    mode: str
    binds: tuple[str, ...]
    limit: int
    pools: tuple[PoolStatus, ...]
    counts: Counts
    default_pool: str | None = None


class DataPlaneStatus(msgspec.Struct, frozen=True):
    """`pid` is 0 while there is none; `restarts` counts the processes that died; `spare` is the
    process that waits to replace it, 0 while there is none.
    """

    pid: int
    uptime_s: float
    restarts: int
    threads: int
    sessions: int
    draining: int
    spare: int = 0


class PeerStatus(msgspec.Struct, frozen=True):
    """A peer that stick tables are shared with, as the data plane told at last.

    Args:
        state: LOCAL or "NOT LISTENING" of this machine's own; CONNECTED or DOWN of another.
        since: wall time of the latest change, 0 when there was none yet.
        connects: how often it has become connected.
        learned: entries taken from it.
        told: entries sent to it.
    """

    name: str
    address: str
    port: int
    state: str
    since: float
    connects: int
    learned: int
    told: int

    @classmethod
    def of(cls, news: PeerNews) -> PeerStatus:
        if news.is_local:
            state = "LOCAL" if news.is_connected else "NOT LISTENING"
        else:
            state = "CONNECTED" if news.is_connected else "DOWN"
        return cls(news.name, news.address, news.port, state, news.since, news.connects, news.learned, news.told)


class Status(msgspec.Struct, frozen=True, tag="load_balancer", tag_field="kind"):
    """One load balancer with its data plane."""

    version: str
    load_balancer: str
    file: str
    generation: int
    uptime_s: float
    escaping: str
    http_reuse: str
    data_plane: DataPlaneStatus
    alarms: tuple[str, ...]
    listeners: tuple[ListenerStatus, ...]
    peers: tuple[PeerStatus, ...] = ()


def build_listeners(
    load_balancer: LoadBalancer,
    board: Board,
    transitions: Mapping[MemberKey, Iterable[TransitionStatus]] | None = None,
) -> tuple[ListenerStatus, ...]:
    """The objects of the configuration in its order, with what the board knows of each.

    Args:
        transitions: changes of health, by member.
    """
    transitions = transitions or {}
    listeners = {item.listener_id: item for item in board.listeners()}
    pools = {(item.listener_id, item.pool_id): item for item in board.pools()}
    members = {(item.listener_id, item.pool_id, item.member_id): item for item in board.members()}
    return tuple(
        ListenerStatus(
            id=listener.id,
            mode=str(listener.mode),
            binds=tuple(_endpoint(bind.address, bind.port) for bind in listener.binds),
            limit=listener.connection_limit,
            pools=tuple(
                _pool(listener, pool, pools.get((listener.id, pool.id)), members, transitions)
                for pool in listener.pools
            ),
            counts=Counts.of(listeners.get(listener.id)),
            default_pool=listener.default_pool,
        )
        for listener in load_balancer.listeners
    )


def _pool(
    listener: Listener,
    pool: Pool,
    statistics: PoolStatistics | None,
    members: dict[tuple[str, str, str], MemberStatistics],
    transitions: Mapping[MemberKey, Iterable[TransitionStatus]],
) -> PoolStatus:
    found = [(member, members.get((listener.id, pool.id, member.id))) for member in pool.members]
    return PoolStatus(
        id=pool.id,
        algorithm=str(pool.algorithm),
        members=tuple(
            MemberStatus(
                id=member.id,
                address=member.address,
                port=member.port,
                weight=member.weight,
                backup=member.backup,
                state=on_board.state if on_board else "UNKNOWN",
                idle=on_board.idle if on_board else 0,
                counts=Counts.of(on_board),
                check=MemberCheck.of(on_board.check) if on_board and on_board.check else None,
                history=tuple(transitions.get(MemberKey(listener.id, pool.id, member.id), ())),
                standing=StandingStatus(*on_board.standing) if on_board and on_board.standing else None,
            )
            for member, on_board in found
        ),
        counts=Counts.of(statistics),
    )


def quantile(buckets: Sequence[int], wanted: float) -> float | None:
    """The duration in seconds that a share `wanted` (0..1) of a histogram stays below; None when it is empty.

    The same rule as `Statistics.latency_quantile`, for the difference of two histograms.
    """
    total = sum(buckets)
    seen = 0
    for bucket, count in enumerate(buckets):
        seen += count
        if count and seen >= wanted * total:
            return bucket_upper_bound_s(bucket)
    return None


def render(status: Status) -> str:
    """The text of `amphorad status`."""
    plane = status.data_plane
    lines = [
        f"load balancer {status.load_balancer}  generation {status.generation}  up {duration(status.uptime_s)}",
        f"file {status.file}  escaping {status.escaping}  http-reuse {status.http_reuse}  amphorad {status.version}",
        f"data plane pid {plane.pid or '-'}  up {duration(plane.uptime_s)}  threads {plane.threads}"
        f"  restarts {plane.restarts}  sessions {plane.sessions}  draining {plane.draining}",
    ]
    lines += [f"alarm: {text}" for text in status.alarms[-5:]]
    if status.peers:
        lines += ["", *table(PEER_COLUMNS, (_peer_row(peer) for peer in status.peers))]
    for listener in status.listeners:
        lines += ["", *_render_listener(listener)]
    return "\n".join(lines)


def _render_listener(listener: ListenerStatus) -> list[str]:
    counts = listener.counts
    what = f"connections {counts['connections']}"
    if listener.mode == "http":
        what += f"  requests {counts['requests']}  errors {counts['request_errors']}  denied {counts['denied']}"
    lines = [
        f"listener {listener.id}  {listener.mode}  {' '.join(listener.binds) or '(no address)'}",
        f"  current {counts.current}/{listener.limit}  {what}"
        f"  in {amount(counts['bytes_in'])}B  out {amount(counts['bytes_out'])}B"
        f"  p50 {milliseconds(counts.p50_s)}  p99 {milliseconds(counts.p99_s)}",
    ]
    for pool in listener.pools:
        lines.append(f"  pool {pool.id}  {pool.algorithm}")
        rows = table(MEMBER_COLUMNS, (_member_row(member) for member in pool.members))
        if any(member.check for member in pool.members):
            checks = ["last check", *(member.check.summary if member.check else "-" for member in pool.members)]
            rows = [f"{row}  {check}" for row, check in zip(rows, checks, strict=True)]
        lines += ["    " + row for row in rows]
    return lines


MEMBER_COLUMNS = (
    "member", "address", "state", "weight", "current", "idle", "total", "errors", "retries", "in", "out", "p50", "p99",
)  # fmt: skip


PEER_COLUMNS = ("peer", "address", "state", "connects", "learned", "told")


def _peer_row(peer: PeerStatus) -> list[str]:
    counts = (peer.connects, peer.learned, peer.told)
    return [peer.name, _endpoint(peer.address, peer.port), peer.state, *(amount(count) for count in counts)]


def _member_row(member: MemberStatus) -> list[str]:
    counts = member.counts
    return [
        member.id,
        _endpoint(member.address, member.port),
        state_text(member) + (" ejected" if member.is_ejected else "") + (" backup" if member.backup else ""),
        str(member.weight),
        str(counts.current),
        str(member.idle),
        str(counts["requests"] or counts["connections"]),
        str(member_errors(counts)),
        str(counts["retries"] + counts["redispatches"]),
        amount(counts["bytes_in"]),
        amount(counts["bytes_out"]),
        milliseconds(counts.p50_s),
        milliseconds(counts.p99_s),
    ]


def state_text(member: MemberStatus) -> str:
    """With the streak of a checked member, such as `UP 1/3`, while what the balancing sees agrees."""
    check = member.check
    return check.state if check is not None and check.state.partition(" ")[0] == member.state else member.state


def member_errors(counts: Counts) -> int:
    """Everything that a member did wrong."""
    return counts["connect_errors"] + counts["response_errors"] + counts["member_aborts"]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a plain table; the first three columns stand left, numbers right."""
    rows = [list(columns), *map(list, rows)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(columns))]
    return [
        "  ".join(
            text.ljust(width) if at < 3 else text.rjust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def amount(value: float) -> str:
    """A count in at most five characters: 999, 12.3k, 4.5M."""
    for unit in ("", "k", "M", "G", "T"):
        if value < 1000:
            return f"{value:.0f}{unit}" if not unit or value >= 100 else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.0f}P"


def milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    value = seconds * 1000
    return f"{value:.2f}ms" if value < 10 else f"{value:.0f}ms"


def duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
