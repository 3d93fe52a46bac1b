"""The verdict about this node, written where keepalived and the check script read it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from typing import TYPE_CHECKING, Final

from amphorad.files import make_directory
from amphorad.vrrp.check_script import write_processes
from amphorad.vrrp.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from amphorad.vrrp.paths import Paths

__all__ = ["HealthFiles"]

log = logging.getLogger(__name__)

LOOK_S: Final = 0.2  # a change that nobody told of is seen after this time


class HealthFiles:
    """Keeps `fault` and `processes` true. `run` is a task of the owner; `wake` makes it look at once.

    Args:
        is_healthy: the fact of the moment.
        data_planes: process ids of the data planes that serve.
    """

    def __init__(self, paths: Paths, is_healthy: Callable[[], bool], data_planes: Callable[[], Sequence[int]]) -> None:
        self._paths = paths
        self._is_healthy = is_healthy
        self._data_planes = data_planes
        self._verdict = Verdict()
        self._known: tuple[int, ...] | None = None
        self._woken = asyncio.Event()

    @property
    def is_good(self) -> bool:
        return self._verdict.is_good

    def prepare(self) -> None:
        """Makes both files, before keepalived looks for them; goes on from what an earlier agent said.

        Raises:
            OSError.
        """
        make_directory(self._paths.runtime)
        with contextlib.suppress(FileNotFoundError):
            self._verdict = Verdict(self._paths.fault.read_text().strip() == "0")
        self._write_fault()
        self._known = None
        self.look()

    def look(self) -> None:
        """Writes what has changed.

        Raises:
            OSError.
        """
        pids = tuple(self._data_planes())
        if pids != self._known:
            write_processes(self._paths.processes, os.getpid(), pids)
            self._known = pids
        if self._verdict.see(self._is_healthy(), time.monotonic()):
            log.warning("this node %s", "can serve" if self._verdict.is_good else "cannot serve: it lets the VIPs go")
            self._write_fault()

    def resign(self) -> None:
        """Says that this node does not serve any more, before it stops.

        Raises:
            OSError.
        """
        self._verdict = Verdict(is_good=False)
        self._write_fault()

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            due_s = self._verdict.due_s(time.monotonic())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S if due_s is None else min(LOOK_S, due_s)):
                    await self._woken.wait()
            self._woken.clear()
            try:
                self.look()
            except OSError as error:
                log.error("health cannot be written path=%s reason=%s", self._paths.runtime, error)

    def _write_fault(self) -> None:
        # In place and of one length, so keepalived never reads a half; it looks when the file is closed.
        descriptor = os.open(self._paths.fault, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, b"0\n" if self._verdict.is_good else b"1\n")
        finally:
            os.close(descriptor)
