"""One mutating call at a time, and an answer in time for each.

The stock agent serves one request at a time, and the controller relies on it: what it sends in one order takes effect in that
order (Octavia contract section 1.1). The controller waits 60 s for an answer and then repeats the call, so a call that has not come
to its turn, or has not ended, by then is answered with an error; an operation that has begun goes on to its end all the same,
also when its client has gone, because half an operation is worse than one that nobody waits for.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

from amphorad.errors import AmphoradError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["ANSWER_WITHIN_S", "Mutations", "NotInTime"]

ANSWER_WITHIN_S = 50.0  # the controller's `rest_request_read_timeout` is 60

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class NotInTime(AmphoradError):
    """A call was not answered because it, or those before it, took too long; the text is for the controller's log."""


class Mutations:
    """Runs operations one after the other, in the order in which they came.

    Args:
        answer_within_s: after this time a call fails with `NotInTime`.
    """

    def __init__(self, answer_within_s: float = ANSWER_WITHIN_S) -> None:
        self._answer_within_s = answer_within_s
        self._turn = asyncio.Lock()
        self._running: asyncio.Task[object] | None = None
        self._closed = False

    async def run(self, operation: Callable[[], Awaitable[_T]]) -> _T:
        """Runs an operation at its turn and gives its result.

        Raises:
            NotInTime: it has not begun, or goes on behind our back.
            Exception: whatever the operation raises.
        """
        deadline = asyncio.get_running_loop().time() + self._answer_within_s
        try:
            async with asyncio.timeout_at(deadline):
                await self._turn.acquire()
        except TimeoutError:
            raise NotInTime("other calls are still being worked on; nothing has been changed") from None
        if self._closed:
            self._turn.release()
            raise NotInTime("the agent ends; nothing has been changed")

        task = asyncio.create_task(_completed(operation), name="agent-api-mutation")
        self._running = task
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait({task}, timeout=deadline - asyncio.get_running_loop().time())
        if not done:
            raise NotInTime("the call is still being worked on")
        return task.result()

    def _ended(self, task: asyncio.Task[_T]) -> None:
        self._running = None
        self._turn.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("operation failed error=%r", error)  # who waits for it gets it too; nobody may wait any more

    async def close(self, timeout_s: float) -> None:
        """Begins no other operation, waits for the one that is running, and cancels it after `timeout_s`."""
        self._closed = True
        task = self._running
        if task is None:
            return
        await asyncio.wait({task}, timeout=timeout_s)
        if not task.done():
            _log.warning("operation cancelled because the agent ends after_s=%g", timeout_s)
            task.cancel()
            await asyncio.wait({task}, timeout=timeout_s)


async def _completed(operation: Callable[[], Awaitable[_T]]) -> _T:
    return await operation()
