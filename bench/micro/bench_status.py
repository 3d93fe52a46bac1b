"""What a status of many members costs, and how long it keeps the event loop from other work.

    python bench/micro/bench_status.py [--members 5000] [--rounds 5]

Builds and encodes the status of one load balancer from a board on which every second member has counted something, in
another thread, as the admin socket does; meanwhile a timer of the loop wants to run every 10 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import msgspec

from amphorad.board import Board, Kind, LastCheck
from amphorad.model import Listener, LoadBalancer, Member, Mode, Pool
from amphorad.status import ListenerStatus, build_listeners

CHECK = LastCheck("UP", "L7OK", "Layer7 check passed", "", 200, 0.003, 1.0, 2.0, 10, 1, 0)
POOLS = 50
TICK_S = 0.01


def fill(board: Board, count: int) -> LoadBalancer:
    board.claim(Kind.LISTENER, "l")
    pools = []
    for place in range(POOLS):
        name = f"pool-{place:032}"
        board.claim(Kind.POOL, "l", name)
        members = []
        for number in range(count // POOLS):
            member = Member(id=f"member-{number:029}", address="10.0.0.1", port=80, checked=True)
            slot = board.claim(Kind.MEMBER, "l", name, member.id)
            board.show_check(slot, CHECK)
            if number % 2:
                at = board.tables_at - (board.slots * board.threads - slot) * 512  # its row of the first thread
                board.memory[at] = 1
            members.append(member)
        pools.append(Pool(id=name, mode=Mode.HTTP, members=tuple(members)))
    listener = Listener(id="l", mode=Mode.HTTP, binds=(), default_pool=pools[0].id, pools=tuple(pools))
    return LoadBalancer(id="lb", listeners=(listener,))


async def measure(rounds: int, load_balancer: LoadBalancer, board: Board) -> None:
    late: list[float] = []

    async def tick() -> None:
        while True:
            then = time.monotonic()
            await asyncio.sleep(TICK_S)
            late.append(time.monotonic() - then - TICK_S)

    def build() -> bytes:
        status: tuple[ListenerStatus, ...] = build_listeners(load_balancer, board)
        return msgspec.json.encode(status)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.2)
    idle = max(late)
    late.clear()
    then = time.monotonic()
    for _round in range(rounds):
        encoded = await asyncio.to_thread(build)
    took = (time.monotonic() - then) / rounds
    ticking.cancel()
    late.sort()
    print(
        f"{took * 1e3:.0f} ms for {len(encoded) >> 10} KiB; the loop was late by p50 {late[len(late) // 2] * 1e3:.1f} ms,"
        f" max {late[-1] * 1e3:.1f} ms (idle: max {idle * 1e3:.1f} ms)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    board = Board.create(2)
    load_balancer = fill(board, options.members)
    asyncio.run(measure(options.rounds, load_balancer, board))


if __name__ == "__main__":
    main()
