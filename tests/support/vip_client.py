"""Asks a VIP for a page once every 10 ms, each time on a new connection, until SIGTERM; prints what came of it as JSON.

    nsenter --net=/run/netns/NAME python tests/support/vip_client.py ADDRESS PORT

Prints `ready` after the first good answer. The result holds, in monotonic seconds, when each request was sent, and when its good answer had
been read (null: none within the timeout).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time

PERIOD_S = 0.01
TIMEOUT_S = 1.0


async def _ask(address: str, port: int, results: list[tuple[float, float | None]]) -> None:
    began = time.monotonic()
    done = None
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                if (await reader.readline()).split()[1:2] == [b"200"] and await reader.read():
                    done = time.monotonic()
            finally:
                writer.transport.abort()
    results.append((began, done))
    if done is not None and sum(1 for _began, end in results if end is not None) == 1:
        print("ready", flush=True)


async def main() -> None:
    address, port = sys.argv[1], int(sys.argv[2])
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    results: list[tuple[float, float | None]] = []
    tasks = set()
    due = time.monotonic()
    while not ended.is_set():
        task = asyncio.create_task(_ask(address, port, results))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        due = max(due + PERIOD_S, time.monotonic() - 1.0)  # a machine that was held up does not make it all up
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    await asyncio.gather(*tasks)
    print(json.dumps(results), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
