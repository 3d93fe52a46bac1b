"""Least connections against the rule it is given by."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from amphorad.algorithms.built_picker import BuiltPicker

members = st.lists(
    st.tuples(st.integers(1, 256), st.integers(0, 5) | st.integers(0, 1_000_000)), min_size=1, max_size=30
)


def load_of(weight: int, in_flight: int) -> Fraction:
    """Octavia contract section 4.10.1."""
    return Fraction((in_flight + 1) * 256, weight) if in_flight else Fraction(0)


@given(members)
def test_least_connections_picks_the_least_loaded(pool: list[tuple[int, int]]) -> None:
    picker = BuiltPicker("least_connections", [weight for weight, _ in pool])
    for index, (_, in_flight) in enumerate(pool):
        picker.occupy(index, in_flight)

    for _ in range(2 * len(pool)):
        loads = [load_of(weight, now) for (weight, _), now in zip(pool, picker.in_flight, strict=True)]
        assert loads[picker.pick()] == min(loads)


def test_least_connections_idle_members_take_turns_whatever_their_weight() -> None:
    picker = BuiltPicker("least_connections", [1, 256, 3, 7])

    assert [picks.index(1) for picks in (picker.pick_many(1, releasing=True) for _ in range(8))] == [0, 1, 2, 3] * 2


def test_least_connections_equally_busy_members_take_turns() -> None:
    picker = BuiltPicker("least_connections", [1, 1, 1])
    for index in range(3):
        picker.occupy(index, 4)

    assert picker.pick_many(6, releasing=True) == [2, 2, 2]


def test_least_connections_shares_follow_weights() -> None:
    """Each member goes from idle to one in flight first, so the first round is one each."""
    picker = BuiltPicker("least_connections", [4, 2, 1])

    assert picker.pick_many(700) == [400, 200, 100]


def test_least_connections_is_not_fooled_by_rounding() -> None:
    """2 x 256 / 255 and 2 x 256 / 256 are both 2 as whole numbers, which is how HAProxy compares them."""
    picker = BuiltPicker("least_connections", [255, 256])
    picker.occupy(0)
    picker.occupy(1)

    assert picker.pick() == 1


def test_least_connections_count_below_zero_is_idle() -> None:
    picker = BuiltPicker("least_connections", [1, 1])
    picker.occupy(0, -3)
    picker.occupy(1, 1)

    assert picker.pick_many(3) == [3, 0]
