"""Many members and many clients in one event loop, for tests that change or kill things under load.

Every request and every message must be answered; what is not is in `Load.failures`, with what happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = ["Load", "Members"]

REQUEST = b"GET / HTTP/1.1\r\nHost: lb\r\n\r\n"
SHORT_REQUEST = b"GET / HTTP/1.1\r\nHost: lb\r\nConnection: close\r\n\r\n"
ANSWER_S = 10.0


class _Member(asyncio.Protocol):
    """Answers HTTP requests without a body with its port, any number on a connection."""

    def __init__(self, members: Members, port: int) -> None:
        self._members = members
        self._port = port
        self._got = b""
        body = str(port).encode()
        self._answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._members.transports.add(transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._got = (self._got + data).split(b"\r\n\r\n")
        for _head in heads:
            self._members.requests[self._port] += 1
            self._transport.write(self._answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._members.transports.discard(self._transport)


class Members:
    """`async with Members(200) as members:` listens on that many ports."""

    def __init__(self, count: int, address: str = "127.0.0.1") -> None:
        self._count = count
        self._address = address
        self._servers: list[asyncio.Server] = []
        self.ports: list[int] = []
        self.requests: Counter[int] = Counter()
        self.transports: set[asyncio.Transport] = set()

    async def __aenter__(self) -> Members:
        loop = asyncio.get_running_loop()
        for _number in range(self._count):
            # the port is known only once the server is there, and the protocol wants to know it
            known: list[int] = []
            server = await loop.create_server(lambda known=known: _Member(self, known[0]), self._address, 0)
            known.append(server.sockets[0].getsockname()[1])
            self._servers.append(server)
            self.ports += known
        return self

    async def __aexit__(self, *_unused: object) -> None:
        for server in self._servers:
            server.close()
        for transport in list(self.transports):
            transport.abort()
        await asyncio.sleep(0)


class Load:
    """Clients that ask one request after the other until the block is left.

    Args:
        http: port of an HTTP listener.
        tcp: port of a TCP listener with the same members.
        keep_alive, short, held: how many clients keep a connection, make one per request, hold a TCP session.
        address: of both ports.
    """

    def __init__(
        self,
        http: int,
        tcp: int,
        *,
        keep_alive: int = 0,
        short: int = 0,
        held: int = 0,
        address: str = "127.0.0.1",
    ) -> None:
        self._address = address
        self._http = http
        self._tcp = tcp
        self._numbers = (keep_alive, short, held)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.answered = 0
        self._wanted = 0
        self._reached = asyncio.Event()
        self.longest_s = 0.0
        self.failures: list[str] = []

    async def __aenter__(self) -> Load:
        keep_alive, short, held = self._numbers
        kinds = [self._keep_alive] * keep_alive + [self._short] * short + [self._held] * held
        self._tasks = [asyncio.create_task(kind(), name=kind.__name__) for kind in kinds]
        return self

    async def __aexit__(self, *_unused: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def wait_answered(self, more: int) -> None:
        """Until that many more requests have been answered."""
        self._wanted = self.answered + more
        self._reached.clear()
        async with asyncio.timeout(15):
            await self._reached.wait()

    async def _keep_alive(self) -> None:
        await self._repeat("keep-alive", self._http)

    async def _held(self) -> None:
        await self._repeat("tcp session", self._tcp)

    async def _repeat(self, kind: str, port: int) -> None:
        """On one connection, or the next where an answer says that it is the last (RFC 9112 section 9.6)."""
        with self._noting(kind):
            while not self._stopping:
                reader, writer = await asyncio.open_connection(self._address, port)
                with contextlib.closing(writer):
                    while not self._stopping and await self._exchange(reader, writer, REQUEST):
                        pass

    async def _short(self) -> None:
        while not self._stopping:
            with self._noting("short"):
                await self._timed(self._one_connection)

    async def _one_connection(self) -> None:
        reader, writer = await asyncio.open_connection(self._address, self._http)
        with contextlib.closing(writer):
            await self._exchange(reader, writer, SHORT_REQUEST)

    async def _timed(self, action: Callable[[], Awaitable[None]]) -> None:
        began = time.monotonic()
        await action()
        self.longest_s = max(self.longest_s, time.monotonic() - began)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bool:
        """Whether another request may follow."""
        writer.write(request)
        async with asyncio.timeout(ANSWER_S):
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise ValueError(head.split(b"\r\n")[0].decode())
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        self.answered += 1
        if self.answered >= self._wanted:
            self._reached.set()
        return b"connection: close" not in head.lower()

    @contextlib.contextmanager
    def _noting(self, kind: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.failures.append(f"{kind}: {error!r}")
