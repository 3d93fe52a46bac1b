"""Times of checks: pure functions of the clock."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.health.schedule import Agenda, first_due, next_due


class Item:
    def __init__(self, name: str) -> None:
        self.name = name
        self.due_at = self.armed_at = math.inf


def test_first_checks_are_spread_over_the_interval() -> None:
    dues = [first_due(100.0, 4.0, place, 4) for place in range(4)]

    assert dues == [100.0, 101.0, 102.0, 103.0]


def test_next_check_stays_on_the_grid_when_woken_late() -> None:
    assert next_due(10.0, 2.0, 10.3) == 12.0


def test_next_check_of_one_that_outlasts_its_interval_skips_times() -> None:
    assert next_due(10.0, 2.0, 15.5) == 16.0


def test_next_check_exactly_at_a_time_of_the_grid_is_the_one_after() -> None:
    assert next_due(10.0, 2.0, 12.0) == 14.0


@given(st.floats(0, 1e6), st.floats(0.001, 1000), st.floats(0, 1e4))
def test_next_check_is_ahead_by_at_most_one_interval(due: float, interval_s: float, late_s: float) -> None:
    now = due + late_s

    upcoming = next_due(due, interval_s, now)

    assert now < upcoming <= now + interval_s * 1.000001 + 1e-6


def test_a_thousand_late_wakes_do_not_drift() -> None:
    due = 0.0
    for _check in range(1000):
        due = next_due(due, 1.0, due + 0.25)

    assert due == 1000.0


def test_agenda_gives_due_items_in_order_of_time() -> None:
    agenda: Agenda[Item] = Agenda()
    for name, when in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        agenda.set(Item(name), when)

    assert [item.name for item in agenda.take_due(2.0)] == ["a", "b"]
    assert agenda.next_at() == 3.0


def test_agenda_item_set_again_counts_once_at_its_new_time() -> None:
    agenda: Agenda[Item] = Agenda()
    item = Item("a")
    agenda.set(item, 1.0)
    agenda.set(item, 5.0)

    assert list(agenda.take_due(4.0)) == []
    assert list(agenda.take_due(5.0)) == [item]
    assert list(agenda.take_due(9.0)) == []


def test_agenda_item_put_off_again_and_again_costs_one_entry() -> None:
    agenda: Agenda[Item] = Agenda()
    item = Item("a")
    for when in range(1, 100):
        agenda.set(item, float(when))

    assert len(agenda) == 1
    assert list(agenda.take_due(98.0)) == []
    assert len(agenda) == 1
    assert list(agenda.take_due(99.0)) == [item]


@given(st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(0, 50))), max_size=60))
def test_agenda_gives_each_item_once_at_the_time_it_was_last_set(steps: list[tuple[int, int | None]]) -> None:
    agenda: Agenda[Item] = Agenda()
    items = [Item(str(number)) for number in range(5)]
    wanted: dict[str, float] = {}
    for number, when in steps:
        if when is None:
            agenda.remove(items[number])
            wanted.pop(items[number].name, None)
        else:
            agenda.set(items[number], float(when))
            wanted[items[number].name] = float(when)

    given_at = {}
    for now in range(51):
        upcoming = agenda.next_at()
        for item in agenda.take_due(float(now)):
            assert upcoming is not None
            assert upcoming <= now
            assert item.name not in given_at
            given_at[item.name] = float(now)

    assert given_at == wanted


def test_agenda_item_set_earlier_comes_earlier_and_once() -> None:
    agenda: Agenda[Item] = Agenda()
    item = Item("a")
    agenda.set(item, 5.0)
    agenda.set(item, 1.0)

    assert agenda.next_at() == 1.0
    assert list(agenda.take_due(9.0)) == [item]


def test_agenda_removed_item_never_comes() -> None:
    agenda: Agenda[Item] = Agenda()
    item = Item("a")
    agenda.set(item, 1.0)
    agenda.remove(item)

    assert agenda.next_at() is None
    assert len(agenda) == 0


def test_agenda_item_set_while_taking_comes_in_the_same_round_when_due() -> None:
    agenda: Agenda[Item] = Agenda()
    first, second = Item("first"), Item("second")
    agenda.set(first, 1.0)
    seen = []

    for item in agenda.take_due(2.0):
        seen.append(item.name)
        if item is first:
            agenda.set(second, 1.5)

    assert seen == ["first", "second"]


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_spread_starts_stay_within_one_interval(count: int) -> None:
    dues = [first_due(0.0, 1.0, place, count) for place in range(count)]

    assert dues == sorted(set(dues))
    assert dues[-1] < 1.0
