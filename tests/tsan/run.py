"""Runs the hammer; the thread sanitizer ends the process with code 66 at the first race. Started by `test_thread_sanitizer`."""

from __future__ import annotations

import mmap
import threading
from typing import TYPE_CHECKING

from hammer import Rates, use_table  # type: ignore[import-not-found]  # built beside this file

from amphorad.proxy.engine.stick_table import KIND_ADDRESS, Table, table_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS = 3
KEYS = 600
SIZE = 256  # entries have to make room all the time
ROUNDS = 30_000
MEMBERS = ["m0", "m1", "m2"]


def together(work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def hammer_table() -> None:
    table = make_table()
    table.set_announces(True)
    wrong = []
    left = threading.Semaphore(0)

    def work(number: int) -> None:
        wrong.append(use_table(table, KEYS, number + 1, ROUNDS))
        left.release()

    def read() -> None:
        """As the exchange with the peers does meanwhile."""
        position = table.update
        while not left.acquire(blocking=False):
            _updates, position = table.updates_after(position, 64)
            entries, start = table.scan(0, 64)
            while start:
                assert all(int.from_bytes(key[:4], "little") % 3 == place for _number, key, place in entries)
                entries, start = table.scan(start, 64)
            table.learn((KEYS).to_bytes(4, "little") + bytes(12), 0, 1000)

    reader = threading.Thread(target=read)
    reader.start()
    together(work)
    reader.join()
    assert wrong == [0] * THREADS, wrong
    assert len(table) == SIZE, len(table)


def make_table() -> Table:
    table = Table(mmap.mmap(-1, table_bytes(SIZE, 16) + 4096), 0)
    table.format(KIND_ADDRESS, SIZE, 16, 1)
    for member in MEMBERS:
        table.name_place(member, MEMBERS)
    return table


def hammer_rates() -> None:
    rates = Rates(500)
    admitted: list[tuple[int, int]] = []
    together(lambda _number: admitted.append(rates.use(ROUNDS)))
    assert sum(shared for shared, _source in admitted) == 500
    assert sum(source for _shared, source in admitted) == 500


hammer_table()
hammer_rates()
print("no race")
