"""The directory that belongs to one supervisor at a time: its lock, and where a data plane that has outlived one waits for the next."""

from __future__ import annotations

import asyncio
import fcntl
import os
from typing import TYPE_CHECKING

from amphorad.adoption import Unresponsive, ask, kill_unresponsive, listen
from amphorad.errors import AmphoradError
from amphorad.messages import MessageError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from amphorad.adoption import Adoptee

__all__ = ["AlreadyRunning", "NotStarted", "StateDirectory", "survivor_names"]

ADOPTION_SOCKET = "adoption.sock"


class AlreadyRunning(AmphoradError):
    """Another process serves with the same state directory or admin socket."""


class NotStarted(AmphoradError):
    """The data plane does not start."""


def survivor_names(directory: Path) -> list[str]:
    """State directories in `directory` whose data plane may have outlived its supervisor, or may be supervised."""
    try:
        return sorted(path.name for path in directory.iterdir() if (path / ADOPTION_SOCKET).is_socket())
    except FileNotFoundError:
        return []


class StateDirectory:
    """Use it between `take` and `give_back`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_file = -1
        self._adoption: socket.socket | None = None

    def take(self) -> None:
        """
        Raises:
            AlreadyRunning: somebody else has it.
        """
        directory = self._path
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if directory.stat().st_uid not in (os.geteuid(), 0):
                raise AlreadyRunning(f"state directory {directory} belongs to another user")
            self._lock_file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"another amphorad serves with state directory {directory}") from None
        except OSError as error:
            raise AlreadyRunning(f"state directory {directory}: {error.strerror}") from error

    def give_back(self) -> None:
        """Somebody else may take it; the adoption socket stays for whoever serves with a copy of it."""
        self.close_adoption()
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    # --- adoption ---

    @property
    def adoption(self) -> int | None:
        """Descriptor of the adoption socket; None while there is none."""
        return self._adoption.fileno() if self._adoption is not None else None

    def open_adoption(self) -> None:
        """Makes the adoption socket.

        Raises:
            NotStarted: it cannot be made.
        """
        try:
            self._adoption = listen(self._path / ADOPTION_SOCKET)
        except OSError as error:
            raise NotStarted(f"adoption socket {self._path / ADOPTION_SOCKET}: {error.strerror or error}") from error

    def keep_adoption(self, listening: socket.socket) -> None:
        """The one that a data plane has handed over."""
        self._adoption = listening

    def close_adoption(self) -> None:
        if self._adoption is not None:
            self._adoption.close()
            self._adoption = None

    def remove_adoption(self) -> None:
        """There is nothing to adopt any more."""
        if self._lock_file >= 0:  # else it is somebody else's
            (self._path / ADOPTION_SOCKET).unlink(missing_ok=True)
        self.close_adoption()

    async def find_survivor(self, on_alarm: Callable[[str], None]) -> Adoptee | None:
        """A data plane that serves with this directory and has no supervisor. One that says nothing is killed.

        Raises:
            NotStarted: something is there that can be neither adopted nor ended.
        """
        try:
            return await ask(self._path / ADOPTION_SOCKET)
        except Unresponsive as error:
            on_alarm(f"{error}, killed")
            try:
                await asyncio.to_thread(kill_unresponsive, error.pid)
            except OSError as reason:
                raise NotStarted(f"{error}, and cannot be ended: {reason}") from reason
            return None
        except (MessageError, OSError) as error:
            raise NotStarted(f"adoption socket {self._path / ADOPTION_SOCKET}: {error}") from error
