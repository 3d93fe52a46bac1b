"""The small HTTP server behind PROMETHEUS listeners, in the data plane's own process and network namespace.

The engine treats it as the only member of a pool of its own, so such a listener has limits, timeouts and TLS like any
other, and its metrics are made apart from the engine threads. It listens on loopback alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from amphorad.model import Member, Mode, Pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from amphorad.model import LoadBalancer

__all__ = ["Exporter", "with_exporter"]

EXPORTER = "prometheus-exporter-internal"  # HAProxy's name for it (Octavia contract section 4.6)
HEAD_LIMIT_BYTES = 32768
IDLE_S = 30.0
MAX_CLIENTS = 64


def with_exporter(load_balancer: LoadBalancer, port: int) -> LoadBalancer:
    """PROMETHEUS listeners get a pool whose only member is the exporter."""
    if not port or not any(listener.is_prometheus for listener in load_balancer.listeners):
        return load_balancer
    pool = Pool(id=EXPORTER, mode=Mode.HTTP, members=(Member(id=EXPORTER, address="127.0.0.1", port=port),))
    listeners = tuple(
        replace(listener, pools=(pool,), default_pool=pool.id) if listener.is_prometheus else listener
        for listener in load_balancer.listeners
    )
    return replace(load_balancer, listeners=listeners)


class Exporter:
    """Answers any GET or HEAD with what `render` gives, made in a thread.

    Args:
        render: the metrics, as text of the content type `content_type`.
    """

    def __init__(self, render: Callable[[], tuple[bytes, str]]) -> None:
        self._render = render
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._on_client, sock=self._listening, limit=HEAD_LIMIT_BYTES)

    async def close(self) -> None:
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        self._listening.close()

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if len(self._clients) <= MAX_CLIENTS:
                async with asyncio.timeout(IDLE_S):
                    await self._answer(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # the client is gone, too slow, or we are stopping
        finally:
            self._clients.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method = head.split(b" ", 1)[0]
        if method not in (b"GET", b"HEAD"):
            writer.write(b"HTTP/1.1 501 Not Implemented\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        else:
            body, content_type = await asyncio.to_thread(self._render)
            writer.write(
                b"HTTP/1.1 200 OK\r\ncache-control: no-cache\r\ncontent-type: %b\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n" % (content_type.encode(), len(body))
            )
            if method == b"GET":
                writer.write(body)
        await writer.drain()
