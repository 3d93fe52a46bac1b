"""The supervising process: owns the configuration, the listening sockets, the board, the admin socket and one data plane.

It carries no traffic. What it owns survives the data plane, so when that dies (a crash, SIGKILL), another takes over at once on
the same sockets, the same board and the same snapshot; only the open sessions are lost. A spare process that has loaded its
code waits for that: it costs 18 MB, and makes it 10 to 25 ms instead of 300 until connections are served again. One apply runs at a time:

    text -> dialect -> model -> plan (old, new) -> open new sockets -> data plane confirms -> close unused sockets

A step that fails leaves the old snapshot serving. A restart of the data plane waits for an apply that runs, and the reverse.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import fcntl
import logging
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import amphorad
from amphorad.admin import AdminServer, ApplyReceipt, Refused
from amphorad.board import MAX_THREADS, Board
from amphorad.child import DataPlaneDied, DataPlaneProcess
from amphorad.dialects import haproxy
from amphorad.errors import AmphoradError
from amphorad.model import ReusePolicy
from amphorad.plan import MemberKey, compare
from amphorad.sockets import ListeningSockets
from amphorad.status import DataPlaneStatus, Status, TransitionStatus, build_listeners
from amphorad.tls_files import read_tls_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from amphorad.messages import Transition
    from amphorad.model import LoadBalancer, Pool
    from amphorad.plan import Plan

__all__ = ["AlreadyRunning", "NotStarted", "Options", "Supervisor", "read_configuration"]

log = logging.getLogger(__name__)

ALARMS_KEPT = 50
TRANSITIONS_KEPT = 16  # of each member
# A data plane that lived shorter than SHORT_LIFE_S counts as failing; the first restart never waits.
SHORT_LIFE_S = 1.0
BACKOFF_S = 0.2
LET_GO_S = 0.05
BACKOFF_LIMIT_S = 5.0
LOOK_S = 1.0  # between two looks at the data plane and its spare
SILENCE_LIMIT_S = 6.0  # a data plane says something every two seconds
SPARE_AFTER_S = 60.0  # before another spare, when one died of itself


class AlreadyRunning(AmphoradError):
    """Another process serves with the same state directory or admin socket."""


class NotStarted(AmphoradError):
    """The data plane does not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Start-up settings; they do not change while the process lives.

    Args:
        file: the configuration, read at the start and on `reread`.
        threads: engine threads; None takes `nbthread` of the file, else the number of usable CPUs; at most MAX_THREADS.
        state_dir: a directory of this process alone, made with mode 0700 if it is not there.
        grace_s: how long open sessions may go on after a stop.
        algorithms: pairs of an algorithm of the file (None: any) and the one to balance with instead.
        minimum_body_rate: bytes per second that a request body must reach on average; 0 for no minimum.
        traffic_log: datagram socket that replaces the one in the file; "" for no traffic log.
        free_bind: also listen on addresses that this machine does not have at the moment.
    """

    file: Path
    state_dir: Path
    admin_socket: Path
    threads: int | None = None
    grace_s: float = 10.0
    reuse: ReusePolicy = ReusePolicy.RETRY
    escaping: haproxy.Escaping = haproxy.Escaping.INTENT
    algorithms: tuple[tuple[str | None, str], ...] = ()
    minimum_body_rate: int | None = None
    traffic_log: str | None = None
    free_bind: bool = False


def read_configuration(
    text: str,
    file: str,
    escaping: haproxy.Escaping,
    algorithms: Sequence[tuple[str | None, str]] = (),
) -> LoadBalancer:
    """The model of a text, balanced with the operator's choice of algorithms (see `Options`).

    Raises:
        Refused: with every error of the text.
    """
    load_balancer, errors = haproxy.check(text, file=file, escaping=escaping)
    if errors or load_balancer is None:
        raise Refused(errors)
    return _with_algorithms(load_balancer, dict(algorithms)) if algorithms else load_balancer


def _with_algorithms(load_balancer: LoadBalancer, chosen: dict[str | None, str]) -> LoadBalancer:
    def changed(pool: Pool) -> Pool:
        return replace(pool, algorithm=chosen.get(str(pool.algorithm), chosen.get(None, pool.algorithm)))

    listeners = tuple(
        replace(listener, pools=tuple(changed(pool) for pool in listener.pools)) for listener in load_balancer.listeners
    )
    return replace(load_balancer, listeners=listeners)


class Supervisor:
    """Runs one load balancer. `start`, then `wait_stopped`; `stop` in the end, also after a failed start.

    Args:
        read_file: gives the text of a configuration file; raises ConfigError.
    """

    def __init__(self, options: Options, read_file: Callable[[Path], str]) -> None:
        self._options = options
        self._read_file = read_file
        self._admin = AdminServer(options.admin_socket, self)
        self._sockets = ListeningSockets(free_bind=options.free_bind)
        self._board: Board | None = None
        self._child: DataPlaneProcess | None = None
        self._spare: DataPlaneProcess | None = None
        self._spare_at = 0.0
        self._silent: DataPlaneProcess | None = None  # an alarm has been raised for it
        self._tasks: list[asyncio.Task[None]] = []
        self._changing = asyncio.Lock()
        self._lock_file = -1
        self._running: LoadBalancer | None = None
        self._files: dict[str, bytes] = {}  # what its TLS options name
        self._generation = 0
        self._restarts = 0
        self._alarms: collections.deque[str] = collections.deque(maxlen=ALARMS_KEPT)
        # Kept here, where they outlive a data plane.
        self._transitions: dict[MemberKey, collections.deque[TransitionStatus]] = {}
        self._started_at = time.monotonic()

    # --- life ---

    async def start(self) -> None:
        """Serves the file; returns when every listener accepts.

        Raises:
            Refused, ConfigError: the file.
            ListenError: an address is taken.
            AlreadyRunning, NotStarted.
        """
        name = str(self._options.file)
        wanted = read_configuration(
            self._read_file(self._options.file), name, self._options.escaping, self._options.algorithms
        )
        self._take_state_directory()
        self._files = read_tls_files(wanted)
        self._sockets.prepare(wanted)
        threads = self._options.threads or wanted.threads or len(os.sched_getaffinity(0))
        self._board = Board.create(min(threads, MAX_THREADS))
        self._child = self._new_child()
        try:
            await self._child.start()
            await self._child.apply(1, wanted, dict(self._sockets.of(wanted)), self._files)
        except DataPlaneDied as error:
            raise NotStarted(str(error)) from error
        self._sockets.commit(wanted)
        self._running, self._generation = wanted, 1
        try:
            await self._admin.start()
        except OSError as error:
            raise AlreadyRunning(f"admin socket {self._options.admin_socket}: {error.strerror}") from error
        self._tasks = [
            asyncio.create_task(self._keep_running(), name="data plane watch"),
            asyncio.create_task(self._look_after(), name="data plane care"),
        ]
        log.info("serving file=%s listeners=%d threads=%d", name, len(wanted.listeners), self._board.threads)

    async def stop(self, grace_s: float | None = None) -> None:
        """Accepts nothing more, lets sessions end for the grace period, and gives everything back."""
        grace_s = self._options.grace_s if grace_s is None else grace_s
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._admin.stop()
        await self._drop_spare()
        if self._child is not None:
            log.info("stopping grace_s=%g sessions=%d", grace_s, self._child.sessions)
            await self._child.begin_stop(grace_s)
            # Time to let go of the listening sockets: an accept that fails for good is not what its threads expect.
            await asyncio.sleep(LET_GO_S)
            self._sockets.refuse()
            await self._child.finish_stop(grace_s)
        self._sockets.close()
        if self._board is not None:
            self._board.close()
        if self._lock_file >= 0:
            os.close(self._lock_file)
        log.info("stopped")

    async def hurry(self) -> None:
        """During `stop`: ends the data plane at once."""
        if self._child is not None:
            await self._child.kill()

    @property
    def ready_line(self) -> str:
        """One line of key=value for whoever waits for the start."""
        assert self._running is not None
        assert self._board is not None
        assert self._child is not None
        return (
            f"ready listeners={len(self._running.listeners)} sockets={len(self._sockets)} threads={self._board.threads}"
            f" generation={self._generation} pid={os.getpid()} data_plane={self._child.pid}"
            f" admin={self._options.admin_socket}"
        )

    def _take_state_directory(self) -> None:
        directory = self._options.state_dir
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

    # --- the data plane ---

    def _new_child(self) -> DataPlaneProcess:
        assert self._board is not None
        options = self._options
        arguments = [
            f"--threads={self._board.threads}",
            f"--http-reuse={options.reuse}",
            f"--grace={options.grace_s}",
        ]
        if options.minimum_body_rate is not None:
            arguments.append(f"--minimum-body-rate={options.minimum_body_rate}")
        if options.traffic_log is not None:
            arguments.append(f"--traffic-log={options.traffic_log}")
        return DataPlaneProcess(arguments, self._board.fileno(), self._on_alarm, self._on_transition)

    async def _keep_running(self) -> None:
        failures = 0
        while True:
            child = self._child
            assert child is not None
            await child.wait_ended()
            lived_s = time.monotonic() - child.started_at
            failures = failures + 1 if lived_s < SHORT_LIFE_S else 0
            text = f"data plane died pid={child.pid} {child.exit_text} after {lived_s:.1f} s"
            self._on_alarm(text)
            if failures > 1:
                await asyncio.sleep(min(BACKOFF_S * 2.0 ** (failures - 2), BACKOFF_LIMIT_S))
            async with self._changing:
                if self._child is child:  # an apply that saw it die has replaced it already otherwise
                    with contextlib.suppress(NotStarted):
                        await self._replace_child(self._generation, self._running, self._files)

    async def _replace_child(
        self, generation: int, load_balancer: LoadBalancer | None, files: dict[str, bytes]
    ) -> None:
        """A new data plane on the same sockets and board.

        Raises:
            NotStarted: it did not come up with that configuration; `_keep_running` will try again with the one that served last.
        """
        assert self._child is not None
        assert load_balancer is not None
        began = time.monotonic()
        await self._child.kill()
        self._restarts += 1
        self._child = child = await self._take_spare() or self._new_child()
        try:
            await child.start()
            await child.apply(generation, load_balancer, dict(self._sockets.of(load_balancer)), files)
        except (DataPlaneDied, AmphoradError, OSError) as error:
            self._on_alarm(f"data plane did not start: {error}")
            await child.kill()
            raise NotStarted(str(error)) from error
        log.warning("data plane replaced pid=%d took_ms=%d", child.pid, (time.monotonic() - began) * 1000)

    async def _look_after(self) -> None:
        """Notices a data plane whose main loop hangs, and keeps a spare one."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            if now - began < 2 * LOOK_S:  # else this process has been held up, and what was said to it is still unread
                self._look_for_silence(now)
            if now >= self._spare_at:
                await self._keep_spare(now)

    def _look_for_silence(self, now: float) -> None:
        """Only says so: its engine threads may well go on, and killing it would cost their sessions."""
        child = self._child
        assert child is not None
        silence_s = now - child.heard_at
        is_silent = child.is_serving and silence_s > SILENCE_LIMIT_S
        if is_silent and self._silent is not child:
            self._silent = child
            what = "health checks and applies wait, sessions go on if only its main loop hangs"
            self._on_alarm(f"data plane pid={child.pid} has not answered for {silence_s:.0f} s: {what}")
        elif not is_silent and self._silent is not None:
            if self._silent is child and child.is_running:
                log.warning("data plane answers again pid=%d", child.pid)
            self._silent = None

    async def _keep_spare(self, now: float) -> None:
        if self._spare is not None and self._spare.is_running:
            return
        if self._spare is not None:
            self._on_alarm(f"spare data plane died {self._spare.exit_text}")
            self._spare_at = now + SPARE_AFTER_S
            await self._drop_spare()
            return
        self._spare = self._new_child()
        try:
            self._spare.launch()
        except OSError as error:
            self._on_alarm(f"no spare data plane: {error.strerror}")
            self._spare_at = now + SPARE_AFTER_S
            await self._drop_spare()

    async def _take_spare(self) -> DataPlaneProcess | None:
        spare = self._spare
        if spare is None or not spare.is_running:
            await self._drop_spare()
            return None
        self._spare = None
        return spare

    async def _drop_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            await spare.kill()

    def _on_alarm(self, text: str) -> None:
        log.warning("alarm text=%r", text)
        self._alarms.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")

    def _on_transition(self, transition: Transition) -> None:
        for line in transition.lines:
            log.warning("%s", line)
        key = MemberKey(transition.listener_id, transition.pool_id, transition.member_id)
        kept = self._transitions.setdefault(key, collections.deque(maxlen=TRANSITIONS_KEPT))
        kept.append(TransitionStatus(transition.at, transition.up, transition.reason))

    # --- the admin socket's side ---

    async def reread(self) -> ApplyReceipt:
        """Applies the file as it is now. Raises what `apply_text` raises."""
        return await self.apply_text(self._read_file(self._options.file), str(self._options.file))

    async def apply_text(self, text: str, file: str) -> ApplyReceipt:
        """Serves another configuration in place.

        Raises:
            Refused, ConfigError, ListenError: it cannot be served; nothing changed.
            NotStarted: the data plane died while it took the new one over; the old one serves again.
        """
        began = time.monotonic()
        wanted = read_configuration(text, file, self._options.escaping, self._options.algorithms)
        async with self._changing:
            return await self._apply(wanted, began)

    async def _apply(self, wanted: LoadBalancer, began: float) -> ApplyReceipt:
        assert self._running is not None
        assert self._child is not None
        steps = compare(self._running, wanted)
        files = read_tls_files(wanted)
        if steps.is_empty and files == self._files:
            return self._receipt(steps, changed=False, opened=0, closed=0, began=began)
        opened = self._sockets.prepare(wanted)
        try:
            if self._child.is_running:
                await self._child.apply(self._generation + 1, wanted, dict(self._sockets.of(wanted)), files)
            else:  # it keeps dying, perhaps of the old configuration
                await self._replace_child(self._generation + 1, wanted, files)
        except AmphoradError:
            self._sockets.roll_back()
            raise
        except DataPlaneDied as error:
            self._sockets.roll_back()
            await self._replace_child(self._generation, self._running, self._files)
            raise NotStarted(f"{error}; the configuration before it serves again") from error
        self._generation += 1
        self._running, self._files = wanted, files
        gone = set(steps.members_removed)
        self._transitions = {key: kept for key, kept in self._transitions.items() if key not in gone}
        closed = self._sockets.commit(wanted)
        receipt = self._receipt(steps, changed=True, opened=opened, closed=closed, began=began)
        log.info("applied generation=%d elapsed_ms=%d", receipt.generation, receipt.elapsed_s * 1000)
        return receipt

    def _receipt(self, steps: Plan, *, changed: bool, opened: int, closed: int, began: float) -> ApplyReceipt:
        assert self._child is not None
        return ApplyReceipt(
            generation=self._generation,
            changed=changed,
            summary=steps.summary,
            changes=tuple(steps.describe().splitlines()[1:]),  # without the summary
            sockets_opened=opened,
            sockets_closed=closed,
            sockets_kept=len(self._sockets) - opened,
            elapsed_s=time.monotonic() - began,
            draining=self._child.draining,
        )

    def status(self) -> Status:
        assert self._running is not None
        assert self._board is not None
        assert self._child is not None
        child = self._child
        return Status(
            version=amphorad.__version__,
            load_balancer=self._running.id,
            file=str(self._options.file),
            generation=self._generation,
            uptime_s=time.monotonic() - self._started_at,
            escaping=self._options.escaping.value,
            http_reuse=str(self._options.reuse),
            data_plane=DataPlaneStatus(
                pid=child.pid if child.is_running else 0,
                uptime_s=time.monotonic() - child.started_at,
                restarts=self._restarts,
                threads=self._board.threads,
                sessions=child.sessions,
                draining=child.draining,
                spare=self._spare.pid if self._spare is not None and self._spare.is_running else 0,
            ),
            alarms=tuple(self._alarms),
            listeners=build_listeners(self._running, self._board, self._transitions),
        )
