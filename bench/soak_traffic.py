"""Traffic of the soak run: what clients do, how each answer is checked, and which failures have an excuse.

The members are those of load/backend.c. Every activity is one client connection (or a few) from begin to end. A failure is
excused only when a member was killed while that request was under way, or up to 0.3 s before it began (it may have gone out
on a kept member connection whose end had not been noticed yet). Applying a configuration excuses nothing.
"""

from __future__ import annotations

import asyncio
import collections
import random
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["ACTIVITIES", "Ledger", "Wrong", "client_loop"]

TIMEOUT_S = 30.0
KILL_SHADOW_S = 0.3
PAGES = {"/200": 200, "/10k": 10240, "/256k": 262144, "/1m": 1 << 20}
HUGE = 16 << 20
_PATTERN = bytes(range(ord("a"), ord("z") + 1)) * (HUGE // 26 + 2)
_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_TLS.check_hostname = False
_TLS.verify_mode = ssl.CERT_NONE  # certificates are compared
_RESET = struct.pack("ii", 1, 0)


class Wrong(Exception):
    """An answer that is not the wanted one."""


@dataclass(slots=True)
class Ledger:
    """Counts and the memory of disturbances.

    Attributes:
        done: finished operations by activity.
        excused: failures that a killed member explains, by activity.
        failures: what must not happen, in words; the first 50 only.
        failed: number of those.
        kills: times (monotonic) at which a member was killed; only the last 64 matter.
        certificates: of the https listener, DER, oldest first.
        in_force: place of the one that an apply has put in force; new connections get that one or a newer one.
    """

    done: collections.Counter[str] = field(default_factory=collections.Counter)
    excused: collections.Counter[str] = field(default_factory=collections.Counter)
    failures: list[str] = field(default_factory=list)
    failed: int = 0
    kills: collections.deque[float] = field(default_factory=lambda: collections.deque(maxlen=64))
    began: float = field(default_factory=time.monotonic)
    certificates: list[bytes] = field(default_factory=list)
    in_force: int = 0

    def is_excused(self, began: float, ended: float) -> bool:
        """Whether a member was killed in a way that explains a failure between these times."""
        return any(began < kill + KILL_SHADOW_S and ended > kill for kill in self.kills)

    def fail(self, name: str, began: float, error: BaseException) -> None:
        """Book a failure of an operation that began at `began`."""
        now = time.monotonic()
        if self.is_excused(began, now):
            self.excused[name] += 1
            return
        self.failed += 1
        if len(self.failures) < 50:
            last = min((now - kill for kill in self.kills), default=float("inf"))
            self.failures.append(
                f"{name} at {now - self.began:.2f} s, begun {now - began:.3f} s before, last kill {last:.2f} s ago: {error!r}"
            )


@dataclass(slots=True)
class Client:
    """One client connection; `began` is the start of the request under way."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ledger: Ledger
    began: float

    @classmethod
    async def connect(
        cls, port: int, ledger: Ledger, *, receive_buffer: int | None = None, tls: bool = False
    ) -> Client:
        """Connect to 127.0.0.1; a small receive buffer makes a slow reader felt by the other side.

        Raises:
            Wrong: the certificate is an older one than that in force.
        """
        began, in_force = time.monotonic(), ledger.in_force
        sock = socket.socket()
        try:
            sock.setblocking(False)
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(
                sock=sock,
                limit=receive_buffer or 1 << 18,
                ssl=_TLS if tls else None,
                server_hostname="" if tls else None,
            )
            if tls and writer.get_extra_info("ssl_object").getpeercert(True) not in ledger.certificates[in_force:]:
                writer.transport.abort()
                raise Wrong("the certificate of before an apply, or a strange one")
        except BaseException:
            sock.close()
            raise
        return cls(reader, writer, ledger, began)

    def close(self, *, reset: bool = False) -> None:
        """Close in order, or with a reset."""
        if self.writer.is_closing():
            return
        sock = self.writer.get_extra_info("socket")
        if reset and sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.writer.transport.abort()
        self.writer.close()

    async def answer(self, size: int, *, chunk: int = 1 << 18, pause_s: float = 0.0) -> bool:
        """Read one whole answer of `size` pattern bytes; whether the connection stays open.

        Raises:
            Wrong: another status, another size or other bytes.
        """
        head = await self.reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise Wrong(head.split(b"\r\n", 1)[0].decode("latin-1"))
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        if int(fields.get(b"content-length", b"-1")) != size:
            raise Wrong(f"content-length {fields.get(b'content-length')!r}, not {size}")
        got = 0
        while got < size:
            data = await self.reader.read(min(chunk, size - got))
            if not data:
                raise Wrong(f"closed after {got} of {size} body bytes")
            at = got % 26
            if data != _PATTERN[at : at + len(data)]:
                raise Wrong(f"other bytes near {got}")
            got += len(data)
            if pause_s:
                await asyncio.sleep(pause_s)
        return fields.get(b"connection") != b"close"

    async def get(self, path: str, size: int, *, close: bool = False) -> bool:
        """One GET; whether the connection stays open."""
        self.began = time.monotonic()
        self.writer.write(_head("GET", path, close=close))
        return await self.answer(size)


def _head(method: str, path: str, *, close: bool = False, length: int | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: soak.local", f"User-Agent: soak/{random.randint(1, 99)}"]
    if close:
        lines.append("Connection: close")
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def _page() -> tuple[str, int]:
    path = random.choices(tuple(PAGES), (60, 25, 10, 5))[0]
    return path, PAGES[path]


async def _keep_alive(client: Client) -> None:
    for _ in range(random.randint(1, 20)):
        if not await client.get(*_page()):
            return
        if random.random() < 0.2:
            await asyncio.sleep(random.random() * 0.05)


async def _short(client: Client) -> None:
    await client.get(*_page(), close=True)
    if await client.reader.read(1):
        raise Wrong("bytes after the last answer")


async def _pipelined(client: Client) -> None:
    pages = [_page() for _ in range(random.randint(2, 5))]
    client.writer.write(b"".join(_head("GET", path) for path, _ in pages))
    for _, size in pages:
        await client.answer(size)


async def _in_pieces(client: Client) -> None:
    path, size = _page()
    head = _head("GET", path)
    while head:
        cut = random.randint(1, max(1, len(head) // 3))
        client.writer.write(head[:cut])
        head = head[cut:]
        await asyncio.sleep(random.random() * 0.02)
    await client.answer(size)


async def _abort(client: Client) -> None:
    """Leave at a random point; nothing to check but that nobody else suffers."""
    point = random.choice(("connected", "half head", "head", "half body", "answer", "half answer"))
    head = _head("POST", "/10k", length=100000) if point == "half body" else _head("GET", "/1m")
    if point != "connected":
        client.writer.write(head[: len(head) // 2] if point == "half head" else head)
    if point == "half body":
        client.writer.write(_PATTERN[: random.randint(0, 90000)])
    if point in ("answer", "half answer"):
        await client.reader.read(random.randint(1, 400 if point == "answer" else 300000))
    elif random.random() < 0.5:
        await asyncio.sleep(random.random() * 0.01)
    client.close(reset=random.random() < 0.5)


async def _slow_reader(client: Client) -> None:
    client.began = time.monotonic()
    client.writer.write(_head("GET", "/1m"))
    await client.answer(1 << 20, chunk=16384, pause_s=random.random() * 0.03)


async def _huge(client: Client) -> None:
    await client.get("/16m", HUGE)


async def _upload(client: Client) -> None:
    for _ in range(random.randint(1, 3)):
        size = random.choice((1, 1000, 16384, 300000, 4 << 20))
        client.began = time.monotonic()
        client.writer.write(_head("POST", "/200", length=size))
        for start in range(0, size, 65536):
            client.writer.write(_PATTERN[: min(65536, size - start)])
            await client.writer.drain()
        await client.answer(200)


async def _idle(client: Client) -> None:
    await client.get("/200", 200)
    await asyncio.sleep(random.uniform(1.0, 6.0))
    await client.get("/200", 200)


async def _upgrade(client: Client) -> None:
    client.writer.write(
        b"GET /upgrade HTTP/1.1\r\nHost: soak.local\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    head = await client.reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101"):
        raise Wrong(head.split(b"\r\n", 1)[0].decode("latin-1"))
    await _echo(client)


async def _echo(client: Client) -> None:
    for _ in range(random.randint(1, 20)):
        message = random.randbytes(random.choice((1, 20, 128, 1400, 70000)))
        client.writer.write(message)
        if await client.reader.readexactly(len(message)) != message:
            raise Wrong("other bytes came back")
        if random.random() < 0.2:
            await asyncio.sleep(random.random() * 0.2)


async def _half_close(client: Client) -> None:
    """Send, shut the sending side, and still get everything back."""
    message = random.randbytes(random.choice((1, 5000, 100000)))
    client.writer.write(message)
    client.writer.write_eof()
    got = await client.reader.read(-1)
    if got != message:
        raise Wrong(f"{len(got)} of {len(message)} bytes came back after a half-close")


async def _tcp_abort(client: Client) -> None:
    client.writer.write(random.randbytes(random.randint(1, 100000)))
    if random.random() < 0.5:
        await client.reader.read(random.randint(1, 2000))
    client.close(reset=random.random() < 0.7)


async def _bulk(client: Client) -> None:
    size = random.randint(1, 8 << 20)
    client.writer.write(b"d" + struct.pack("<Q", size))
    got = 0
    while got < size:
        data = await client.reader.read(1 << 18)
        if not data:
            raise Wrong(f"stream closed after {got} of {size} bytes")
        at = got % 26
        if data != _PATTERN[at : at + len(data)]:
            raise Wrong(f"other bytes near {got} of the stream")
        got += len(data)


@dataclass(frozen=True, slots=True)
class Activity:
    """What a client may do.

    Attributes:
        name: in reports.
        kind: endpoint kind it talks to.
        weight: how often, relative to the others.
        run: the activity itself.
        checked: False when the client leaves on purpose and errors mean nothing.
        receive_buffer: SO_RCVBUF of the client in bytes, None for the default.
    """

    name: str
    kind: str
    weight: int
    run: Callable[[Client], Awaitable[None]]
    checked: bool = True
    receive_buffer: int | None = None


ACTIVITIES = (
    Activity("keep-alive", "http", 40, _keep_alive),
    Activity("short", "http", 30, _short),
    Activity("pipelined", "http", 6, _pipelined),
    Activity("in-pieces", "http", 5, _in_pieces),
    Activity("abort", "http", 20, _abort, checked=False),
    Activity("slow-reader", "http", 3, _slow_reader, receive_buffer=16384),
    Activity("huge", "http", 1, _huge),
    Activity("upload", "http", 6, _upload),
    Activity("idle", "http", 4, _idle),
    Activity("upgrade", "http", 6, _upgrade),
    Activity("tls-keep-alive", "https", 20, _keep_alive),
    Activity("tls-short", "https", 10, _short),
    Activity("tls-pipelined", "https", 3, _pipelined),
    Activity("tls-abort", "https", 10, _abort, checked=False),
    Activity("tls-slow-reader", "https", 2, _slow_reader, receive_buffer=16384),
    Activity("tls-upload", "https", 4, _upload),
    Activity("tls-idle", "https", 3, _idle),
    Activity("tls-upgrade", "https", 3, _upgrade),
    Activity("tcp-echo", "echo", 12, _echo),
    Activity("tcp-half-close", "echo", 6, _half_close),
    Activity("tcp-abort", "echo", 8, _tcp_abort, checked=False),
    Activity("tcp-bulk", "bulk", 3, _bulk),
)
_WEIGHTS = [activity.weight for activity in ACTIVITIES]


async def client_loop(ports: dict[str, int], ledger: Ledger, stop: asyncio.Event) -> None:
    """One client after the other until `stop`."""
    while not stop.is_set():
        activity = random.choices(ACTIVITIES, _WEIGHTS)[0]
        began, client = time.monotonic(), None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                client = await Client.connect(
                    ports[activity.kind], ledger, receive_buffer=activity.receive_buffer, tls=activity.kind == "https"
                )
                await activity.run(client)
            ledger.done[activity.name] += 1
        # EOFError is also IncompleteReadError: the other side closed in the middle
        except (OSError, EOFError, TimeoutError, Wrong, ValueError, asyncio.LimitOverrunError) as error:
            if activity.checked:
                ledger.fail(activity.name, began if client is None else client.began, error)
        finally:
            if client is not None:
                client.close()
        await asyncio.sleep(random.random() * 0.01)
