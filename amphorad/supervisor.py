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
import logging
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import amphorad
from amphorad.admin import AdminServer, ApplyReceipt
from amphorad.board import MAX_THREADS, Board
from amphorad.child import DataPlaneDied, DataPlaneProcess
from amphorad.errors import AmphoradError
from amphorad.expiry import Certificate, ExpiryWatch, certificates_of
from amphorad.messages import VERSION, MessageError, decode_load_balancer, decode_transitions
from amphorad.options import Options, data_plane_arguments, read_configuration
from amphorad.plan import MemberKey, compare
from amphorad.proxy.engine.stick_table import Table, table_bytes
from amphorad.proxy.tls.context import expiry_of
from amphorad.sockets import ListeningSockets
from amphorad.state_directory import AlreadyRunning, NotStarted, StateDirectory, survivor_names
from amphorad.status import DataPlaneStatus, PeerStatus, Status, TransitionStatus, build_listeners
from amphorad.stick_tables import TableFile, TableSpace
from amphorad.tls_files import read_tls_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from amphorad.adoption import Adoptee
    from amphorad.messages import Transition
    from amphorad.model import Bind, LoadBalancer
    from amphorad.plan import Plan

__all__ = ["AlreadyRunning", "NotStarted", "Options", "Supervisor", "read_configuration", "survivor_names"]

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
EXPIRY_LOOK_S = 3600.0  # between two looks at the certificates, of which the last warning comes a day before
SAVE_TABLES_S = 10.0  # between two looks whether stick tables have changed
ADOPTION_ATTEMPTS = 3
HANDOVER_S = 600.0  # for the sessions of a data plane that has been succeeded
SPARE_AFTER_S = 60.0  # before another spare, when one died of itself


class _Gone(Exception):
    """A data plane ended, or hung up, while it was adopted."""


class Supervisor:
    """Runs one load balancer. `start`, then `wait_stopped`; `stop` in the end, also after a failed start.

    Args:
        read_file: gives the text of a configuration file; raises ConfigError. Not needed without `Options.file`.
        on_down: called when the data plane is gone and could not be replaced at once.
        on_serving: called when there is one again after that.
    """

    def __init__(
        self,
        options: Options,
        read_file: Callable[[Path], str] | None = None,
        *,
        on_down: Callable[[], None] = lambda: None,
        on_serving: Callable[[], None] = lambda: None,
    ) -> None:
        self._options = options
        self._read_file = read_file
        self._on_down = on_down
        self._on_serving = on_serving
        self._is_down = False
        self._admin = AdminServer(options.admin_socket, self) if options.admin_socket is not None else None
        self._sockets = ListeningSockets(free_bind=options.free_bind, namespace=options.namespace)
        self._board: Board | None = None
        self._child: DataPlaneProcess | None = None
        self._spare: DataPlaneProcess | None = None
        self._leaving: list[DataPlaneProcess] = []  # succeeded, and not ended yet
        self._arguments: list[str] = []
        self._threads = 0
        self._directory = StateDirectory(options.state_dir)
        self._spare_at = 0.0
        self._silent: DataPlaneProcess | None = None  # an alarm has been raised for it
        self._tables = TableFile(options.state_dir / "stick-tables")
        self._saving = threading.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._changing = asyncio.Lock()
        self._running: LoadBalancer | None = None
        self._files: dict[str, bytes] = {}  # what its TLS options name
        self._certificates: tuple[Certificate, ...] = ()
        self._expiry = ExpiryWatch()
        self._generation = 0
        self._restarts = 0
        self._alarms: collections.deque[str] = collections.deque(maxlen=ALARMS_KEPT)
        # Kept here, where they outlive a data plane.
        self._transitions: dict[MemberKey, collections.deque[TransitionStatus]] = {}
        self._started_at = time.monotonic()

    # --- life ---

    async def start(self, wanted: LoadBalancer | None = None) -> None:
        """Serves the file, or what `read_configuration` has made of a text; returns when every listener accepts.

        A data plane that has outlived its supervisor is adopted. When it cannot take the wanted configuration, it goes on
        serving the old one, without a supervisor, and `stop` does not end it any more.

        Raises:
            Refused, ConfigError: the file.
            ListenError: an address is taken.
            AlreadyRunning, NotStarted.
        """
        wanted = wanted or self._read()
        self._directory.take()
        threads = min(self._options.threads or wanted.threads or len(os.sched_getaffinity(0)), MAX_THREADS)
        self._arguments = data_plane_arguments(self._options, threads)
        self._threads = threads
        adopted = False
        try:
            adopted = await self._take_over(wanted)
            if not adopted:
                await self._start_anew(wanted)
            if self._admin is not None:
                await self._start_admin(self._admin)
        except BaseException:
            if adopted:
                await self._let_go()
            raise
        assert self._board is not None
        self._tasks = [
            asyncio.create_task(self._keep_running(), name="data plane watch"),
            asyncio.create_task(self._look_after(), name="data plane care"),
            asyncio.create_task(self._keep_tables(), name="stick tables"),
            asyncio.create_task(self._watch_certificates(), name="certificates"),
        ]
        log.info("serving lb=%s listeners=%d threads=%d", wanted.id, len(wanted.listeners), threads)

    async def _start_admin(self, admin: AdminServer) -> None:
        try:
            await admin.start()
        except OSError as error:
            raise AlreadyRunning(f"admin socket {self._options.admin_socket}: {error.strerror or error}") from error

    async def _start_anew(self, wanted: LoadBalancer) -> None:
        self._files = self._read_tls_files(wanted)
        self._sockets.prepare(wanted)
        self._board = Board.create(self._threads)
        self._tables.load(self._table_space())
        if self._options.survive:
            self._directory.open_adoption()
        else:
            self._directory.remove_adoption()
        self._child = self._new_child()
        try:
            await self._child.start()
            await self._child.apply(1, wanted, dict(self._sockets.of(wanted)), self._files)
        except DataPlaneDied as error:
            raise NotStarted(str(error)) from error
        self._sockets.commit(wanted)
        self._running, self._generation = wanted, 1

    async def stop(self, grace_s: float | None = None) -> None:
        """Accepts nothing more, lets sessions end for the grace period, and gives everything back."""
        grace_s = self._options.grace_s if grace_s is None else grace_s
        await self._end_care()
        if self._child is not None:
            log.info("stopping grace_s=%g sessions=%d", grace_s, self._child.sessions)
            await self._child.begin_stop(grace_s)
            # Time to let go of the listening sockets: an accept that fails for good is not what its threads expect.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._child.wait_ended(), LET_GO_S)
            self._sockets.refuse()
            await self._child.finish_stop(grace_s)
        for leaving in self._leaving:
            await leaving.kill()
        if self._directory.adoption is not None:  # else what waits there is none of ours
            self._directory.remove_adoption()
        self._give_back()
        log.info("stopped")

    async def leave(self) -> None:
        """Gives everything back and leaves a data plane with `Options.survive` serving, for the next `Supervisor`.

        Without that option, or before there is one: as `stop`.
        """
        if self._running is None or not self._options.survive:
            await self.stop()
            return
        async with self._changing:
            await self._let_go()
        log.info("left")

    async def _let_go(self) -> None:
        await self._end_care()
        await self._release_children()
        self._give_back()

    async def _release_children(self) -> None:
        for child in (*self._leaving, self._child):
            if child is not None:
                await child.release()
        self._leaving.clear()
        self._child = self._running = None

    async def _end_care(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._admin is not None:
            await self._admin.stop()
        await self._drop_spare()

    def _give_back(self) -> None:
        """What a process must not keep that neither serves nor supervises."""
        self._give_back_shared()
        self._directory.give_back()

    def _give_back_shared(self) -> None:
        self._sockets.close()
        self._directory.close_adoption()
        if self._board is not None:
            self._save_tables()
            self._board.close()
            self._board = None

    # --- data planes that have outlived their supervisor ---

    async def end_survivor(self) -> bool:
        """Instead of `start`: ends a data plane that has outlived its supervisor, with its sessions; whether there was one.

        Raises:
            AlreadyRunning, NotStarted.
        """
        self._directory.take()
        try:
            found = await self._directory.find_survivor(self._on_alarm)
            if found is None:
                return False
            self._directory.keep_adoption(found.listening)
            self._take_sockets(found)
            os.close(found.board)
            self._child = DataPlaneProcess([], -1, self._on_alarm)
            with contextlib.suppress(_Gone):
                await self._obey_us(self._child, found)
            return True
        finally:
            await self.stop(0.0)

    async def _take_over(self, wanted: LoadBalancer) -> bool:
        """Adopts or succeeds a data plane that has outlived its supervisor; False when there is none."""
        for _attempt in range(ADOPTION_ATTEMPTS):
            found = await self._directory.find_survivor(self._on_alarm)
            if found is None:
                return False
            running = self._adoptable(found)
            try:
                if running is None:
                    await self._succeed(found, wanted)
                else:
                    await self._adopt(found, running)
            except _Gone as error:
                log.warning("not adopted reason=%s", error)
                await self._release_children()
                self._give_back_shared()
                continue
            if running is not None:
                await self._apply_adopted(wanted)
            return True
        raise NotStarted("a data plane that serves could not be adopted")

    async def _apply_adopted(self, wanted: LoadBalancer) -> None:
        """Adoption must not end what serves because it cannot take something else."""
        try:
            await self.apply(wanted)
        except BaseException:
            await self._let_go()
            raise

    def _adoptable(self, found: Adoptee) -> LoadBalancer | None:
        """What it serves; None when another release, or other settings, want another process."""
        message = found.message
        is_same = (message.version, message.release) == (VERSION, amphorad.__version__)
        if not self._options.survive or not is_same or list(message.arguments) != self._arguments:
            return None
        try:
            return decode_load_balancer(message.load_balancer)
        except MessageError as error:
            log.error("data plane cannot be adopted pid=%d reason=%s", message.pid, error)
            return None

    async def _adopt(self, found: Adoptee, running: LoadBalancer) -> None:
        """Goes on as if this object had started it.

        Raises:
            _Gone.
        """
        message = found.message
        self._directory.keep_adoption(found.listening)
        self._take_sockets(found)
        self._board = Board.attach(found.board)
        self._child = self._new_child()
        await self._obey_us(self._child, found)
        self._running, self._generation = running, message.generation
        self._files = {}  # which certificates it serves is not told: the next apply sends those on the disk
        with contextlib.suppress(MessageError):
            for transition in decode_transitions(message.transitions):
                self._keep_transition(transition)
        log.warning("data plane adopted pid=%d generation=%d", self._child.pid, self._generation)

    async def _succeed(self, found: Adoptee, wanted: LoadBalancer) -> None:
        """A new data plane on the sockets of one that cannot be adopted, which ends with its last session, at most HANDOVER_S later.

        Both write their board, so the new one gets a copy. Each step leaves one that will go on if this process dies now: the old
        one does not outlive this connection any more before the new one accepts.

        Raises:
            _Gone.
            AmphoradError: the old one goes on serving.
        """
        began = time.monotonic()
        old = DataPlaneProcess([], -1, self._on_alarm)
        self._leaving.append(old)
        self._directory.keep_adoption(found.listening)
        self._take_sockets(found)
        self._board = _successor_of(found.board, self._threads)
        await self._obey_us(old, found)
        try:
            files = self._read_tls_files(wanted)
            self._sockets.prepare(wanted)
            if not self._options.survive:
                self._directory.remove_adoption()
            self._child = self._new_child()
            await self._child.start()
            await old.set_survival(survive=False)
            await self._child.apply(1, wanted, dict(self._sockets.of(wanted)), files)
        except BaseException as error:
            if self._child is not None:
                await self._child.kill()
                self._child = None
            with contextlib.suppress(DataPlaneDied):
                await old.set_survival(survive=True)
            await self._let_go()
            if isinstance(error, DataPlaneDied | OSError):
                raise NotStarted(f"{error}; the data plane before it serves on") from error
            raise
        await old.begin_stop(HANDOVER_S)
        self._sockets.commit(wanted)
        self._running, self._generation, self._files = wanted, 1, files
        took_ms = (time.monotonic() - began) * 1000
        log.warning("data plane pid=%d succeeds pid=%d took_ms=%d", self._child.pid, old.pid, took_ms)

    async def _obey_us(self, child: DataPlaneProcess, found: Adoptee) -> None:
        try:
            child.adopt(found.channel, found.message.pid, frozenset(found.sockets))
            await child.start()
        except (DataPlaneDied, OSError) as error:
            raise _Gone(f"data plane pid={found.message.pid} ended while it was adopted: {error}") from error

    def _take_sockets(self, found: Adoptee) -> None:
        """One for each address; a listener that shares it with another has sent a copy."""
        kept: dict[Bind, socket.socket] = {}
        for (_listener_id, bind), descriptor in found.sockets.items():
            if bind in kept:
                os.close(descriptor)
            else:
                kept[bind] = socket.socket(fileno=descriptor)
        self._sockets.adopt(kept)

    async def hurry(self) -> None:
        """During `stop`: ends the data plane at once."""
        for child in (*self._leaving, self._child):
            if child is not None:
                await child.kill()

    @property
    def running(self) -> LoadBalancer | None:
        """The configuration in force; None before the first."""
        return self._running

    @property
    def board(self) -> Board | None:
        """What the data plane writes and everyone may read; None before the start."""
        return self._board

    @property
    def is_serving(self) -> bool:
        """There is a data plane that should be answering; False while a dead one has not been replaced."""
        return self._child is not None and self._child.is_serving

    @property
    def is_down(self) -> bool:
        """The data plane is gone and could not be replaced at once; between `on_down` and `on_serving`."""
        return self._is_down

    @property
    def data_plane_pid(self) -> int:
        """Of the data plane that serves; 0 while there is none."""
        return self._child.pid if self._child is not None and self._child.is_serving else 0

    @property
    def ready_line(self) -> str:
        """One line of key=value for whoever waits for the start."""
        assert self._running is not None
        assert self._board is not None
        assert self._child is not None
        return (
            f"ready listeners={len(self._running.listeners)} sockets={len(self._sockets)} threads={self._threads}"
            f" generation={self._generation} pid={os.getpid()} data_plane={self._child.pid}"
            f" admin={self._options.admin_socket}"
        )

    # --- stick tables: what a restart of the service must not lose ---

    def _table_space(self) -> TableSpace[Table]:
        """The tables of the board, which cannot be closed while anybody holds this."""
        assert self._board is not None
        return TableSpace(self._board.memory, self._board.tables_at, Table, table_bytes)

    # --- certificates that expire ---

    async def _watch_certificates(self) -> None:
        while True:
            self.look_at_certificates(time.time())
            await asyncio.sleep(EXPIRY_LOOK_S)

    def look_at_certificates(self, now: float) -> None:
        """Raises an alarm of each that expires soon, as of the wall time `now`; once for each of the days in `amphorad.expiry`."""
        if self._running is None:
            return
        try:
            self._certificates = certificates_of(self._running, self._files_in_force(), expiry_of)
        except AmphoradError as error:
            log.warning("certificates cannot be looked at: %s", error)
            return
        for text in self._expiry.look(self._certificates, now):
            self._on_alarm(text)

    async def _keep_tables(self) -> None:
        while True:
            await asyncio.sleep(SAVE_TABLES_S)
            await asyncio.to_thread(self._save_tables)

    def _save_tables(self) -> None:
        try:
            with self._saving:  # a thread of `_keep_tables` may still be at it when the end comes
                self._tables.save(self._table_space())
        except OSError as error:
            self._on_alarm(f"stick tables not saved: {error.strerror or error}")

    # --- the data plane ---

    def _new_child(self) -> DataPlaneProcess:
        assert self._board is not None
        return DataPlaneProcess(
            self._arguments, self._board.fileno(), self._on_alarm, self._on_transition, self._directory.adoption
        )

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
                self._show_serving(is_serving=False)
                await asyncio.sleep(min(BACKOFF_S * 2.0 ** (failures - 2), BACKOFF_LIMIT_S))
            async with self._changing:
                if self._child is child:  # an apply that saw it die has replaced it already otherwise
                    with contextlib.suppress(NotStarted):
                        await self._replace_child(self._generation, self._running, self._files_in_force())

    def _show_serving(self, *, is_serving: bool) -> None:
        """Tells whoever wants to know, once for each change."""
        if self._is_down is is_serving:
            self._is_down = not is_serving
            (self._on_serving if is_serving else self._on_down)()

    def _files_in_force(self) -> dict[str, bytes]:
        """What the TLS options of the running configuration name; from the disk while an adopted data plane has not been told them."""
        return self._files or (self._read_tls_files(self._running) if self._running is not None else {})

    def _read_tls_files(self, wanted: LoadBalancer) -> dict[str, bytes]:
        return read_tls_files(wanted, stapling=self._options.extras.ocsp_stapling)

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
            self._show_serving(is_serving=False)
            raise NotStarted(str(error)) from error
        self._show_serving(is_serving=True)
        log.warning("data plane replaced pid=%d took_ms=%d", child.pid, (time.monotonic() - began) * 1000)

    async def _look_after(self) -> None:
        """Notices a data plane whose main loop hangs, and keeps a spare one."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            await self._see_off()
            if now - began < 2 * LOOK_S:  # else this process has been held up, and what was said to it is still unread
                self._look_for_silence(now)
            if now >= self._spare_at:
                await self._keep_spare(now)

    async def _see_off(self) -> None:
        """Of those that have been succeeded, gives the ended ones back."""
        for child in [child for child in self._leaving if not child.is_running]:
            self._leaving.remove(child)
            await child.kill()  # there is nothing to end any more

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
        for line in transition.lines:  # the data plane has sent them to the log targets of the configuration
            log.info("%s", line)
        self._keep_transition(transition)

    def _keep_transition(self, transition: Transition) -> None:
        key = MemberKey(transition.listener_id, transition.pool_id, transition.member_id)
        kept = self._transitions.setdefault(key, collections.deque(maxlen=TRANSITIONS_KEPT))
        kept.append(TransitionStatus(transition.at, transition.up, transition.reason))

    # --- the admin socket's side ---

    async def reread(self) -> ApplyReceipt:
        """Applies the file as it is now. Raises what `apply_text` raises."""
        return await self.apply(self._read())

    def _read(self) -> LoadBalancer:
        file, read_file = self._options.file, self._read_file
        if file is None or read_file is None:
            raise NotStarted("there is no file to read a configuration from")
        return read_configuration(read_file(file), str(file), self._options.escaping, self._options.algorithms)

    async def apply_text(self, text: str, file: str) -> ApplyReceipt:
        """Serves another configuration in place.

        Raises:
            Refused, ConfigError, ListenError: it cannot be served; nothing changed.
            NotStarted: the data plane died while it took the new one over; the old one serves again.
        """
        return await self.apply(read_configuration(text, file, self._options.escaping, self._options.algorithms))

    async def apply(self, wanted: LoadBalancer) -> ApplyReceipt:
        """As `apply_text`, with what `read_configuration` has made of the text."""
        began = time.monotonic()
        async with self._changing:
            return await self._apply(wanted, began)

    async def _apply(self, wanted: LoadBalancer, began: float) -> ApplyReceipt:
        assert self._running is not None
        assert self._child is not None
        steps = compare(self._running, wanted)
        files = self._read_tls_files(wanted)
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
            await self._replace_child(self._generation, self._running, self._files_in_force())
            raise NotStarted(f"{error}; the configuration before it serves again") from error
        self._generation += 1
        self._running, self._files = wanted, files
        self.look_at_certificates(time.time())
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
        return self.status_builder()()

    def status_builder(self) -> Callable[[], Status]:
        """What makes the status of now in another thread: with thousands of members that takes a while.

        What is made raises ValueError when the board has been closed meanwhile.
        """
        assert self._running is not None
        assert self._board is not None
        assert self._child is not None
        child, running, board = self._child, self._running, self._board
        alarms = tuple(self._alarms)
        transitions = {key: tuple(kept) for key, kept in self._transitions.items()}
        certificates = self._certificates
        data_plane = DataPlaneStatus(
            pid=child.pid if child.is_running else 0,
            uptime_s=time.monotonic() - child.started_at,
            restarts=self._restarts,
            threads=self._threads,
            sessions=child.sessions,
            draining=child.draining,
            spare=self._spare.pid if self._spare is not None and self._spare.is_running else 0,
        )
        generation = self._generation
        peers = tuple(PeerStatus.of(news) for news in child.peers)
        return lambda: Status(
            version=amphorad.__version__,
            load_balancer=running.id,
            file=str(self._options.file or ""),
            generation=generation,
            uptime_s=time.monotonic() - self._started_at,
            escaping=self._options.escaping.value,
            http_reuse=str(self._options.reuse),
            data_plane=data_plane,
            alarms=alarms,
            listeners=build_listeners(running, board, transitions, certificates),
            peers=peers,
        )


def _successor_of(descriptor: int, threads: int) -> Board:
    """A board with what another one holds, which is closed; empty when that is of another version."""
    try:
        old = Board.attach(descriptor)
    except ValueError:
        os.close(descriptor)
        return Board.create(threads)
    board = Board.create(max(threads, old.threads))
    with contextlib.suppress(ValueError):  # another size: another version in all but name
        board.copy_from(old)
    old.close()
    return board
