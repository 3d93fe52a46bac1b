"""Since when listeners and members drain, and the end of their sessions when that lasts too long.

That end is an operator's option: without it, sessions last as long as their clients want.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amphorad.proxy.engine.engine import ListenerRuntime, MemberRuntime

__all__ = ["Draining"]


class Draining:
    """What drains.

    Args:
        limit_s: for so long; 0 for no limit, and then nothing is remembered.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since: dict[ListenerRuntime | MemberRuntime, float] = {}  # infinite once it is over

    def begin(self, runtime: ListenerRuntime | MemberRuntime, now: float) -> None:
        """It drains from now on, if it did not before."""
        if self._limit_s:
            self._since.setdefault(runtime, now)

    def end(self, runtime: ListenerRuntime | MemberRuntime) -> None:
        """It is in use again, or gone."""
        self._since.pop(runtime, None)

    def is_over(self, runtime: MemberRuntime) -> bool:
        """It still drains, but its sessions have been ended."""
        return self._since.get(runtime) == math.inf

    def evict_overdue(self, now: float) -> list[ListenerRuntime | MemberRuntime]:
        """Has the engine's next sweep end the sessions of what has drained for too long, once. Returns what that is."""
        due = [runtime for runtime, since in self._since.items() if now - since >= self._limit_s]
        for runtime in due:
            runtime.evict()
            self._since[runtime] = math.inf
        return due
