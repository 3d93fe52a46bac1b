"""How long a change of a member's health takes until every engine thread sees it at its next choice of a member.

    python bench/micro/bench_publish.py [--members 10 100 1000]

From the call with the verdict to the store of the new table, which is the moment that the threads see it. For pools of so many
members each, alone on their data plane.
"""

from __future__ import annotations

import argparse
import time

from amphorad.board import Board
from amphorad.model import Listener, LoadBalancer, Member, Mode, Pool
from amphorad.proxy.data_plane import DataPlane
from amphorad.proxy.settings import Settings

CHANGES = 200


def measure(count: int) -> None:
    board = Board.create(1)
    plane = DataPlane(board, threads=1, settings=Settings())
    plane.start()
    members = tuple(
        Member(id=f"m{n}", address=f"127.0.{1 + n // 250}.{1 + n % 250}", port=80, checked=True) for n in range(count)
    )
    pool = Pool(id="p", mode=Mode.HTTP, members=members)
    plane.apply(
        LoadBalancer(id="lb", listeners=(Listener(id="l", mode=Mode.HTTP, binds=(), default_pool="p", pools=(pool,)),)),
        {},
    )
    took = []
    for change in range(CHANGES):
        member = f"m{change // 2 % count}"
        then = time.perf_counter()
        plane.set_members_up({("l", "p", member): bool(change % 2)})
        took.append(time.perf_counter() - then)
        plane.maintain(time.monotonic())
    plane.stop(0.0)
    took.sort()
    print(
        f"{count} members: p50 {took[CHANGES // 2] * 1e3:.2f} ms, p99 {took[int(CHANGES * 0.99)] * 1e3:.2f} ms,"
        f" max {took[-1] * 1e3:.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=[10, 100, 1000])
    for count in parser.parse_args().members:
        measure(count)


if __name__ == "__main__":
    main()
