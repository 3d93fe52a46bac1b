"""Members that answer health checks in every good and bad way, on loopback, in the running event loop.

    async with HealthMembers() as members:
        port = await members.start("reset_after_request")

Each entry of BEHAVIOURS takes what the member has read so far from it. `members.requests[port]` holds what came before each answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BEHAVIOURS", "OK", "HealthMembers", "free_port", "make_certificate", "member_context", "reset"]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

BEHAVIOURS: dict[str, Any] = {}


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection with RST."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _behaviour(function: Any) -> Any:
    BEHAVIOURS[function.__name__] = function
    return function


def _answering(name: str, answer: bytes) -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await reader.read(-1)

    BEHAVIOURS[name] = behave


@_behaviour
async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del writer
    await reader.read(-1)


@_behaviour
async def close_at_accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del reader, writer


@_behaviour
async def reset_at_accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del reader
    reset(writer)


@_behaviour
async def close_after_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del writer
    await reader.readuntil(b"\r\n\r\n")


@_behaviour
async def reset_after_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    reset(writer)


@_behaviour
async def reset_after_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK)
    await writer.drain()
    reset(writer)


@_behaviour
async def close_in_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nfoo: b")


@_behaviour
async def stall_in_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n")
    await reader.read(-1)


@_behaviour
async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One byte at a time, and never done."""
    await reader.readuntil(b"\r\n\r\n")
    for byte in b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100000:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0.005)


@_behaviour
async def slow_good(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One byte at a time, and done soon."""
    await reader.readuntil(b"\r\n\r\n")
    for byte in OK:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0.001)
    await reader.read(-1)


@_behaviour
async def endless_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """100 MB of header fields, unless the other side gives up before."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for _block in range(100):
        writer.write(b"x-y: " + b"a" * 1_000_000 + b"\r\n")
        await writer.drain()


_answering("good", OK)
_answering("lf_only", b"HTTP/1.1 200 OK\ncontent-length: 0\n\n")
_answering("without_reason", b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n")
_answering("folded", b"HTTP/1.1 200 OK\r\na: b\r\n c\r\ncontent-length: 0\r\n\r\n")
_answering("error_500", b"HTTP/1.1 500 Internal Oops\r\ncontent-length: 0\r\n\r\n")
_answering("interim_100", b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
_answering("short_code", b"HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n")
_answering("garbage", b"\x00\x01hello world garbage\r\n\r\n")
_answering("http_09", b"<html>hi</html>")
_answering("bad_field", b"HTTP/1.1 200 OK\r\nfoo bar\r\n\r\n")
_answering("bad_length", b"HTTP/1.1 200 OK\r\ncontent-length: abc\r\n\r\n")
_answering("many_fields", b"HTTP/1.1 200 OK\r\n" + b"x: a234567890\r\n" * 1000 + b"\r\n")


class HealthMembers:
    """Starts members, and ends all of them."""

    def __init__(self) -> None:
        self.requests: dict[int, list[bytes]] = {}
        self.connections: dict[int, int] = {}
        self._behaviours: dict[int, Any] = {}
        self._servers: dict[int, asyncio.Server] = {}
        self._talks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> HealthMembers:
        return self

    async def __aexit__(self, *_unused: object) -> None:
        for port in list(self._servers):
            await self.stop(port)

    async def start(
        self, behaviour: Any, port: int = 0, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> int:
        """A member with a behaviour (a name or a function). Returns its port."""
        server = await asyncio.start_server(self._talk, host, port, ssl=tls, reuse_address=True)
        port = server.sockets[0].getsockname()[1]
        self._servers[port] = server
        self.become(port, behaviour)
        return port

    def become(self, port: int, behaviour: Any) -> None:
        """From the next connection on."""
        self._behaviours[port] = BEHAVIOURS[behaviour] if isinstance(behaviour, str) else behaviour

    async def stop(self, port: int) -> None:
        """Refuses connections from now on, and ends those that stand."""
        server = self._servers.pop(port)
        server.close()
        for talk in list(self._talks):
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        await server.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)
        port = writer.get_extra_info("sockname")[1]
        self.connections[port] = self.connections.get(port, 0) + 1
        recorded = _Recorded(reader, self.requests.setdefault(port, []))
        try:
            await self._behaviours[port](recorded, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        except RuntimeError:
            pass  # uvloop's word for a transport that is closed
        finally:
            writer.close()
            with contextlib.suppress(OSError, RuntimeError, asyncio.CancelledError, ssl.SSLError):
                await writer.wait_closed()


class _Recorded:
    """A reader that keeps the requests."""

    def __init__(self, reader: asyncio.StreamReader, requests: list[bytes]) -> None:
        self._reader = reader
        self._requests = requests

    async def readuntil(self, end: bytes) -> bytes:
        data = await self._reader.readuntil(end)
        self._requests.append(data)
        return data

    async def read(self, count: int) -> bytes:
        return await self._reader.read(count)


def free_port() -> int:
    """A port that refuses connections, as good as surely."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def make_certificate(directory: Path) -> Path:
    """A PEM file with a key and a certificate that nobody signed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl program is not installed")
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=member.example"
    subprocess.run(
        [openssl, *command.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    both = directory / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both


def member_context(certificate: Path, *protocols: str) -> ssl.SSLContext:
    """The TLS side of a member."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context
