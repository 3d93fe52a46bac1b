"""What holds for every picker: names, limits, empty pools, threads, a lock left behind."""

from __future__ import annotations

import threading

import pytest

from amphorad.algorithms import names
from amphorad.algorithms.built_picker import BuiltPicker

BUILT_IN = ["least_connections", "maglev", "round_robin", "source_ip_hash", "weighted_round_robin"]


def hammer(pickers: list[BuiltPicker], picks: int, *, releasing: bool = False) -> list[int]:
    """Each picker in a thread of its own, all at once, without the interpreter lock; the sums over all."""
    results: list[list[int]] = []
    barrier = threading.Barrier(len(pickers))

    def run(picker: BuiltPicker) -> None:
        barrier.wait()
        results.append(picker.pick_many(picks, b"\x7f\0\0\1", releasing))

    threads = [threading.Thread(target=run, args=(picker,)) for picker in pickers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [sum(counts) for counts in zip(*results, strict=True)]


@pytest.mark.parametrize("weights", [[1] * 5, [5, 3, 2], [7, 1, 1, 1]])
@pytest.mark.parametrize("name", ["round_robin", "weighted_round_robin"])
def test_round_robin_four_threads_totals_are_exact(name: str, weights: list[int]) -> None:
    picker = BuiltPicker(name, weights)
    cycles = 100_000 // sum(weights)

    totals = hammer([picker] * 4, cycles * sum(weights))

    assert totals == [4 * cycles * weight for weight in weights]
    assert picker.in_flight == totals


def test_round_robin_four_processes_worth_of_pickers_share_one_memory() -> None:
    memory = bytearray(BuiltPicker.memory_size(3))
    pickers = [BuiltPicker("weighted_round_robin", [3, 2, 1], memory=memory) for _ in range(4)]

    assert hammer(pickers, 60_000) == [120_000, 80_000, 40_000]


def test_least_connections_four_threads_leave_an_even_load() -> None:
    picker = BuiltPicker("least_connections", [1, 1, 2])

    hammer([picker] * 4, 25_000)

    assert picker.in_flight == [25_000, 25_000, 50_000]


@pytest.mark.parametrize("name", BUILT_IN)
def test_any_algorithm_four_threads_in_flight_returns_to_zero(name: str) -> None:
    picker = BuiltPicker(name, [1, 2, 3], ["a", "b", "c"])

    totals = hammer([picker] * 4, 20_000, releasing=True)

    assert sum(totals) == 80_000
    assert picker.in_flight == [0, 0, 0]


@pytest.mark.parametrize("name", BUILT_IN)
def test_any_algorithm_without_members_picks_none(name: str) -> None:
    assert BuiltPicker(name, [], []).pick(b"\x7f\0\0\1") == -1


@pytest.mark.parametrize("name", BUILT_IN)
def test_any_algorithm_with_one_member_picks_it(name: str) -> None:
    picker = BuiltPicker(name, [7], ["only"])

    assert [picker.pick(bytes([127, 0, 0, last])) for last in range(20)] == [0] * 20


def test_names_are_those_that_can_be_built() -> None:
    assert set(BUILT_IN) <= set(names())


@pytest.mark.parametrize("name", ["", "roundrobin", "ROUND_ROBIN"])
def test_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"known are .*least_connections, maglev, .*weighted_round_robin"):
        BuiltPicker(name, [1])


@pytest.mark.parametrize("weight", [0, 257])
def test_weight_out_of_range_is_refused(weight: int) -> None:
    with pytest.raises(ValueError, match=rf"weight {weight} of member 1 is not within 1\.\.256"):
        BuiltPicker("round_robin", [1, weight])


def test_names_of_other_members_are_refused() -> None:
    with pytest.raises(ValueError, match="1 names for 2 members"):
        BuiltPicker("round_robin", [1, 1], ["a"])


def test_memory_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        BuiltPicker("round_robin", [1, 1], memory=bytearray(BuiltPicker.memory_size(1)))


def test_lock_of_a_killed_process_is_freed_by_reset() -> None:
    memory = bytearray(BuiltPicker.memory_size(2))
    picker = BuiltPicker("round_robin", [1, 1], memory=memory)
    memory[0] = 1
    waiting = threading.Thread(target=picker.pick)
    waiting.start()

    picker.reset_shared()
    waiting.join()

    assert picker.in_flight == [1, 0]
