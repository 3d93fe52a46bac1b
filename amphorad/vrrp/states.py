"""What keepalived says about itself: the lines of its named pipe, the state they lead to, and the states of late.

    INSTANCE "name" MASTER 100      state names: MASTER, BACKUP, FAULT, STOP; others tell of events that change no state

The pipe keeps what is written while no agent reads (64 KiB, a thousand lines), so the next agent learns what it missed.

Source: keepalived.conf(5), `vrrp_notify_fifo`.
"""

from __future__ import annotations

import collections
import contextlib
import os
import stat
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from amphorad.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Change", "History", "State", "open_events", "read_events"]

KEPT: Final = 100


class State(StrEnum):
    """The three of RFC 5798 as keepalived has them, and three for when there is no keepalived that could tell."""

    MASTER = "MASTER"
    BACKUP = "BACKUP"
    FAULT = "FAULT"
    STARTING = "starting"
    STOPPED = "stopped"
    NOT_CONFIGURED = "not configured"


_SAID: Final = {
    "MASTER": State.MASTER,
    "BACKUP": State.BACKUP,
    "FAULT": State.FAULT,
    "STOP": State.STOPPED,
}


class Change(msgspec.Struct, frozen=True):
    """A state and when it began.

    Args:
        at: monotonic seconds of this boot, the same for all processes.
        wall: seconds since the epoch, to be shown.
    """

    state: State
    at: float
    wall: float


class History:
    """The state of now, and those of late; kept in a file for the next agent and for whoever asks.

    Args:
        path: the file, of this boot.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changes: collections.deque[Change] = collections.deque(maxlen=KEPT)

    @property
    def state(self) -> State:
        return self._changes[-1].state if self._changes else State.NOT_CONFIGURED

    @property
    def since_s(self) -> float | None:
        """How long ago the state began; None without one."""
        return time.monotonic() - self._changes[-1].at if self._changes else None

    @property
    def changes(self) -> tuple[Change, ...]:
        """Oldest first."""
        return tuple(self._changes)

    def load(self) -> None:
        """Goes on from what an earlier agent has written; a file that cannot be read is as none."""
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            self._changes.extend(msgspec.json.decode(self._path.read_bytes(), type=list[Change]))

    def enter(self, state: State) -> bool:
        """Takes a state; whether it is another one than before.

        Raises:
            OSError: it is known here, and not written.
        """
        if state is self.state:
            return False
        self._changes.append(Change(state, time.monotonic(), time.time()))
        write_atomically(self._path, msgspec.json.encode(self.changes), 0o644)
        return True


def open_events(path: Path) -> int:
    """The reading end of the named pipe, which is made if it is not there; non-blocking, to be closed by the caller.

    Raises:
        OSError.
    """
    try:
        if not stat.S_ISFIFO(path.stat().st_mode):
            path.unlink()
    except FileNotFoundError:
        pass
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o600)
    # For writing too, so that the pipe does not end with keepalived, and keeps what nobody has read yet.
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def read_events(descriptor: int, rest: bytearray) -> Iterator[State]:
    """The states that wait in the pipe.

    Args:
        rest: the begin of a line that has not been written to its end; kept by the caller for the next call.
    """
    while True:
        try:
            data = os.read(descriptor, 65536)
        except BlockingIOError:
            return
        rest += data
        *lines, tail = bytes(rest).split(b"\n")
        rest[:] = tail[-1024:]
        for line in lines:
            words = line.decode(errors="replace").split()
            if len(words) >= 3 and words[0] == "INSTANCE" and words[2] in _SAID:
                yield _SAID[words[2]]
