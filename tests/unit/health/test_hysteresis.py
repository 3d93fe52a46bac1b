"""Rise and fall, against the rule in words and against a second implementation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.health.hysteresis import Hysteresis


def states(rise: int, fall: int, results: str, *, up: bool | None = None) -> list[str]:
    """The text after each result; `+` passes, `-` fails."""
    health = Hysteresis(rise, fall, up=up)
    texts = []
    for result in results:
        health.take(result == "+")
        texts.append(health.text)
    return texts


def test_new_member_starts_up_one_failure_from_down() -> None:
    """Octavia contract section 3.4: a server never checked yet is `UP 1/<fall>`."""
    health = Hysteresis(2, 3)

    assert health.is_up
    assert health.text == "UP 1/3"


def test_new_member_first_check_fails_is_down_at_once() -> None:
    """Octavia contract section 4.11: ONE failed first check takes it down."""
    health = Hysteresis(2, 3)

    assert health.take(False)
    assert health.text == "DOWN"


def test_new_member_first_check_passes_needs_all_failures() -> None:
    assert states(2, 3, "+---") == ["UP", "UP 2/3", "UP 1/3", "DOWN"]


def test_up_member_pass_between_failures_starts_the_count_again() -> None:
    assert states(2, 3, "+--+---") == ["UP", "UP 2/3", "UP 1/3", "UP", "UP 2/3", "UP 1/3", "DOWN"]


def test_down_member_needs_all_passes() -> None:
    assert states(3, 2, "+++", up=False) == ["DOWN 1/3", "DOWN 2/3", "UP"]


def test_down_member_failure_between_passes_starts_the_count_again() -> None:
    assert states(3, 2, "++-+++", up=False) == ["DOWN 1/3", "DOWN 2/3", "DOWN", "DOWN 1/3", "DOWN 2/3", "UP"]


def test_member_known_up_keeps_its_full_allowance() -> None:
    assert Hysteresis(2, 3, up=True).text == "UP"


def test_fall_of_one_takes_down_at_once() -> None:
    assert states(2, 1, "-+", up=True) == ["DOWN", "DOWN 1/2"]


def test_rise_of_one_brings_up_at_once() -> None:
    assert states(1, 2, "+-", up=False) == ["UP", "UP 1/2"]


@pytest.mark.parametrize(("rise", "fall"), [(0, 1), (1, 0), (-1, 3)])
def test_thresholds_below_one_are_refused(rise: int, fall: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Hysteresis(rise, fall)


@given(
    st.integers(1, 10),
    st.integers(1, 10),
    st.sampled_from([None, True, False]),
    st.lists(st.booleans(), max_size=80),
)
def test_state_follows_consecutive_results(rise: int, fall: int, start: bool | None, results: list[bool]) -> None:
    """The rule in other words: a streak against the state, as long as its threshold, changes it."""
    health = Hysteresis(rise, fall, up=start)
    up = start is not False
    streak = fall - 1 if start is None else 0  # a new member has used up all failures but one

    for passed in results:
        streak = 0 if passed == up else streak + 1
        expected = streak >= (fall if up else rise)
        if expected:
            up, streak = not up, 0

        assert health.take(passed) is expected
        assert health.is_up is up
        assert health.text.startswith("UP" if up else "DOWN")
