"""Whether the data plane's main loop still says something."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from amphorad.child import DataPlaneProcess

__all__ = ["SilenceWatch"]

log = logging.getLogger(__name__)

LIMIT_S = 6.0  # a data plane says something every two seconds


class SilenceWatch:
    """Tells of a data plane whose main loop hangs, and when it answers again.

    Only says so: its engine threads may well go on, and killing it would cost their sessions.
    """

    def __init__(self, on_alarm: Callable[[str], None]) -> None:
        self._on_alarm = on_alarm
        self._silent: DataPlaneProcess | None = None  # an alarm has been raised for it

    def look(self, child: DataPlaneProcess, now: float) -> None:
        silence_s = now - child.heard_at
        is_silent = child.is_serving and silence_s > LIMIT_S
        if is_silent and self._silent is not child:
            self._silent = child
            what = "health checks and applies wait, sessions go on if only its main loop hangs"
            self._on_alarm(f"data plane pid={child.pid} has not answered for {silence_s:.0f} s: {what}")
        elif not is_silent and self._silent is not None:
            if self._silent is child and child.is_running:
                log.warning("data plane answers again pid=%d", child.pid)
            self._silent = None
