"""What a heartbeat says of every object, in the words that the health manager knows (Octavia contract section 3.4).

Deliberate choices:

- A listener at its connection limit is `FULL`, which the controller shows as DEGRADED. HAProxy never says it.
- A load balancer whose data plane is dead and could not be replaced yet has its listeners `DOWN` and its pools `DOWN`. Its listeners are
  still there, because a missing one makes the controller replace the amphora after a minute; a listener word that the
  controller does not know leaves the listener as it is, and a pool that is `DOWN` makes the load balancer's status ERROR.
- A PROMETHEUS listener is a listener as any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from amphorad.agent.sources import HeartbeatSource, LvsSource
    from amphorad.board import Board, LastCheck, ListenerStatistics, MemberStatistics
    from amphorad.model import Listener, Member, Pool

__all__ = ["Totals", "build", "totals"]

VERSION = 3


class Totals(NamedTuple):
    """Of one listener since it exists; bytes are those of the clients' side. `conns` is a gauge."""

    tx: int = 0
    rx: int = 0
    conns: int = 0
    totconns: int = 0
    ereq: int = 0


def totals(sources: Iterable[HeartbeatSource]) -> dict[str, Totals]:
    """The absolute counters of every TCP-family listener, by its id; zeros for one that has none on the board (yet)."""
    found: dict[str, Totals] = {}
    for source in sources:
        on_board = _listeners(source.board)
        for listener in source.load_balancer.listeners:
            found[listener.id] = _totals(on_board.get(listener.id))
    return found


def build(
    amphora_id: str,
    sequence: int,
    sources: Sequence[HeartbeatSource],
    lvs_sources: Sequence[LvsSource],
    statistics: Mapping[str, Totals],
) -> dict[str, object]:
    """One message, ready for JSON.

    Args:
        sequence: 0, 1, 2, ... since the agent started.
        statistics: what each TCP-family listener did since the last message, by its id (`conns` as it is now).
    """
    listeners: dict[str, object] = {}
    pools: dict[str, object] = {}
    for source in sources:
        on_board = _listeners(source.board)
        members = _members(source.board)
        for listener in source.load_balancer.listeners:
            status = _listener_status(listener, on_board.get(listener.id), source.is_alive)
            listeners[listener.id] = _listener(status, statistics.get(listener.id, Totals()))
            for pool in listener.pools:
                known = {member.id: members.get((listener.id, pool.id, member.id)) for member in pool.members}
                pools[f"{pool.id}:{listener.id}"] = {
                    "status": _pool_status(pool, known, source.is_alive),
                    "members": {member.id: _member_status(member, known[member.id]) for member in pool.members},
                }
    for lvs in lvs_sources:
        listeners[lvs.listener_id] = _listener(lvs.status, Totals())
    return {"id": amphora_id, "seq": sequence, "listeners": listeners, "pools": pools, "ver": VERSION}


def _listener(status: str, done: Totals) -> dict[str, object]:
    return {"status": status, "stats": done._asdict()}


def _listeners(board: Board | None) -> dict[str, ListenerStatistics]:
    return {item.listener_id: item for item in board.listeners()} if board is not None else {}


def _members(board: Board | None) -> dict[tuple[str, str, str], MemberStatistics]:
    if board is None:
        return {}
    return {(item.listener_id, item.pool_id, item.member_id): item for item in board.members()}


def _totals(statistics: ListenerStatistics | None) -> Totals:
    if statistics is None:
        return Totals()
    counters = statistics.counters
    return Totals(
        tx=counters["bytes_out"],
        rx=counters["bytes_in"],
        conns=max(0, statistics.current),
        totconns=counters["connections"],
        ereq=counters["request_errors"],
    )


def _listener_status(listener: Listener, statistics: ListenerStatistics | None, is_alive: bool) -> str:
    if not is_alive:
        return "DOWN"
    is_full = statistics is not None and 0 < listener.connection_limit <= statistics.current
    return "FULL" if is_full else "OPEN"


def _check(statistics: MemberStatistics | None) -> LastCheck | None:
    return statistics.check if statistics is not None else None


def _is_down(member: Member, statistics: MemberStatistics | None) -> bool:
    if not member.checked or statistics is None:
        return False
    check = statistics.check
    return statistics.state == "DOWN" if check is None else not check.is_up


def _member_status(member: Member, statistics: MemberStatistics | None) -> str:
    """As HAProxy's statistics name it, with the stock agent's DRAIN for a member that is up with weight 0."""
    if not member.admin_state_up:
        return "MAINT"
    if not member.checked:
        return "no check"
    check = _check(statistics)
    if check is None:  # never checked yet: it counts as up
        return "DOWN" if _is_down(member, statistics) else "UP"
    return "DRAIN" if member.weight == 0 and check.state == "UP" else check.state


def _pool_status(pool: Pool, known: Mapping[str, MemberStatistics | None], is_alive: bool) -> str:
    """UP while it has a member that takes new clients, a backup one included, or no member at all."""
    if not is_alive:
        return "DOWN"
    if not pool.members:
        return "UP"
    usable = any(
        member.admin_state_up and member.weight > 0 and not _is_down(member, known[member.id])
        for member in pool.members
    )
    return "UP" if usable else "DOWN"
