"""Admin log lines of the data plane: what HAProxy tells an operator of members and pools, sent to the file's log targets.

Each target of the file gets what is severe enough for it, so Octavia's two (`local0`, and `local1 notice`) both get state
changes, as from HAProxy. A line is one RFC 3164 datagram without a host name, under HAProxy's tag, on which log
pipelines select (Octavia contract section 4.13).
"""

from __future__ import annotations

import collections
import os
import socket
import time
from enum import IntEnum
from typing import TYPE_CHECKING

from amphorad.proxy.log_format import FACILITIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amphorad.model import LogTarget

__all__ = ["AdminLog", "Severity", "datagram"]

WAITING_LIMIT = 4096
LINE_LIMIT_BYTES = 1024
"""HAProxy cuts its lines there too (configuration manual 3.1, log ... len)."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Severity(IntEnum):
    """By the names that a `log` line of the file uses."""

    EMERG = 0
    ALERT = 1
    CRIT = 2
    ERR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


def datagram(facility: str, severity: Severity, text: str, at: float, pid: int) -> bytes:
    """`<PRI>Mmm dd hh:mm:ss haproxy[pid]: text` in local time; months are English whatever the locale (RFC 3164 4.1.2)."""
    moment = time.localtime(at)
    month = _MONTHS[moment.tm_mon - 1]
    clock = time.strftime("%H:%M:%S", moment)
    head = f"<{FACILITIES[facility] * 8 + severity}>{month} {moment.tm_mday:2d} {clock} haproxy[{pid}]: "
    line = (head + text).encode(errors="replace")
    return line[: LINE_LIMIT_BYTES - 1] + b"\n"


class AdminLog:
    """Sends lines to log targets and never waits for one.

    Lines that a target does not take at once wait, WAITING_LIMIT of them at most, for the next `flush`; beyond that the
    oldest are dropped. The socket is not connected, so a log daemon that was restarted is found again by itself.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None  # opened by the first line
        self._targets: tuple[LogTarget, ...] = ()
        self._override: str | None = None
        self._waiting: collections.deque[tuple[str, bytes]] = collections.deque()
        self._lost = 0
        self._has_failed = False
        self._alarms: list[str] = []

    def use(self, targets: Sequence[LogTarget], override: str | None = None) -> None:
        """From now on these. `override` takes the place of each target's path; "" sends nothing."""
        self._targets = tuple(targets) if override != "" else ()
        self._override = override

    def write(self, severity: Severity, text: str, at: float | None = None) -> None:
        """One line, to each target that wants its severity. `at`: wall time, that of the call when None."""
        at = time.time() if at is None else at
        for target in self._targets:
            if target.minimum_severity is None or severity <= Severity[target.minimum_severity.upper()]:
                line = datagram(target.facility, severity, text, at, os.getpid())
                self._waiting.append((self._override or target.path, line))
        while len(self._waiting) > WAITING_LIMIT:
            self._waiting.popleft()
            self._lost += 1
        self.flush()

    def flush(self) -> None:
        """Sends what waits."""
        while self._waiting:
            path, line = self._waiting[0]
            try:
                if self._socket is None:
                    self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                self._socket.sendto(line, path)
            except BlockingIOError:
                break
            except OSError as error:
                self._lost += 1
                self._waiting.popleft()
                if not self._has_failed:
                    self._has_failed = True
                    text = f"admin log lost: {path}: {error.strerror} ({self._lost} lines dropped so far)"
                    self._alarms.append(text)
                continue
            self._has_failed = False
            self._waiting.popleft()

    def alarms(self) -> list[str]:
        """Each once, when lines begin to be lost."""
        alarms, self._alarms = self._alarms, []
        return alarms

    @property
    def lost(self) -> int:
        """Lines that no target got."""
        return self._lost

    def close(self) -> None:
        self.flush()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
