"""The data-plane process as the supervisor sees it: launched, started, told, answered by, stopped; its death noticed at once.

One `DataPlaneProcess` is one process; the supervisor makes another one when it dies. The descriptors that it inherits are its end
of the control socket and the board; listening sockets follow with each `Apply`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar

from amphorad.environment import child_environment, signals_blocked
from amphorad.messages import (
    VERSION,
    Alarm,
    Apply,
    Begin,
    Channel,
    Closed,
    Hello,
    MessageError,
    PeerNews,
    Pulse,
    Receipt,
    SocketName,
    Stop,
    Survive,
    Transition,
    encode_load_balancer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from amphorad.model import Bind, LoadBalancer

__all__ = ["DataPlaneDied", "DataPlaneProcess"]

T = TypeVar("T")
log = logging.getLogger(__name__)

START_TIMEOUT_S = 30.0
APPLY_TIMEOUT_S = 30.0
KILL_AFTER_S = 5.0  # beyond the grace period


class DataPlaneDied(Exception):
    """The data-plane process ended, or does not answer, in the middle of something."""


class DataPlaneProcess:
    """One data-plane process. Make it with `start`, and always end it with `kill` or `finish_stop`, or `release` it.

    `launch` alone makes a spare one: it has loaded its code and waits, and `start` on it takes milliseconds. `adopt` instead of
    `launch` takes one that runs already; it need not be a child of this process.

    Args:
        arguments: command line options of `amphorad.proxy.process`, apart from the descriptors.
        board: descriptor of the board.
        on_alarm: gets the text of each alarm.
        on_transition: gets each change of a member's health.
        adoption: descriptor of the adoption socket, for a process that is to outlive this one.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        board: int,
        on_alarm: Callable[[str], None],
        on_transition: Callable[[Transition], None] = lambda transition: None,
        adoption: int | None = None,
    ) -> None:
        self._arguments = arguments
        self._board = board
        self._on_alarm = on_alarm
        self._on_transition = on_transition
        self._adoption = adoption
        self._channel: Channel | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._code: int | None = None
        self._reader: asyncio.Task[None] | None = None
        self._receipts: asyncio.Queue[Receipt] = asyncio.Queue()
        self._greeted = asyncio.Event()
        self._ended = asyncio.Event()
        self._pidfd = -1
        self._passed: frozenset[tuple[str, Bind]] = frozenset()
        self._is_started = False
        self.pid = 0
        self.started_at = time.monotonic()
        self.heard_at = self.started_at  # when its main loop last said something
        self.sessions = 0
        self.draining = 0
        self.peers: tuple[PeerNews, ...] = ()

    @property
    def is_running(self) -> bool:
        return self.pid > 0 and not self._ended.is_set()

    @property
    def exit_text(self) -> str:
        """How it ended, for the log."""
        code = self._code
        if code is None:
            return "running" if self.is_running else "exit code unknown"  # only its parent is told
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    @property
    def is_serving(self) -> bool:
        """Its main loop should be answering."""
        return self.is_running and self._greeted.is_set()

    def launch(self) -> None:
        """Starts the process, which loads its code and then waits for `start`.

        Raises:
            OSError: no descriptor or process is to be had.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._channel = Channel(ours)
        with theirs:
            self._child = self._spawn(theirs.fileno())
        try:
            self._watch(self._child.pid)
        except OSError:
            self._child.kill()
            self._child.wait()
            raise

    def adopt(self, channel: Channel, pid: int, passed: frozenset[tuple[str, Bind]]) -> None:
        """Takes a process that serves already and waits for `start` (see `amphorad.adoption`).

        Args:
            channel: to it; belongs to this object from now on.
            passed: the listening sockets that it has.

        Raises:
            OSError: it is gone.
        """
        self._channel = channel
        self._passed = passed
        self._watch(pid)

    def _watch(self, pid: int) -> None:
        assert self._channel is not None
        self._pidfd = os.pidfd_open(pid)
        self.pid = pid
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)
        self._reader = asyncio.create_task(self._read(self._channel), name=f"data plane {pid} control")

    async def start(self) -> None:
        """Launches the process if that has not been done, and waits until its engine threads run.

        Raises:
            DataPlaneDied: it ended before, or took longer than START_TIMEOUT_S.
            OSError: as for `launch`.
        """
        if self._channel is None:
            self.launch()
        assert self._channel is not None
        self._is_started = True
        self.started_at = time.monotonic()
        try:
            await self._channel.send(Begin())
        except Closed as error:
            raise DataPlaneDied(str(error)) from error
        await self._wait_or_die(self._greeted.wait(), START_TIMEOUT_S, "did not start")

    async def apply(
        self,
        generation: int,
        load_balancer: LoadBalancer,
        sockets: dict[tuple[str, Bind], int],
        files: dict[str, bytes] | None = None,
    ) -> Receipt:
        """Sends a configuration, with the files that its TLS options name, and waits for the receipt. Sockets that the process already has are not sent again.

        Raises:
            DataPlaneDied: it ended before it answered.
            ConfigError: it refuses; what it served before, it still serves.
        """
        assert self._channel is not None
        new = {key: descriptor for key, descriptor in sockets.items() if key not in self._passed}
        names = tuple(SocketName(listener_id, bind.address, bind.port) for listener_id, bind in new)
        message = Apply(generation, encode_load_balancer(load_balancer), names, files or {})
        try:
            await self._channel.send(message, tuple(new.values()))
        except Closed as error:
            raise DataPlaneDied(str(error)) from error
        receipt = await self._wait_or_die(self._receipt_of(generation), APPLY_TIMEOUT_S, "did not answer")
        if receipt.refusal is not None:
            raise receipt.refusal.error()
        self._passed = frozenset(sockets)
        return receipt

    async def wait_ended(self) -> None:
        await self._ended.wait()

    async def set_survival(self, *, survive: bool) -> None:
        """Whether it goes on serving when this process is gone.

        Raises:
            DataPlaneDied.
        """
        assert self._channel is not None
        try:
            await self._channel.send(Survive(survive))
        except Closed as error:
            raise DataPlaneDied(str(error)) from error

    async def release(self) -> None:
        """Gives back everything here and leaves the process alone; one that does not survive that ends by itself."""
        if self.is_running:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
        if self._child is not None and self._child.returncode is None:
            self._child.returncode = 0  # else subprocess complains of a child that nobody waits for
        self._ended.set()
        await self._close()

    async def begin_stop(self, grace_s: float) -> None:
        """Tells the process to accept nothing more, and to end with its last session or after `grace_s` seconds."""
        if self.is_running and self._channel is not None:
            with contextlib.suppress(Closed):
                await self._channel.send(Stop(grace_s))

    async def finish_stop(self, grace_s: float) -> None:
        """Waits for the end that `begin_stop` ordered, and ends the process by force if it does not come."""
        if self.is_running:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), grace_s + KILL_AFTER_S)
        await self.kill()

    async def kill(self) -> None:
        """Ends the process at once if it still runs, and gives back everything that belonged to it."""
        if self.is_running:
            if self._is_started:
                log.warning("data plane killed pid=%d", self.pid)
            self._send_kill()
            await self._ended.wait()
        self._ended.set()  # also for a process that never came to life
        await self._close()

    def _send_kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def _close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._channel is not None:
            self._channel.close()

    def _spawn(self, control: int) -> subprocess.Popen[bytes]:
        """Blocks for the fork and exec: a few milliseconds, in a process that carries no traffic."""
        passed = {"--control": control, "--board": self._board}
        if self._adoption is not None:
            passed["--adoption"] = self._adoption
        own = [f"{name}={descriptor}" for name, descriptor in passed.items()]
        command = [sys.executable, "-m", "amphorad.proxy.process", *own, *self._arguments]
        with signals_blocked():
            return subprocess.Popen(
                command, pass_fds=tuple(passed.values()), stdin=subprocess.DEVNULL, env=child_environment()
            )

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        if self._child is not None:
            self._code = self._child.wait()  # does not block: the descriptor is readable because it has ended
        else:
            with contextlib.suppress(
                ChildProcessError
            ):  # it is no child of ours, unless this process has released it before
                os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        os.close(self._pidfd)
        self._ended.set()

    async def _receipt_of(self, generation: int) -> Receipt:
        while True:
            receipt = await self._receipts.get()
            if receipt.generation == generation:  # an older one belongs to an apply that was given up
                return receipt

    async def _wait_or_die(self, awaited: Coroutine[Any, Any, T], timeout_s: float, what: str) -> T:
        """The result, unless the process ends or the time runs out before."""
        result = asyncio.ensure_future(awaited)
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait((result, ended), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                return result.result()
        finally:
            result.cancel()
            ended.cancel()
            await asyncio.gather(result, ended, return_exceptions=True)
        raise DataPlaneDied(f"the data plane {what} ({self.exit_text})")

    async def _read(self, channel: Channel) -> None:
        try:
            while True:
                self._take(await channel.receive())
        except Closed:
            pass  # its death is noticed by _on_exit
        except MessageError as error:
            log.error("data plane sent garbage pid=%d reason=%s", self.pid, error)
            if self.is_running:
                self._send_kill()

    def _take(self, message: object) -> None:
        self.heard_at = time.monotonic()
        match message:
            case Hello(version=version):
                if version != VERSION and self._child is not None:
                    raise MessageError(f"control protocol version {version}, not {VERSION}")
                self._greeted.set()
            case Receipt():
                self.draining = message.draining
                self._receipts.put_nowait(message)
            case Pulse():
                self.sessions, self.draining, self.peers = message.sessions, message.draining, message.peers
            case Alarm():
                self._on_alarm(message.text)
            case Transition():
                self._on_transition(message)
            case _:
                raise MessageError(f"unexpected {type(message).__name__}")
