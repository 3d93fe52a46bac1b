"""Frames of the demo: what it shows each second, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amphorad.status import amount, milliseconds, state_text, table
from amphorad.top import member_rates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amphorad.demo.traffic import Seen
    from amphorad.status import Counts, PoolStatus, Status
    from amphorad.top import MemberRate

__all__ = ["KEYS", "render_frame", "render_line"]

KEYS = """\
press 1, 2 or 3  kill that member, or start it again
      a          apply another configuration in place: the first member gets four times the weight, or its own again
      k          kill -9 the data plane (the supervisor starts another one on the same sockets)
      q, Ctrl-C  end"""

_COLUMNS = (
    "",
    "name",
    "address",
    "process",
    "state",
    "weight",
    "req/s",
    "share",
    "p50",
    "p99",
    "err/s",
    "retry/s",
    "last check",
)
_BAR = 20


def rates(before: Status | None, now: Status, elapsed_s: float) -> list[MemberRate]:
    """The members of the demo's one pool."""
    pool = _pool(now)
    known: dict[str, Counts] = {}
    if before is not None:
        known = {member.id: member.counts for member in _pool(before).members}
    return member_rates(pool, known, max(elapsed_s, 1e-3))


def render_frame(
    now: Status,
    members: Sequence[MemberRate],
    names: Sequence[tuple[str, bool]],
    seen: Seen,
    totals: tuple[int, int],
    url: str,
    admin_socket: str,
    events: Sequence[str],
) -> str:
    """The live view. `names` are the members' names and whether their processes run; `totals` requests and bad ones."""
    rows = []
    for number, (rate, (name, is_running)) in enumerate(zip(members, names, strict=True), 1):
        rows.append(
            [
                str(number),
                name,
                f"{rate.member.address}:{rate.member.port}",
                "runs" if is_running else "KILLED",
                state_text(rate.member),
                str(rate.member.weight),
                amount(rate.per_s),
                f"{'#' * round(rate.share * _BAR):<{_BAR}} {rate.share:4.0%}",
                milliseconds(rate.p50_s),
                milliseconds(rate.p99_s),
                amount(rate.errors_per_s),
                amount(rate.retries_per_s),
                _check_text(rate),
            ]
        )
    plane = now.data_plane
    statuses = "  ".join(f"{status}: {count}" for status, count in sorted(seen.by_status.items()))
    return "\n".join(
        [
            f"amphorad demo   {url}   try:  curl -i {url}",
            f"other views:    amphorad top --admin-socket {admin_socket}",
            "",
            f"clients see     {seen.requests_per_s:.0f} req/s   p50 {milliseconds(seen.p50_s)}   p99 {milliseconds(seen.p99_s)}"
            f"   {statuses}   failed: {seen.failed}",
            f"since start     {totals[0]} requests, {totals[1]} of them not answered well",
            f"data plane      pid {plane.pid or '-'}   threads {plane.threads}   restarts {plane.restarts}"
            f"   sessions {plane.sessions}   generation {now.generation}",
            "",
            *table(_COLUMNS, rows),
            "",
            KEYS,
            "",
            *(f"  {event}" for event in events),
        ]
    )


def render_line(second: float, members: Sequence[MemberRate], names: Sequence[tuple[str, bool]], seen: Seen) -> str:
    """One line of the plain form."""
    shares = " ".join(
        f"{name}={'DOWN' if rate.member.state == 'DOWN' else f'{rate.share:.0%}'}"
        for rate, (name, _running) in zip(members, names, strict=True)
    )
    return (
        f"t={second:.0f}s req/s={seen.requests_per_s:.0f} p50={milliseconds(seen.p50_s)} p99={milliseconds(seen.p99_s)}"
        f" bad={seen.bad} {shares}"
    )


def _check_text(rate: MemberRate) -> str:
    check = rate.member.check
    return check.summary if check is not None else "-"


def _pool(status: Status) -> PoolStatus:
    return status.listeners[0].pools[0]
