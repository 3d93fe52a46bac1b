"""Rotation over members of equal weight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.algorithms.built_picker import BuiltPicker


@given(st.integers(1, 40), st.integers(1, 256), st.integers(0, 200))
def test_round_robin_equal_weights_rotates_in_order(count: int, weight: int, picks: int) -> None:
    picker = BuiltPicker("round_robin", [weight] * count)

    assert [picker.pick() for _ in range(picks)] == [number % count for number in range(picks)]


def test_round_robin_unequal_weights_are_honoured() -> None:
    picker = BuiltPicker("round_robin", [3, 2, 1])

    assert picker.pick_many(60) == [30, 20, 10]


def test_round_robin_rebuilt_in_mid_cycle_goes_on_where_it_was() -> None:
    memory = bytearray(BuiltPicker.memory_size(5))
    before = [BuiltPicker("round_robin", [1] * 5, memory=memory).pick() for _ in range(3)]

    after = BuiltPicker("round_robin", [1] * 5, memory=memory)

    assert before + [after.pick() for _ in range(4)] == [0, 1, 2, 3, 4, 0, 1]


@given(st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=1, max_size=8))
def test_round_robin_members_come_and_go_counts_differ_by_one_per_change(generations: list[set[int]]) -> None:
    """Members present all the time are compared; each change may skip or repeat one of them once."""
    memory = bytearray(BuiltPicker.memory_size(6))
    always = set.intersection(*generations)
    counts = dict.fromkeys(range(6), 0)

    for generation in generations:
        slots = sorted(generation)
        picker = BuiltPicker("round_robin", [1] * len(slots), memory=memory, slots=slots)
        for _ in range(7):
            counts[slots[picker.pick()]] += 1

    seen = [counts[slot] for slot in always]
    assert not seen or max(seen) - min(seen) <= len(generations)


def test_round_robin_cursor_of_a_larger_pool_starts_over() -> None:
    memory = bytearray(BuiltPicker.memory_size(9))
    BuiltPicker("round_robin", [1] * 9, memory=memory).pick_many(8)

    assert BuiltPicker("round_robin", [1] * 2, memory=memory).pick() == 0


@pytest.mark.parametrize(
    "name", ["round_robin", "weighted_round_robin", "least_connections", "source_ip_hash", "maglev"]
)
def test_any_algorithm_counts_what_it_picks_as_in_flight(name: str) -> None:
    picker = BuiltPicker(name, [2, 1, 3], ["a", "b", "c"])

    picked = [picker.pick(bytes([127, 0, 0, last])) for last in range(30)]
    picker.release(picked[0])

    assert picker.in_flight == [picked[1:].count(index) for index in range(3)]
