"""Netlink in a thread of its own: pyroute2's asynchronous API needs an event loop of asyncio's, and the agent runs on uvloop.

The thread enters the namespace first (a namespace belongs to a thread, not to a process); its sockets stay there. When the
namespace was deleted and made again meanwhile, the next call gets a new thread in the new one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, TypeVar

from pyroute2 import AsyncIPRoute

from amphorad.namespace_entry import enter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path
    from typing import Any

__all__ = ["Netlink"]

T = TypeVar("T")

logging.getLogger("pyroute2").setLevel(logging.INFO)  # at DEBUG it logs every message of the kernel


class Netlink:
    """Runs coroutines that speak netlink, one after the other in its own thread; awaitable from any event loop.

    Args:
        namespace: file of the namespace; None for the one of the process.
    """

    def __init__(self, namespace: Path | None = None) -> None:
        self._namespace = namespace
        self._worker: _Worker | None = None

    async def run(self, work: Callable[[AsyncIPRoute], Coroutine[Any, Any, T]]) -> T:
        """What `work` gives; it goes on in the thread when the caller is cancelled, so that no step is half done.

        Raises:
            OSError: the namespace cannot be entered.
            pyroute2.NetlinkError: and whatever else `work` raises.
        """
        worker = self._current()
        return await asyncio.shield(
            asyncio.wrap_future(asyncio.run_coroutine_threadsafe(worker.call(work), worker.loop))
        )

    async def close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await asyncio.to_thread(worker.end)

    def _current(self) -> _Worker:
        identity = _identity(self._namespace)
        if self._worker is not None and self._worker.identity != identity:
            self._worker.end()
            self._worker = None
        if self._worker is None:
            self._worker = _Worker(self._namespace, identity)
        return self._worker


def _identity(namespace: Path | None) -> tuple[int, int] | None:
    if namespace is None:
        return None
    found = namespace.stat()
    return found.st_dev, found.st_ino


class _Worker:
    """The thread and its loop."""

    def __init__(self, namespace: Path | None, identity: tuple[int, int] | None) -> None:
        self.identity = identity
        self.loop: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop()
        self._namespace = namespace
        self._netlink: AsyncIPRoute | None = None
        self._turn = asyncio.Lock()
        self._failure: list[OSError] = []
        self._entered = threading.Event()
        self._thread = threading.Thread(target=self._live, name="netlink", daemon=True)
        self._thread.start()
        self._entered.wait()
        if self._failure:
            self._thread.join()
            raise self._failure[0]

    async def call(self, work: Callable[[AsyncIPRoute], Coroutine[Any, Any, T]]) -> T:
        """In the thread: one call at a time on one socket, which is opened at the first."""
        async with self._turn:
            if self._netlink is None:
                self._netlink = AsyncIPRoute()
                await self._netlink.setup_endpoint()
            try:
                return await work(self._netlink)
            except OSError:
                await self._close_socket()  # perhaps it is the socket
                raise

    def end(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close_socket(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    async def _close_socket(self) -> None:
        netlink, self._netlink = self._netlink, None
        if netlink is not None:
            netlink.close()

    def _live(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            if self._namespace is not None:
                enter(self._namespace)
        except OSError as error:
            self._failure.append(error)
            self._entered.set()
            self.loop.close()
            return
        self._entered.set()
        self.loop.run_forever()
        self.loop.close()
