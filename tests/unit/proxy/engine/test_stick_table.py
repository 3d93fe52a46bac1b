"""The stick table beside a plain model of it, and after the death of a process that held its lock."""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from amphorad.proxy.engine.stick_table import KIND_ADDRESS, KIND_STRING, LONGEST_NAME, Table, table_bytes

if TYPE_CHECKING:
    from collections.abc import Callable


def make(size: int = 8, kind: int = KIND_STRING, key_limit: int = 6, expire_s: float = 0.0) -> Table:
    table = Table(mmap.mmap(-1, table_bytes(size, key_limit) + 4096), 0)
    table.format(kind, size, key_limit, 12345, expire_s)
    return table


class Model:
    """Keys in the order of use, the oldest first."""

    def __init__(self, size: int, key_limit: int) -> None:
        self.entries: OrderedDict[bytes, str] = OrderedDict()
        self.size = size
        self.key_limit = key_limit

    def find(self, key: bytes) -> str | None:
        key = key[: self.key_limit]
        if key in self.entries:
            self.entries.move_to_end(key)
        return self.entries.get(key)

    def store(self, key: bytes, name: str) -> None:
        key = key[: self.key_limit]
        if key not in self.entries and len(self.entries) == self.size:
            self.entries.popitem(last=False)
        self.entries[key] = name
        self.entries.move_to_end(key)


_KEYS = st.binary(max_size=8) | st.integers(0, 20).map(lambda n: b"k%d" % n)
_STEPS = st.lists(
    st.tuples(st.sampled_from(["find", "store", "learn", "die"]), _KEYS, st.sampled_from(["m1", "m2", "m3"])),
    max_size=80,
)


@given(_STEPS, st.integers(1, 9))
@settings(max_examples=300)
def test_table_holds_what_the_model_holds_in_its_order(steps: list[tuple[str, bytes, str]], size: int) -> None:
    table, model = make(size), Model(size, 6)
    for now, (what, key, name) in enumerate(steps):
        if what == "find":
            assert table.find(key, now) == model.find(key)
        elif what == "store":
            assert table.store(key, name, now)
            model.store(key, name)
        elif what == "learn":
            table.learn(key, table.name_place(name), now)
            model.store(key, name)
        else:
            table.hold_lock()
            assert table.recover()
        assert len(table) == len(model.entries)
    assert [(key, name) for key, name, _touched in table.entries()] == list(model.entries.items())


@given(_STEPS)
def test_updates_told_from_any_point_give_what_the_table_says(steps: list[tuple[str, bytes, str]]) -> None:
    table, copy = make(4), {}
    position = 0
    for now, (what, key, name) in enumerate(steps):
        if what == "store":
            table.store(key, name, now)
        elif what == "find":
            table.find(key, now)
        elif what == "die":
            found, position = table.updates_after(position, 100)
            assert found is not None
            copy |= {key: table.name_at(place) for _update, key, place in found}
    found, position = table.updates_after(position, 100)

    assert found is not None
    assert position == table.update
    copy |= {key: table.name_at(place) for _update, key, place in found}
    assert {key: copy[key] for key, name, _touched in table.entries() if key in copy} == {
        key: name for key, name, _touched in table.entries() if key in copy
    }


def test_updates_beyond_the_ring_are_told_as_a_whole() -> None:
    table = make(4)
    for number in range(100):
        table.store(b"k", f"m{number % 2}", number)

    assert table.updates_after(3, 10) == (None, 0)
    assert table.scan(0, 10)[0] == [(100, b"k", table.name_place("m1"))]


def test_hit_is_announced_to_peers_once_in_five_seconds() -> None:
    table = make()
    table.set_announces(True)
    table.store(b"k", "m1", 10_000)
    assert table.update == 1

    table.find(b"k", 14_000)
    assert table.update == 1
    table.find(b"k", 15_000)
    assert table.update == 2
    assert table.updates_after(1, 9)[0] == [(2, b"k", 0)]


def test_learned_entry_is_not_announced() -> None:
    table = make()

    table.learn(b"k", table.name_place("m1"), 1)

    assert table.update == 0
    assert table.find(b"k", 2) == "m1"


def test_entry_unused_for_longer_than_its_expiry_is_forgotten() -> None:
    table = make(expire_s=1.0)
    table.store(b"k", "m1", 1000)

    assert table.find(b"k", 2000) == "m1"
    assert table.find(b"k", 3001) is None
    assert len(table) == 0


def test_full_table_of_10240_addresses_drops_exactly_the_oldest() -> None:
    table = make(10240, KIND_ADDRESS, 16)
    keys = [number.to_bytes(16, "big") for number in range(10241)]
    for now, key in enumerate(keys[:-1]):
        table.store(key, "m1", now)
    table.find(keys[0], 20000)
    assert (len(table), table.evictions) == (10240, 0)

    table.store(keys[-1], "m1", 20001)

    assert [key for key in keys if table.find(key, 20002) is None] == [keys[1]]


def test_names_are_reused_only_when_no_entry_and_no_member_needs_them() -> None:
    table = make(4)
    table.store(b"kept", "m0", 0)
    for number in range(1, 4096):
        assert table.name_place(f"m{number}") == number
    assert table.name_place("x" * (LONGEST_NAME + 1)) == -1
    assert table.name_place("") == -1

    assert table.name_place("new", keep=["m1", "m2"]) == 3
    assert table.find(b"kept", 1) == "m0"
    assert table.name_place("m1") == 1


def test_threads_together_lose_nothing() -> None:
    table = make(4000)
    failures: list[object] = []

    def work(number: int) -> None:
        for turn in range(3000):
            key = b"%d-%d" % (number, turn % 900)
            table.store(key, f"m{number}", turn)
            if table.find(key, turn) != f"m{number}":
                failures.append(key)

    _run_together([lambda number=number: work(number) for number in range(4)])

    assert failures == []
    assert len(table) == 3600


def _run_together(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
