"""The way of a member back to its full weight, with a clock that the test moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.slow_start import Ramps, scaled_weights


def test_weight_grows_to_the_full_one_and_never_shrinks() -> None:
    ramps: Ramps[str] = Ramps(10.0)
    ramps.begin("a", 100.0)

    seen = []
    for tenth in range(101):
        ramps.take_changed(100.0 + tenth / 10)
        seen.append(ramps.percent("a"))

    assert seen[0] == 5
    assert seen[50] == 50
    assert seen[99] == 95
    assert seen[100] == 100
    assert seen == sorted(seen)


def test_change_is_told_once_for_each_step() -> None:
    ramps: Ramps[str] = Ramps(10.0)
    ramps.begin("a", 0.0)

    changes = [ramps.take_changed(tenth / 10) for tenth in range(1, 120)]

    assert sum(change == ["a"] for change in changes) == 20
    assert all(change in ([], ["a"]) for change in changes)


def test_short_ramp_has_few_steps() -> None:
    ramps: Ramps[str] = Ramps(1.0)
    ramps.begin("a", 0.0)

    changes = [ramps.take_changed(hundredth / 100) for hundredth in range(1, 120)]

    assert sum(change == ["a"] for change in changes) == 4


def test_without_a_duration_nobody_is_held_back() -> None:
    ramps: Ramps[str] = Ramps(0.0)

    ramps.begin("a", 0.0)

    assert ramps.percent("a") == 100
    assert ramps.take_changed(1.0) == []


def test_member_that_goes_down_meanwhile_begins_anew() -> None:
    ramps: Ramps[str] = Ramps(10.0)
    ramps.begin("a", 0.0)
    ramps.take_changed(9.0)
    ramps.end("a")

    ramps.begin("a", 9.5)

    assert ramps.percent("a") == 5


def test_member_that_is_configured_no_more_is_forgotten() -> None:
    ramps: Ramps[str] = Ramps(10.0)
    ramps.begin("a", 0.0)
    ramps.begin("b", 0.0)

    ramps.keep(["b"])

    assert ramps.percent("a") == 100
    assert ramps.take_changed(5.0) == ["b"]


def test_weights_stay_as_they_are_when_nobody_is_on_a_ramp() -> None:
    assert scaled_weights([1, 200, 3], [100, 100, 100]) == [1, 200, 3]
    assert scaled_weights([], []) == []


def test_weight_of_one_can_be_divided() -> None:
    assert scaled_weights([1, 1], [100, 10]) == [256, 25]


@pytest.mark.parametrize("percent", [5, 50, 95])
def test_weight_of_all_members_on_the_same_step_is_in_proportion(percent: int) -> None:
    heavy, light = scaled_weights([2, 1], [percent, percent])

    assert heavy == pytest.approx(2 * light, abs=2)


@given(st.lists(st.tuples(st.integers(1, 256), st.integers(5, 100)), min_size=1, max_size=20))
def test_scaled_weights_are_allowed_ones_and_keep_the_order_of_shares(members: list[tuple[int, int]]) -> None:
    weights, percents = zip(*members, strict=True)

    scaled = scaled_weights(weights, percents)

    assert all(1 <= each <= 256 for each in scaled)
    shares = [weight * percent for weight, percent in members]
    for first in range(len(shares)):
        for second in range(len(shares)):
            if shares[first] < shares[second]:
                assert scaled[first] <= scaled[second]
