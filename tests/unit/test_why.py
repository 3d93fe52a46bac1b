"""The words of `amphorad why`, from statuses made by hand: one case for each reason to get no traffic."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from amphorad.status import (
    Counts,
    DataPlaneStatus,
    ListenerStatus,
    MemberCheck,
    MemberStatus,
    PoolStatus,
    StandingStatus,
    Status,
    TransitionStatus,
)
from amphorad.why import UnknownObject, why_listener, why_member, why_pool

NOW = 1_000_000.0
CHECK = MemberCheck("UP", "L7OK", "Layer7 check passed", "", 200, 0.003, NOW - 3600, NOW - 2, 100, 4, 1)
REFUSED = MemberCheck(
    "DOWN 1/2", "L4CON", "Layer4 connection problem", "Connection refused", None, 0.0, NOW - 90, NOW - 1, 50, 9, 1
)


def member(id_: str = "a", state: str = "UP", **more: Any) -> MemberStatus:
    fields: dict[str, Any] = {"weight": 1, "backup": False, "idle": 0, "counts": Counts(), "check": None} | more
    return MemberStatus(id=id_, address="10.0.0.1", port=80, state=state, **fields)


def status(*members: MemberStatus, pid: int = 7, current: int = 0, **more: Any) -> Status:
    pool = PoolStatus("p", str(more.pop("algorithm", "round_robin")), members, Counts())
    fields: dict[str, Any] = {"default_pool": "p"} | more
    listener = ListenerStatus("l", "http", ("10.0.0.9:80",), 9, (pool,), Counts(current=current), **fields)
    plane = DataPlaneStatus(pid, 5.0, 0, 2, 3, 0)
    return Status("1", "lb", "f", 4, 60.0, "intent", "retry", plane, (), (listener,))


def test_member_that_serves_is_told_with_check_share_and_traffic() -> None:
    counts = Counts(counters={"requests": 30, "connect_errors": 2, "redispatches": 2}, current=3)
    other = member("b", weight=3, counts=Counts(counters={"requests": 90}))

    text = why_member([status(member(check=CHECK, counts=counts, idle=5), other)], "a", NOW)

    assert text.splitlines()[0] == "member a (10.0.0.1:80) of pool p, listener l"
    assert "(1h0m ago): the last check, 2s ago, said L7OK 200, Layer7 check passed, after 3.00ms;" in text
    assert "4 of 100 checks have failed" in text
    assert "gets new clients: weight 1 of 4 over 2 members in use, about 25 % of what comes (round_robin)" in text
    assert "has had 30 (25 % of the pool's), 3 open now, 5 idle connections kept for reuse" in text
    assert (
        "has failed 2 times: 2 connections refused or timed out, 0 bad responses, 0 responses broken off; 2 req" in text
    )


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (member(state="DOWN", check=REFUSED), "it is DOWN"),
        (member(state="MAINT"), "it is disabled"),
        (member(state="UNKNOWN"), "it is not in the balancing yet"),
        (member(state="DRAIN", weight=0), "its weight is 0; clients that persistence ties to it are still served"),
        (member(backup=True), "it is a backup, and 1 other member of the pool can serve"),
    ],
)
def test_member_that_is_not_chosen_is_told_why(given: MemberStatus, reason: str) -> None:
    text = why_member([status(given, member("b"))], "a", NOW)

    assert f"gets no new clients: {reason}" in text
    assert "gets new clients" not in text


def test_ejected_member_is_told_for_how_long_and_why() -> None:
    history = (TransitionStatus(NOW - 5, False, "Health analyze, info: ..."), TransitionStatus(NOW - 4, True, "back"))
    given = member(state="DOWN", check=CHECK, standing=StandingStatus(NOW + 42, 100), history=history)

    text = why_member([status(given, member("b"))], "a", NOW)

    assert "DOWN: ejected, whatever its health monitor says" in text
    assert "gets no new clients: it is ejected for another 42s: Health analyze, info: ..." in text
    assert "it is DOWN" not in text


def test_ejected_member_whose_checks_fail_as_well_is_told_both() -> None:
    given = member(state="DOWN", check=REFUSED, standing=StandingStatus(NOW + 42, 100))

    text = why_member([status(given, member("b"))], "a", NOW)

    assert "gets no new clients: it is ejected for another 42s" in text
    assert "gets no new clients: it is DOWN" in text


def test_slow_start_is_told_with_the_share_that_it_leaves() -> None:
    given = member(standing=StandingStatus(0.0, 25))

    text = why_member([status(given, member("b"))], "a", NOW)

    assert "weight 1 of 2 over 2 members in use, about 20 % of what comes" in text
    assert "but only 25 % of its weight so far: it came back and is in its slow start" in text


def test_down_member_is_told_with_what_the_check_found_and_its_history() -> None:
    history = tuple(TransitionStatus(NOW - 100 * age, age % 2 == 0, f"reason {age}") for age in range(8, 0, -1))

    text = why_member([status(member(state="DOWN", check=REFUSED, history=history))], "a", NOW)

    assert "(1m30s ago): the last check, 1s ago, said L4CON, Layer4 connection problem (Connection refused)" in text
    assert "so far DOWN 1/2" in text
    assert [line.rpartition(", ")[2] for line in text.splitlines()[-5:]] == [f"reason {age}" for age in range(5, 0, -1)]
    assert "DOWN, reason 1" in text
    assert "UP, reason 2" in text


def test_backups_are_used_when_nothing_else_is() -> None:
    found = status(member("a", "DOWN"), member("b", backup=True), member("c", backup=True))

    assert "gets new clients: weight 1 of 2 over 2 members in use" in why_member([found], "b", NOW)
    assert "runs on its backups, 2 members" in why_pool([found], "p", NOW)


def test_dead_data_plane_is_the_reason_for_everything() -> None:
    found = status(member(), pid=0)

    assert "gets no new clients: the data plane is not running" in why_member([found], "a", NOW)
    assert "serves nobody: the data plane is not running" in why_pool([found], "p", NOW)
    assert "DOWN: the data plane is not running" in why_listener([found], "l", NOW)


def test_pool_without_a_usable_member_is_told_what_clients_get() -> None:
    found = status(member("a", "DOWN", check=REFUSED), member("b", "MAINT"))

    text = why_pool([found], "p", NOW)

    assert "serves nobody, whoever comes is answered 503: no member can be used (1 DOWN, 1 MAINT)" in text
    assert "a: it is DOWN" in text
    assert "b: it is disabled" in text


def test_full_listener_is_told_for_itself_and_its_members() -> None:
    found = status(member(), current=9)

    assert "FULL: 9 connections are open, its limit; new ones wait until one ends" in why_listener([found], "l", NOW)
    assert "but listener l is at its connection limit of 9: new connections wait" in why_member([found], "a", NOW)


def test_listener_tells_of_its_default_pool_and_of_none() -> None:
    assert "default pool p spreads over 1 member by round_robin (1 UP)" in why_listener([status(member())], "l", NOW)
    without = status(member(), default_pool=None)
    assert "has no default pool: only what an L7 policy sends to a pool is served" in why_listener([without], "l", NOW)
    empty = msgspec.structs.replace(without, listeners=(msgspec.structs.replace(without.listeners[0], pools=()),))
    assert "has no pool: requests are answered 503" in why_listener([empty], "l", NOW)


def test_least_connections_and_hash_promise_no_share_of_requests() -> None:
    by_load = why_member([status(member(), member("b"), algorithm="least_connections")], "a", NOW)
    by_address = why_member([status(member(), member("b"), algorithm="source_ip_hash")], "a", NOW)

    assert "the member with the fewest open ones for its weight" in by_load
    assert "about 50 % of the client addresses (source_ip_hash)" in by_address


def test_member_of_two_load_balancers_is_told_about_for_each() -> None:
    assert why_member([status(member()), status(member())], "a", NOW).count("member a (10.0.0.1:80)") == 2


def test_unknown_id_is_answered_with_ids_that_there_are() -> None:
    many = status(*(member(name) for name in "abcdef"))

    with pytest.raises(UnknownObject, match="no member 'x'; there are: a, b, c, d and 2 more"):
        why_member([many], "x", NOW)
    with pytest.raises(UnknownObject, match="no listener 'a'; there are: l"):
        why_listener([many], "a", NOW)
    with pytest.raises(UnknownObject, match="no pool 'a'; there are: none"):
        why_pool([], "a", NOW)
