"""Health, ejection and slow start with a clock of their own."""

from __future__ import annotations

from typing import Any

import pytest

from amphorad.board import MemberState
from amphorad.extras import Extras
from amphorad.model import Algorithm, Member, Mode, Pool
from amphorad.proxy.member_states import MemberStates

P = ("l", "p")
OUT = "Detected {} consecutive errors, last one was: {}; out for {} s"


def pool(*members: Member, **more: Any) -> Pool:
    return Pool(id="p", mode=Mode.HTTP, members=members, **more)


def member(id_: str, **more: Any) -> Member:
    return Member(id=id_, address="127.0.0.1", port=80, **more)


def states(known: dict[tuple[str, str, str], bool] | None = None, **extras: Any) -> MemberStates:
    return MemberStates(Extras(**extras), known or {})


@pytest.mark.parametrize(
    ("given", "known", "expected"),
    [
        (member("a"), None, MemberState.NO_CHECK),
        (member("a", checked=True), None, MemberState.UP),
        (member("a", checked=True), True, MemberState.UP),
        (member("a", checked=True), False, MemberState.DOWN),
        (member("a", checked=False), False, MemberState.NO_CHECK),
        (member("a", weight=0), None, MemberState.DRAIN),
        (member("a", weight=0, checked=True), False, MemberState.DOWN),
        (member("a", admin_state_up=False, checked=True), False, MemberState.MAINT),
    ],
)
def test_state_without_any_option(given: Member, known: bool | None, expected: MemberState) -> None:
    found = states({} if known is None else {(*P, "a"): known})

    assert found.state(P, given) is expected


def test_backups_are_used_when_nothing_else_is_and_then_all() -> None:
    given = pool(member("a", checked=True), member("b", backup=True), member("c", backup=True))
    found = states()

    assert found.usable(P, given) == [0]
    found.set_health((*P, "a"), False, 0.0)
    assert found.usable(P, given) == [1, 2]


# --- ejection ---


def test_without_the_option_nothing_is_ejected() -> None:
    assert states().observe(P, pool(member("a"), member("b")), {"a": (1000, 1000)}, 0.0) == []


@pytest.mark.parametrize(
    ("failures", "reason"),
    [((5, 0), OUT.format(5, "L4 unsuccessful connection", 30)), ((0, 7), OUT.format(7, "Wrong http response", 30))],
)
def test_member_is_out_for_its_time_and_comes_back(failures: tuple[int, int], reason: str) -> None:
    given = pool(member("a"), member("b"))
    found = states(eject_after=5)

    assert found.observe(P, given, {"a": (4, 4)}, 0.0) == []
    (ejection,) = found.observe(P, given, {"a": failures}, 0.0)

    assert (ejection.member, ejection.reason, ejection.is_return) == ((*P, "a"), reason, False)
    assert found.state(P, given.members[0]) is MemberState.DOWN
    assert found.usable(P, given) == [1]
    assert found.step(29.9) == ([], set())
    (returned,), changed = found.step(30.0)
    assert returned.is_return
    assert changed == {P}
    assert found.usable(P, given) == [0, 1]


def test_each_further_time_in_a_row_is_longer_and_a_good_time_forgives() -> None:
    given = pool(member("a"), member("b"))
    found = states(eject_after=1, ejection_time=10.0)
    now, lasted = 0.0, []
    for _time in range(13):
        (ejection,) = found.observe(P, given, {"a": (1, 0)}, now)
        lasted.append(ejection.lasts_s)
        now += ejection.lasts_s
        found.step(now)
    assert lasted == [10.0 * min(time, 10) for time in range(1, 14)]

    now += 100.0
    found.step(now)
    (ejection,) = found.observe(P, given, {"a": (1, 0)}, now)
    assert ejection.lasts_s == 10.0


def test_share_of_a_pool_that_may_be_out_is_bounded() -> None:
    given = pool(*(member(name) for name in "abcde"))
    failures = dict.fromkeys("abcde", (9, 0))

    assert len(states(eject_after=3).observe(P, given, failures, 0.0)) == 2
    assert len(states(eject_after=3, eject_at_most=19).observe(P, given, failures, 0.0)) == 0
    assert len(states(eject_after=3, eject_at_most=100).observe(P, given, failures, 0.0)) == 4


def test_last_usable_member_stays() -> None:
    given = pool(member("a"), member("b", checked=True), member("c", weight=0), member("d", admin_state_up=False))
    found = states({(*P, "b"): False}, eject_after=1, eject_at_most=100)

    assert found.observe(P, given, {"a": (9, 9)}, 0.0) == []


def test_member_that_its_monitor_took_out_meanwhile_does_not_come_back_with_the_end_of_its_time() -> None:
    given = pool(member("a", checked=True), member("b"))
    found = states(eject_after=1)
    found.observe(P, given, {"a": (1, 0)}, 0.0)
    found.set_health((*P, "a"), False, 5.0)

    assert found.step(30.0) == ([], set())
    assert found.state(P, given.members[0]) is MemberState.DOWN


def test_removed_member_is_forgotten() -> None:
    given = pool(member("a"), member("b"))
    found = states(eject_after=1, slow_start=10.0)
    found.observe(P, given, {"a": (1, 0)}, 0.0)

    found.keep({(*P, "b")})

    assert found.state(P, given.members[0]) is MemberState.NO_CHECK
    assert found.step(99.0) == ([], set())


def test_standing_tells_until_when_a_member_is_out() -> None:
    given = pool(member("a"), member("b"))
    found = states(eject_after=5)
    found.observe(P, given, {"a": (5, 0)}, 100.0)

    assert found.standing(P, given, given.members[0], 110.0, 5000.0) == (5020.0, 100)
    assert found.standing(P, given, given.members[1], 110.0, 5000.0) is None
    found.step(130.0)
    assert found.standing(P, given, given.members[0], 130.0, 5020.0) is None


@pytest.mark.parametrize(
    ("algorithm", "percent"),
    [(Algorithm.ROUND_ROBIN, 25), (Algorithm.LEAST_CONNECTIONS, 25), (Algorithm.SOURCE_IP_HASH, None)],
)
def test_standing_tells_how_far_a_member_has_grown(algorithm: Algorithm, percent: int | None) -> None:
    given = pool(member("a", checked=True), member("b"), algorithm=algorithm)
    found = states({(*P, "a"): False}, slow_start=100.0)
    found.set_health((*P, "a"), True, 1000.0)

    standing = found.standing(P, given, given.members[0], 1025.0, 5000.0)

    assert standing == (None if percent is None else (0.0, percent))


# --- slow start ---


@pytest.mark.parametrize("algorithm", [Algorithm.WEIGHTED_ROUND_ROBIN, Algorithm.LEAST_CONNECTIONS])
def test_weight_grows_from_a_tenth_to_all_of_it(algorithm: Algorithm) -> None:
    given = pool(member("a", checked=True), member("b", weight=2), algorithm=algorithm)
    found = states({(*P, "a"): False}, slow_start=100.0)
    found.set_health((*P, "a"), True, 1000.0)

    def weights(now: float) -> list[int]:
        return found.weights(P, given, [0, 1], now)

    assert weights(1000.0) == [13, 256]
    assert weights(1050.0) == [64, 256]
    assert weights(1099.0) == [127, 256]
    assert weights(1100.0) == [1, 2]
    assert found.step(1004.9)[1] == {P}
    assert found.step(1005.0)[1] == set()  # in steps of a twentieth
    assert found.step(1100.0)[1] == {P}
    assert found.step(1200.0) == ([], set())


def test_heavy_weights_stay_in_the_range_of_weights() -> None:
    given = pool(member("a", checked=True, weight=256), member("b", weight=1))
    found = states({(*P, "a"): False}, slow_start=100.0)
    found.set_health((*P, "a"), True, 0.0)

    assert found.weights(P, given, [0, 1], 0.0) == [26, 1]


def test_nothing_grows_without_the_option_at_the_first_sight_or_by_address() -> None:
    given = pool(member("a", checked=True), member("b"), algorithm=Algorithm.SOURCE_IP_HASH)
    plain, hashed, new = states({(*P, "a"): False}), states({(*P, "a"): False}, slow_start=9.0), states(slow_start=9.0)
    for found in (plain, hashed, new):
        found.set_health((*P, "a"), True, 0.0)

    assert plain.weights(P, given, [0, 1], 0.0) == [1, 1]
    assert hashed.weights(P, given, [0, 1], 0.0) == [1, 1]
    assert new.weights(P, pool(*given.members), [0, 1], 0.0) == [1, 1]
    assert plain.step(0.1) == ([], set())


def test_ejected_member_grows_when_it_comes_back() -> None:
    given = pool(member("a"), member("b"), algorithm=Algorithm.WEIGHTED_ROUND_ROBIN)
    found = states(eject_after=1, slow_start=10.0)
    found.observe(P, given, {"a": (1, 0)}, 0.0)
    found.step(30.0)

    assert found.weights(P, given, [0, 1], 30.0) == [26, 256]
