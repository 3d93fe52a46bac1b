"""Smooth weighted round robin: exact over a cycle, no avoidable runs, fair through rebuilds."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from math import ceil, gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.algorithms.built_picker import BuiltPicker

weight_lists = st.lists(st.integers(1, 256), min_size=1, max_size=12) | st.lists(
    st.integers(1, 9), min_size=2, max_size=40
)


def cycle_of(weights: list[int]) -> int:
    return sum(weights) // reduce(gcd, weights)


def longest_run(picks: list[int]) -> int:
    longest = run = 1
    for before, after in pairwise(picks):
        run = run + 1 if before == after else 1
        longest = max(longest, run)
    return longest


def unavoidable_run(weights: list[int]) -> int:
    """Nobody repeats unless one member weighs more than all others; then its picks fill the gaps between theirs."""
    heaviest, others = max(weights), sum(weights) - max(weights)
    return 1 if heaviest <= others else ceil(heaviest / others)


@given(weight_lists)
def test_weighted_round_robin_full_cycle_picks_each_member_its_weight(weights: list[int]) -> None:
    picker = BuiltPicker("weighted_round_robin", weights)
    divisor = reduce(gcd, weights)

    for _ in range(2):
        assert picker.pick_many(cycle_of(weights)) == [weight // divisor for weight in weights]
        assert picker.credits == [0] * len(weights)


@given(weight_lists.filter(lambda weights: len(weights) > 1))
def test_weighted_round_robin_makes_no_avoidable_run(weights: list[int]) -> None:
    """Over the seams of cycles too."""
    picker = BuiltPicker("weighted_round_robin", weights)

    picks = [picker.pick() for _ in range(3 * cycle_of(weights))]

    assert longest_run(picks) <= unavoidable_run(weights)


@given(weight_lists)
def test_weighted_round_robin_spaces_picks_of_a_member(weights: list[int]) -> None:
    """No member waits for longer than twice its ideal distance."""
    picker = BuiltPicker("weighted_round_robin", weights)

    picks = [picker.pick() for _ in range(2 * cycle_of(weights))]

    for index, weight in enumerate(weights):
        places = [place for place, picked in enumerate(picks) if picked == index]
        assert max((after - before for before, after in pairwise(places)), default=0) <= 2 * ceil(sum(weights) / weight)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1, 1, 1], "abcabcabc"),
        ([2, 1], "abaaba"),
        ([3, 2, 1], "abacbabacaba"),
        ([5, 1, 1], "abaaacaabaaaca"),
    ],
)
def test_weighted_round_robin_small_pool_order(weights: list[int], expected: str) -> None:
    picker = BuiltPicker("weighted_round_robin", weights)

    assert "".join("abc"[picker.pick()] for _ in expected) == expected


@given(weight_lists, st.data())
def test_weighted_round_robin_rebuild_at_any_point_changes_nothing(weights: list[int], data: st.DataObject) -> None:
    cycle = cycle_of(weights)
    memory = bytearray(BuiltPicker.memory_size(len(weights)))
    undisturbed = BuiltPicker("weighted_round_robin", weights)
    cut = data.draw(st.integers(0, cycle))

    before = BuiltPicker("weighted_round_robin", weights, memory=memory)
    picks = [before.pick() for _ in range(cut)]
    after = BuiltPicker("weighted_round_robin", weights, memory=memory)
    picks += [after.pick() for _ in range(cycle - cut)]

    assert picks == [undisturbed.pick() for _ in range(cycle)]


generations = st.lists(
    st.tuples(st.dictionaries(st.integers(0, 7), st.integers(1, 50), min_size=1), st.integers(0, 60)),
    min_size=1,
    max_size=10,
)


@given(generations)
def test_weighted_round_robin_credits_stay_bounded_when_members_come_and_go(
    changes: list[tuple[dict[int, int], int]],
) -> None:
    memory = bytearray(BuiltPicker.memory_size(8))

    for members, picks in changes:
        slots = sorted(members)
        weights = [members[slot] for slot in slots]
        picker = BuiltPicker("weighted_round_robin", weights, memory=memory, slots=slots)
        picker.pick_many(picks)

        assert sum(picker.credits) == 0
        assert max(map(abs, picker.credits)) <= 3 * sum(weights)


@given(generations)
def test_weighted_round_robin_after_changes_a_cycle_is_fair_within_three(
    changes: list[tuple[dict[int, int], int]],
) -> None:
    memory = bytearray(BuiltPicker.memory_size(8))
    for members, picks in changes:
        slots = sorted(members)
        weights = [members[slot] for slot in slots]
        BuiltPicker("weighted_round_robin", weights, memory=memory, slots=slots).pick_many(picks)

    counts = BuiltPicker("weighted_round_robin", weights, memory=memory, slots=slots).pick_many(4 * sum(weights))

    assert all(abs(count - 4 * weight) <= 3 for count, weight in zip(counts, weights, strict=True))


def test_weighted_round_robin_two_generations_at_once_keep_their_own_shares() -> None:
    """Sessions of the old generation go on picking; both see their weights honoured, and no credit grows without end."""
    memory = bytearray(BuiltPicker.memory_size(4))
    old = BuiltPicker("weighted_round_robin", [1, 1, 2], memory=memory, slots=[0, 1, 2])
    new = BuiltPicker("weighted_round_robin", [1, 4, 1], memory=memory, slots=[0, 1, 3])

    counts = [0, 0, 0]
    for _ in range(1200):
        old.pick()
        counts[new.pick()] += 1

    assert max(map(abs, new.credits + old.credits)) <= 30
    assert counts[1] > counts[0]
    assert counts[1] > counts[2]
    assert min(counts) > 0
