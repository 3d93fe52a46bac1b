"""One epoll set for the sockets of all checks, itself watched by the event loop.

The loop's own watchers cost an object and two system calls per wait; here a socket is registered once, edge-triggered,
and leaves the set when it is closed.
"""

from __future__ import annotations

import logging
import select
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["BOTH_WAYS", "FAILED", "READABLE", "Poller"]

log = logging.getLogger(__name__)

READABLE: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
FAILED: Final = select.EPOLLERR | select.EPOLLHUP
BOTH_WAYS: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_EVENTS_AT_ONCE: Final = 256


class Poller:
    """Calls back with the event mask. It owns its epoll descriptor, not the sockets.

    A callback may close any socket but must not open one: a number that is used again within one round would get the
    events of the one before. `run` of the monitor opens sockets, from timers only.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._on_ready)

    def add(self, descriptor: int, callback: Callable[[int], None], events: int = BOTH_WAYS) -> None:
        self._epoll.register(descriptor, events)
        self._callbacks[descriptor] = callback

    def forget(self, descriptor: int) -> None:
        """Before its socket is closed, which takes it out of the set: nothing else holds that socket."""
        self._callbacks.pop(descriptor, None)

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._callbacks.clear()

    def _on_ready(self) -> None:
        callbacks = self._callbacks
        for descriptor, mask in self._epoll.poll(0, _EVENTS_AT_ONCE):
            callback = callbacks.get(descriptor)
            if callback is None:
                continue
            try:
                callback(mask)
            except Exception:
                # The others' events come only once, so one broken check must not cost them theirs; it will time out.
                log.exception("health check failed inside descriptor=%d", descriptor)
