"""How a data plane that has outlived its supervisor gets a new one.

    data plane    its control socket ends -> goes on serving, accepts here
    supervisor    connect -> Adopt
    data plane    -> Adoption, with board, adoption socket and listening sockets
    supervisor    takes a pidfd of the process, then -> Begin
    data plane    -> Hello: this connection is the control socket from now on

`Hello` comes after the pidfd was opened, so the pid of `Adoption` cannot have become another process's meanwhile. A
supervisor that is silent for HANDSHAKE_S is dropped, and the next one is waited for; traffic and health checks never wait for any of it.

The adoption socket is a unix stream socket in the state directory (mode 0600, and only root or the user of the first supervisor is
talked to). The supervisor makes it, because an unprivileged data plane may not write there, and the data plane calls listen(2) once more, so that
SO_PEERCRED of whoever connects tells its pid. One listening socket serves all data planes of a state directory, one after
the other; processes that have nothing to serve do not outlive their supervisor, so only one ever answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import signal
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from amphorad.messages import VERSION, Adopt, Adoption, Begin, Channel, Closed, MessageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from amphorad.model import Bind

__all__ = ["Adoptee", "AdoptionSocket", "Unresponsive", "ask", "kill_unresponsive", "listen"]

HANDSHAKE_S = 10.0
ANSWER_S = 10.0  # for a data plane that is in the middle of something long
AGAIN_S = 0.05
BACKLOG = 4
_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid


class Unresponsive(Exception):
    """Something holds the adoption socket and does not answer. `pid` is the process that serves, if that is known."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"data plane pid={pid} does not answer")
        self.pid = pid


# --- the supervisor's side ---


@dataclass(frozen=True, slots=True)
class Adoptee:
    """A data plane that waits for `Begin`. The receiver owns the channel and the descriptors."""

    channel: Channel
    message: Adoption
    board: int
    listening: socket.socket
    sockets: dict[tuple[str, Bind], int]

    def close(self) -> None:
        """Gives everything back; the data plane waits for another supervisor."""
        self.channel.close()
        os.close(self.board)
        self.listening.close()
        for descriptor in self.sockets.values():
            os.close(descriptor)


def listen(path: Path) -> socket.socket:
    """A new adoption socket, in place of what is left of an older one. To be called by the owner of the directory's lock.

    Raises:
        OSError.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    old_mask = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        with _short(path) as name:
            listening.bind(name)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(old_mask)
    return listening


async def ask(path: Path) -> Adoptee | None:
    """The data plane that waits there; None when there is none.

    Raises:
        Unresponsive: there is one, and it has not answered for ANSWER_S.
        MessageError: it does not speak this protocol.
    """
    pid = 0
    try:
        async with asyncio.timeout(ANSWER_S):
            while True:
                connection = await _connect(path)
                if connection is None:
                    return None
                pid = _peer(connection)[0]
                channel = Channel(connection)
                try:
                    return await _ask(channel)
                except Closed:  # a process that ends just now: it held the socket and had nothing to serve
                    channel.close()
                    await asyncio.sleep(AGAIN_S)
                except BaseException:
                    channel.close()
                    raise
    except TimeoutError:
        raise Unresponsive(pid) from None


async def _connect(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    while True:
        try:
            with _short(path) as name:
                connection.connect(name)
        except BlockingIOError:  # its queue is full (unix(7))
            await asyncio.sleep(AGAIN_S)
        except OSError as error:
            connection.close()
            if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
                return None
            raise
        else:
            return connection


async def _ask(channel: Channel) -> Adoptee:
    await channel.send(Adopt(VERSION))
    message = await channel.receive()
    if not isinstance(message, Adoption):
        raise MessageError(f"unexpected {type(message).__name__}")
    board, listening, *others = channel.take_descriptors(2 + len(message.sockets))
    names = [name.key for name in message.sockets]
    return Adoptee(channel, message, board, socket.socket(fileno=listening), dict(zip(names, others, strict=True)))


def kill_unresponsive(pid: int) -> None:
    """Ends a data plane that holds listening sockets and cannot be told anything. Blocks until it is gone.

    Raises:
        OSError: there is no such process, or it is none of ours.
    """
    pidfd = os.pidfd_open(pid)
    try:
        if not Path(f"/proc/{pid}/comm").read_text().startswith("amphorad-"):
            raise ProcessLookupError(f"process {pid} is no data plane")
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [], HANDSHAKE_S)
    finally:
        os.close(pidfd)


# --- the data plane's side ---


class AdoptionSocket:
    """Where a data plane waits for a new supervisor.

    Args:
        listening: inherited from the supervisor that started it.
        owner: user id of that supervisor; besides root the only one that is talked to.
    """

    def __init__(self, listening: socket.socket, owner: int) -> None:
        listening.setblocking(False)
        listening.listen(BACKLOG)  # from now on SO_PEERCRED of whoever connects tells of this process
        self._listening = listening
        self._owner = owner

    def fileno(self) -> int:
        return self._listening.fileno()

    async def wait_supervisor(self, offer: Callable[[], tuple[Adoption, tuple[int, ...]]]) -> Channel:
        """Until a supervisor has taken the offer; its control socket."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _address = await loop.sock_accept(self._listening)
            except OSError:  # out of descriptors
                await asyncio.sleep(1.0)
                continue
            channel = Channel(connection)
            is_taken = False
            try:
                is_taken = _peer(connection)[1] in (0, self._owner) and await _was_taken(channel, offer)
            finally:
                if not is_taken:
                    channel.close()
            if is_taken:
                return channel

    def close(self) -> None:
        self._listening.close()


async def _was_taken(channel: Channel, offer: Callable[[], tuple[Adoption, tuple[int, ...]]]) -> bool:
    with contextlib.suppress(Closed, MessageError, TimeoutError):
        async with asyncio.timeout(HANDSHAKE_S):
            if isinstance(await channel.receive(), Adopt):
                message, descriptors = offer()
                await channel.send(message, descriptors)
                return isinstance(await channel.receive(), Begin)
    return False


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Process id and user id of the other end, as unix(7) SO_PEERCRED says."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _gid = _CREDENTIALS.unpack(found)
    return pid, uid


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of that path that fits into the 108 bytes of a socket address, however deep the directory is."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
