"""`amphorad top`: rates and latencies of the last moments, per listener, pool and member, from two readings of the status.

No curses: a frame is text, and a terminal is told to draw it over the last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amphorad.status import amount, duration, member_errors, milliseconds, quantile, state_text, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amphorad.status import Counts, ListenerStatus, MemberStatus, PoolStatus, Status

__all__ = ["CLEAR", "MemberRate", "draw_over", "member_rates", "render_top"]

CLEAR = "\x1b[H\x1b[J"
_HOME = "\x1b[H"
_END_OF_LINE = "\x1b[K"
_END_OF_SCREEN = "\x1b[J"

_COLUMNS = (
    "member",
    "address",
    "state",
    "weight",
    "rate/s",
    "share",
    "current",
    "idle",
    "p50",
    "p99",
    "err/s",
    "retry/s",
)


def draw_over(text: str) -> str:
    """A frame that replaces the one on the screen without flicker."""
    return _HOME + text.replace("\n", _END_OF_LINE + "\n") + _END_OF_LINE + "\n" + _END_OF_SCREEN


class MemberRate:
    """What one member did between two readings.

    Attributes:
        per_s: requests per second, or connections on a TCP pool.
        share: of all that its pool did, 0..1.
    """

    def __init__(self, member: MemberStatus, before: Counts | None, elapsed_s: float) -> None:
        self.member = member
        self.done = _work(member.counts, before)
        self.per_s = self.done / elapsed_s
        self.share = 0.0
        counts = member.counts
        self.errors_per_s = (member_errors(counts) - (member_errors(before) if before else 0)) / elapsed_s
        self.retries_per_s = sum(_delta(counts, before, name) for name in ("retries", "redispatches")) / elapsed_s
        self.p50_s, self.p99_s = _quantiles(counts, before)


def member_rates(pool: PoolStatus, before: dict[str, Counts], elapsed_s: float) -> list[MemberRate]:
    rates = [MemberRate(member, before.get(member.id), elapsed_s) for member in pool.members]
    total = sum(rate.done for rate in rates)
    for rate in rates:
        rate.share = rate.done / total if total else 0.0
    return rates


def render_top(previous: Status | None, current: Status, elapsed_s: float) -> str:
    """One frame. Without a previous reading, rates are averages since the start."""
    before = dict(_index(previous)) if previous is not None and previous.data_plane.pid else {}
    elapsed_s = max(elapsed_s, 1e-3)
    plane = current.data_plane
    lines = [
        f"amphorad top  {current.load_balancer}  generation {current.generation}  up {duration(current.uptime_s)}",
        f"data plane pid {plane.pid or '-'}  threads {plane.threads}  restarts {plane.restarts}"
        f"  sessions {plane.sessions}  draining {plane.draining}",
        *(f"alarm: {text}" for text in current.alarms[-3:]),
    ]
    for listener in current.listeners:
        lines += ["", *_listener_lines(listener, before, elapsed_s)]
    return "\n".join(lines)


def _listener_lines(listener: ListenerStatus, before: dict[tuple[str, ...], Counts], elapsed_s: float) -> list[str]:
    counts, was = listener.counts, before.get((listener.id,))
    p50, p99 = _quantiles(counts, was)
    lines = [
        f"listener {listener.id}  {listener.mode}  {' '.join(listener.binds)}",
        f"  {amount(_delta(counts, was, 'connections') / elapsed_s)} conn/s"
        f"  {amount(_delta(counts, was, 'requests') / elapsed_s)} req/s"
        f"  in {amount(_delta(counts, was, 'bytes_in') / elapsed_s)}B/s"
        f"  out {amount(_delta(counts, was, 'bytes_out') / elapsed_s)}B/s"
        f"  current {counts.current}/{listener.limit}  p50 {milliseconds(p50)}  p99 {milliseconds(p99)}"
        f"  5xx {amount(_delta(counts, was, 'responses_5xx') / elapsed_s)}/s",
    ]
    for pool in listener.pools:
        known = {
            m.id: before[listener.id, pool.id, m.id] for m in pool.members if (listener.id, pool.id, m.id) in before
        }
        rows = [_row(rate) for rate in member_rates(pool, known, elapsed_s)]
        lines.append(f"  pool {pool.id}  {pool.algorithm}")
        lines += ["    " + line for line in table(_COLUMNS, rows)]
    return lines


def _row(rate: MemberRate) -> list[str]:
    member = rate.member
    return [
        member.id,
        f"{member.address}:{member.port}",
        state_text(member) + (" backup" if member.backup else ""),
        str(member.weight),
        amount(rate.per_s),
        f"{rate.share:.0%}",
        str(member.counts.current),
        str(member.idle),
        milliseconds(rate.p50_s),
        milliseconds(rate.p99_s),
        amount(rate.errors_per_s),
        amount(rate.retries_per_s),
    ]


def _index(status: Status) -> Iterator[tuple[tuple[str, ...], Counts]]:
    for listener in status.listeners:
        yield (listener.id,), listener.counts
        for pool in listener.pools:
            for member in pool.members:
                yield (listener.id, pool.id, member.id), member.counts


def _delta(counts: Counts, before: Counts | None, name: str) -> int:
    return max(0, counts[name] - (before[name] if before else 0))


def _work(counts: Counts, before: Counts | None) -> int:
    """Requests, or connections where there are no requests (a TCP pool)."""
    return _delta(counts, before, "requests") or _delta(counts, before, "connections")


def _quantiles(counts: Counts, before: Counts | None) -> tuple[float | None, float | None]:
    buckets = counts.buckets
    if before is not None and before.buckets:
        buckets = tuple(max(0, now - then) for now, then in zip(buckets, before.buckets, strict=False))
    return quantile(buckets, 0.5), quantile(buckets, 0.99)
