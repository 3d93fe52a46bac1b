"""Why a member, a pool or a listener gets traffic or not: the answer of `amphorad why`, in plain words.

Made from `amphorad.status` alone, so that it tells what the engine threads see now. A member that several listeners or pools
have is told about once for each.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from amphorad.status import MemberStatus, PoolStatus, duration, member_errors, milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from amphorad.status import ListenerStatus, MemberCheck, Status, TransitionStatus

__all__ = ["UnknownObject", "why_listener", "why_member", "why_pool"]

HISTORY_SHOWN = 5
NAMES_SHOWN = 4
USABLE = ("UP", "NO CHECK")
BY_LOAD = "least_connections"
BY_ADDRESS = ("source_ip_hash", "maglev")


class UnknownObject(LookupError):
    """No running load balancer has an object of that id. The text names some that there are."""


def why_member(load_balancers: Sequence[Status], member_id: str, now: float | None = None) -> str:
    """What a member gets and why.

    Args:
        now: wall time; that of the call when None.

    Raises:
        UnknownObject.
    """
    now = time.time() if now is None else now
    texts = [
        _member(status, listener, pool, member, now)
        for status, listener in _listeners(load_balancers)
        for pool in listener.pools
        for member in pool.members
        if member.id == member_id
    ]
    known = (
        member.id for _, listener in _listeners(load_balancers) for pool in listener.pools for member in pool.members
    )
    return _found("member", member_id, texts, known)


def why_pool(load_balancers: Sequence[Status], pool_id: str, now: float | None = None) -> str:
    """Which of its members a pool uses and why. Arguments and errors as for `why_member`."""
    now = time.time() if now is None else now
    texts = [
        "\n".join([f"pool {pool.id} of listener {listener.id}", *_indented(_pool(status, listener, pool, now))])
        for status, listener in _listeners(load_balancers)
        for pool in listener.pools
        if pool.id == pool_id
    ]
    known = (pool.id for _, listener in _listeners(load_balancers) for pool in listener.pools)
    return _found("pool", pool_id, texts, known)


def why_listener(load_balancers: Sequence[Status], listener_id: str, now: float | None = None) -> str:
    """What a client of a listener gets and why. Arguments and errors as for `why_member`."""
    now = time.time() if now is None else now
    texts = [
        _listener(status, listener, now)
        for status, listener in _listeners(load_balancers)
        if listener.id == listener_id
    ]
    return _found("listener", listener_id, texts, (listener.id for _, listener in _listeners(load_balancers)))


def _listeners(load_balancers: Sequence[Status]) -> Iterator[tuple[Status, ListenerStatus]]:
    for status in load_balancers:
        for listener in status.listeners:
            yield status, listener


def _found(kind: str, wanted: str, texts: list[str], known: Iterator[str]) -> str:
    if texts:
        return "\n\n".join(texts)
    names = sorted(set(known))
    there_are = ", ".join(names[:NAMES_SHOWN]) or "none"
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    raise UnknownObject(f"no {kind} {wanted!r}; there are: {there_are}{more}")


# --- a member ---


def _member(status: Status, listener: ListenerStatus, pool: PoolStatus, member: MemberStatus, now: float) -> str:
    address = f"[{member.address}]" if ":" in member.address else member.address
    lines = [_state(member, now), *_reasons(status, listener, pool, member, now), *_traffic(pool, member)]
    lines += [_change(change, now) for change in member.history[-HISTORY_SHOWN:]]
    title = f"member {member.id} ({address}:{member.port}) of pool {pool.id}, listener {listener.id}"
    return "\n".join([title, *_indented(lines)])


def _state(member: MemberStatus, now: float) -> str:
    """The state, since when, and which check said so."""
    match member.state:
        case "MAINT":
            return "MAINT: disabled in the configuration, so it is neither used nor checked"
        case "NO CHECK":
            return "NO CHECK: its pool has no health monitor, so it counts as up"
        case "UNKNOWN":
            return "UNKNOWN: the data plane has not taken this member over yet"
        case "DOWN" if member.is_ejected and not _is_down_by_check(member):
            return "DOWN: ejected, whatever its health monitor says"
        case state:
            return f"{state}{_check(member.check, state, now)}"


def _is_down_by_check(member: MemberStatus) -> bool:
    return member.check is not None and member.check.state.startswith("DOWN")


def _check(check: MemberCheck | None, state: str, now: float) -> str:
    if check is None:
        return ""
    since = f" since {_moment(check.since)} ({_ago(check.since, now)})" if check.since else ""
    if not check.code:
        return f"{since}: not checked yet, and taken for up until the first check" if state != "DOWN" else since
    streak = f", so far {check.state}" if " " in check.state else ""
    said = check.text + (f" ({check.info})" if check.info else "")
    code = f" {check.status}" if check.status is not None else ""
    return (
        f"{since}: the last check, {_ago(check.checked_at, now)}, said {check.code}{code}, {said},"
        f" after {milliseconds(check.duration_s)}{streak}; {check.failures} of {check.checks} checks have failed"
    )


def _reasons(status: Status, listener: ListenerStatus, pool: PoolStatus, member: MemberStatus, now: float) -> list[str]:
    """What keeps new clients away, or that nothing does."""
    against = list(_obstacles(status, listener, pool, member, now))
    if against:
        return [f"gets no new clients: {reason}" for reason in against]
    return [f"gets new clients: {_share(pool, member)}", *_slow_start(member), *_full(listener)]


def _obstacles(
    status: Status, listener: ListenerStatus, pool: PoolStatus, member: MemberStatus, now: float
) -> Iterator[str]:
    if not status.data_plane.pid:
        yield "the data plane is not running"
    if member.is_ejected:
        yield _ejection(member, now)
    if member.state == "DOWN" and (_is_down_by_check(member) or not member.is_ejected):
        yield "it is DOWN"
    elif member.state == "MAINT":
        yield "it is disabled"
    elif member.state == "UNKNOWN":
        yield "it is not in the balancing yet"
    elif member.weight == 0:
        yield "its weight is 0; clients that persistence ties to it are still served"
    elif member.backup and (others := [other for other in _usable(pool) if not other.backup]):
        yield f"it is a backup, and {_count(len(others), 'other member')} of the pool can serve"


def _ejection(member: MemberStatus, now: float) -> str:
    """With what live traffic showed, as the history has it."""
    assert member.standing is not None
    left = duration(max(0.0, member.standing.ejected_until - now))
    down = [change for change in member.history if not change.up]
    return f"it is ejected for another {left}" + (f": {down[-1].reason}" if down else "")


def _slow_start(member: MemberStatus) -> list[str]:
    if member.percent >= 100:
        return []
    return [f"but only {member.percent} % of its weight so far: it came back and is in its slow start"]


def _full(listener: ListenerStatus) -> list[str]:
    if listener.counts.current < listener.limit:
        return []
    return [f"but listener {listener.id} is at its connection limit of {listener.limit}: new connections wait"]


def _share(pool: PoolStatus, member: MemberStatus) -> str:
    chosen = _chosen(pool)
    total = sum(each.weight for each in chosen) or 1
    part = f"weight {member.weight} of {total} over {_count(len(chosen), 'member')} in use"
    effective = sum(each.weight * each.percent for each in chosen) or 1
    share = f"{100 * member.weight * member.percent / effective:.0f} %"
    if pool.algorithm == BY_LOAD:
        return f"{part}; {pool.algorithm} gives each request to the member with the fewest open ones for its weight"
    if pool.algorithm in BY_ADDRESS:
        return f"{part}, about {share} of the client addresses ({pool.algorithm})"
    return f"{part}, about {share} of what comes ({pool.algorithm})"


def _traffic(pool: PoolStatus, member: MemberStatus) -> list[str]:
    """What it has had, against what the pool has had."""
    had, all_had = _served(member), sum(_served(other) for other in pool.members)
    share = f" ({100 * had / all_had:.0f} % of the pool's)" if all_had else ""
    lines = [f"has had {had}{share}, {member.counts.current} open now, {member.idle} idle connections kept for reuse"]
    if errors := member_errors(member.counts):
        counts = member.counts
        lines.append(
            f"has failed {errors} times: {counts['connect_errors']} connections refused or timed out,"
            f" {counts['response_errors']} bad responses, {counts['member_aborts']} responses broken off;"
            f" {counts['redispatches']} requests went on to another member"
        )
    return lines


def _change(change: TransitionStatus, now: float) -> str:
    return f"{_moment(change.at)} ({_ago(change.at, now)}): {'UP' if change.up else 'DOWN'}, {change.reason}"


# --- a pool ---


def _pool(status: Status, listener: ListenerStatus, pool: PoolStatus, now: float) -> list[str]:
    chosen = _chosen(pool)
    states = [member.state for member in pool.members]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "no members"
    if not status.data_plane.pid:
        verdict = "serves nobody: the data plane is not running"
    elif not chosen:
        what = "is answered 503" if listener.mode == "http" else "is closed"
        verdict = f"serves nobody, whoever comes {what}: no member can be used"
    elif all(member.backup for member in chosen):
        verdict = f"runs on its backups, {_count(len(chosen), 'member')}: no other member can be used"
    else:
        verdict = f"spreads over {_count(len(chosen), 'member')} by {pool.algorithm}"
    names = {member.id for member in chosen}
    lines = [f"{verdict} ({counted})"]
    for member in pool.members:
        use = (
            "; ".join([_share(pool, member), *_slow_start(member)])
            if member.id in names
            else "; ".join(_obstacles(status, listener, pool, member, now))
        )
        lines.append(f"{member.id}: {use or 'not used'}")
        if member.state == "DOWN":
            lines.append(f"  {_state(member, now)}")
    return lines


def _usable(pool: PoolStatus) -> list[MemberStatus]:
    return [member for member in pool.members if member.state in USABLE and member.weight > 0]


def _chosen(pool: PoolStatus) -> list[MemberStatus]:
    """Whom the balancing chooses from: backups only when nothing else is left, and then all of them."""
    usable = _usable(pool)
    return [member for member in usable if not member.backup] or usable


# --- a listener ---


def _listener(status: Status, listener: ListenerStatus, now: float) -> str:
    counts = listener.counts
    where = " ".join(listener.binds) or "(no address)"
    if not status.data_plane.pid:
        verdict = "DOWN: the data plane is not running; connections wait in the kernel until it is back"
    elif counts.current >= listener.limit:
        verdict = f"FULL: {counts.current} connections are open, its limit; new ones wait until one ends"
    else:
        verdict = f"OPEN: {counts.current} of at most {listener.limit} connections are open"
    lines = [verdict]
    if listener.mode == "http":
        lines.append(
            f"has had {counts['requests']} requests on {counts['connections']} connections;"
            f" {counts['responses_5xx']} answered 5xx, {counts['denied']} denied by a policy,"
            f" {counts['request_errors']} not understood"
        )
    else:
        lines.append(f"has had {counts['connections']} connections")
    if not listener.pools:
        lines.append(
            "has no pool: " + ("requests are answered 503" if listener.mode == "http" else "clients are closed")
        )
    elif listener.default_pool is None:
        lines.append("has no default pool: only what an L7 policy sends to a pool is served")
    for pool in listener.pools:
        kind = "default pool" if pool.id == listener.default_pool else "pool by L7 policy"
        head, *members = _pool(status, listener, pool, now)
        lines += [f"{kind} {pool.id} {head}", *_indented(members)]
    return "\n".join([f"listener {listener.id} ({listener.mode}, {where})", *_indented(lines)])


# --- words ---


def _served(member: MemberStatus) -> int:
    return member.counts["requests"] or member.counts["connections"]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _ago(at: float, now: float) -> str:
    return f"{duration(max(0.0, now - at))} ago"
