"""Everything around a pair of load balancers, in one process: three members, and clients of any address.

    nsenter --net=/run/netns/NAME python tests/support/neighbour.py MEMBERS_ADDRESS FIRST_PORT

Prints `ready` when the members m1, m2 and m3 listen on FIRST_PORT and the two after it. Then each line of its input,
`SOURCE ADDRESS PORT`, is a request from SOURCE, answered with a line that names the member ("-": no answer in TIMEOUT_S).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys

TIMEOUT_S = 3.0


async def _member(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name.encode()))
            await writer.drain()
    writer.close()


async def _ask(source: str, address: str, port: str) -> str:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(address, int(port), local_addr=(source, 0))
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            if answer.startswith(b"HTTP/1.1 200 "):
                return answer.rpartition(b"\r\n\r\n")[2].decode()
    return "-"


async def main() -> None:
    address, first = sys.argv[1], int(sys.argv[2])
    for place, name in enumerate(("m1", "m2", "m3")):
        await asyncio.start_server(functools.partial(_member, name), address, first + place)
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(await _ask(*line.split()), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
