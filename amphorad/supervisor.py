"""The supervising process: owns the configuration, the listening sockets, the board, the admin socket and one data plane.

It carries no traffic. What it owns survives the data plane, so when that dies (a crash, SIGKILL), another takes over at once on
the same sockets, the same board and the same snapshot; only the open sessions are lost. A spare process that has loaded its
code waits for that: it costs 18 MB, and makes it 10 to 25 ms instead of 300 until connections are served again. One apply runs at a time:

    text -> dialect -> model -> plan (old, new) -> open new sockets -> data plane confirms -> close unused sockets

A step that fails leaves the old snapshot serving. A restart of the data plane waits for an apply that runs, and the reverse.

    holdings    what the supervisor owns, and the data planes that work with it
    succession  a data plane that has outlived its supervisor is adopted, or gets a successor
    spare       the process that waits
    silence     whether the data plane still says something
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import time
from typing import TYPE_CHECKING

import amphorad
from amphorad.admin import AdminServer, ApplyReceipt
from amphorad.board import MAX_THREADS
from amphorad.child import DataPlaneDied
from amphorad.errors import AmphoradError
from amphorad.expiry import Certificate, ExpiryWatch, certificates_of
from amphorad.holdings import Holdings
from amphorad.options import Options, read_configuration
from amphorad.plan import MemberKey, compare
from amphorad.proxy.tls.context import expiry_of
from amphorad.silence import SilenceWatch
from amphorad.spare import Spare
from amphorad.state_directory import AlreadyRunning, NotStarted, survivor_names
from amphorad.status import DataPlaneStatus, PeerStatus, Status, TransitionStatus, build_listeners
from amphorad.succession import Succession
from amphorad.tls_files import read_tls_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from amphorad.board import Board
    from amphorad.messages import Transition
    from amphorad.model import LoadBalancer
    from amphorad.plan import Plan
    from amphorad.succession import Taken

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
EXPIRY_LOOK_S = 3600.0  # between two looks at the certificates, of which the last warning comes a day before
SAVE_TABLES_S = 10.0  # between two looks whether stick tables have changed


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
        self._holdings = Holdings(options, self._on_alarm, self._on_transition)
        self._succession = Succession(options, self._holdings, self._on_alarm)
        self._spare = Spare(self._holdings.new_child, self._on_alarm)
        self._silence = SilenceWatch(self._on_alarm)
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
        self._holdings.directory.take()
        threads = min(self._options.threads or wanted.threads or len(os.sched_getaffinity(0)), MAX_THREADS)
        self._holdings.set_threads(threads)
        adopted = False
        try:
            taken = await self._succession.take_over(wanted)
            if taken is None:
                await self._start_anew(wanted)
            else:
                adopted = True
                await self._go_on(taken, wanted)
            if self._admin is not None:
                await self._start_admin(self._admin)
        except BaseException:
            if adopted:  # it must not end because something else cannot be served
                await self._let_go()
            raise
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
        holdings = self._holdings
        self._files = self._read_tls_files(wanted)
        holdings.sockets.prepare(wanted)
        holdings.make_board()
        if self._options.survive:
            holdings.directory.open_adoption()
        else:
            holdings.directory.remove_adoption()
        holdings.child = child = holdings.new_child()
        try:
            await child.start()
            await child.apply(1, wanted, dict(holdings.sockets.of(wanted)), self._files)
        except DataPlaneDied as error:
            raise NotStarted(str(error)) from error
        holdings.sockets.commit(wanted)
        self._running, self._generation = wanted, 1

    async def _go_on(self, taken: Taken, wanted: LoadBalancer) -> None:
        """From what serves after a take-over to what is wanted."""
        self._running, self._generation, self._files = taken.load_balancer, taken.generation, taken.files
        for transition in taken.transitions:
            self._keep_transition(transition)
        if taken.is_adopted:
            await self.apply(wanted)

    async def stop(self, grace_s: float | None = None) -> None:
        """Accepts nothing more, lets sessions end for the grace period, and gives everything back."""
        grace_s = self._options.grace_s if grace_s is None else grace_s
        await self._end_care()
        holdings = self._holdings
        if holdings.child is not None:
            log.info("stopping grace_s=%g sessions=%d", grace_s, holdings.child.sessions)
            await holdings.child.begin_stop(grace_s)
            # Time to let go of the listening sockets: an accept that fails for good is not what its threads expect.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(holdings.child.wait_ended(), LET_GO_S)
            holdings.sockets.refuse()
            await holdings.child.finish_stop(grace_s)
        for leaving in holdings.leaving:
            await leaving.kill()
        if holdings.directory.adoption is not None:  # else what waits there is none of ours
            holdings.directory.remove_adoption()
        holdings.give_back()
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

    async def end_survivor(self) -> bool:
        """Instead of `start`: ends a data plane that has outlived its supervisor, with its sessions; whether there was one.

        Raises:
            AlreadyRunning, NotStarted.
        """
        self._holdings.directory.take()
        try:
            return await self._succession.seize()
        finally:
            await self.stop(0.0)

    async def _let_go(self) -> None:
        await self._end_care()
        await self._holdings.release()
        self._running = None
        self._holdings.give_back()

    async def _end_care(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._admin is not None:
            await self._admin.stop()
        await self._spare.drop()

    async def hurry(self) -> None:
        """During `stop`: ends the data plane at once."""
        await self._holdings.kill()

    @property
    def running(self) -> LoadBalancer | None:
        """The configuration in force; None before the first."""
        return self._running

    @property
    def board(self) -> Board | None:
        """What the data plane writes and everyone may read; None before the start."""
        return self._holdings.board

    @property
    def is_serving(self) -> bool:
        """There is a data plane that should be answering; False while a dead one has not been replaced."""
        child = self._holdings.child
        return child is not None and child.is_serving

    @property
    def is_down(self) -> bool:
        """The data plane is gone and could not be replaced at once; between `on_down` and `on_serving`."""
        return self._is_down

    @property
    def data_plane_pid(self) -> int:
        """Of the data plane that serves; 0 while there is none."""
        child = self._holdings.child
        return child.pid if child is not None and child.is_serving else 0

    @property
    def ready_line(self) -> str:
        """One line of key=value for whoever waits for the start."""
        holdings = self._holdings
        assert self._running is not None
        assert holdings.child is not None
        return (
            f"ready listeners={len(self._running.listeners)} sockets={len(holdings.sockets)} threads={holdings.threads}"
            f" generation={self._generation} pid={os.getpid()} data_plane={holdings.child.pid}"
            f" admin={self._options.admin_socket}"
        )

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

    # --- the data plane ---

    async def _keep_running(self) -> None:
        failures = 0
        while True:
            child = self._holdings.child
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
                if self._holdings.child is child:  # an apply that saw it die has replaced it already otherwise
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
        holdings = self._holdings
        assert holdings.child is not None
        assert load_balancer is not None
        began = time.monotonic()
        await holdings.child.kill()
        self._restarts += 1
        holdings.child = child = await self._spare.take() or holdings.new_child()
        try:
            await child.start()
            await child.apply(generation, load_balancer, dict(holdings.sockets.of(load_balancer)), files)
        except (DataPlaneDied, AmphoradError, OSError) as error:
            self._on_alarm(f"data plane did not start: {error}")
            await child.kill()
            self._show_serving(is_serving=False)
            raise NotStarted(str(error)) from error
        self._show_serving(is_serving=True)
        log.warning("data plane replaced pid=%d took_ms=%d", child.pid, (time.monotonic() - began) * 1000)

    async def _keep_tables(self) -> None:
        while True:
            await asyncio.sleep(SAVE_TABLES_S)
            await asyncio.to_thread(self._holdings.save_tables)

    async def _look_after(self) -> None:
        """Notices a data plane whose main loop hangs, and keeps a spare one."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            await self._see_off()
            if now - began < 2 * LOOK_S:  # else this process has been held up, and what was said to it is still unread
                assert self._holdings.child is not None
                self._silence.look(self._holdings.child, now)
            await self._spare.keep(now)

    async def _see_off(self) -> None:
        """Of those that have been succeeded, gives the ended ones back."""
        leaving = self._holdings.leaving
        for child in [child for child in leaving if not child.is_running]:
            leaving.remove(child)
            await child.kill()  # there is nothing to end any more

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
        holdings = self._holdings
        assert self._running is not None
        assert holdings.child is not None
        steps = compare(self._running, wanted)
        files = self._read_tls_files(wanted)
        if steps.is_empty and files == self._files:
            return self._receipt(steps, changed=False, opened=0, closed=0, began=began)
        opened = holdings.sockets.prepare(wanted)
        try:
            if holdings.child.is_running:
                await holdings.child.apply(self._generation + 1, wanted, dict(holdings.sockets.of(wanted)), files)
            else:  # it keeps dying, perhaps of the old configuration
                await self._replace_child(self._generation + 1, wanted, files)
        except AmphoradError:
            holdings.sockets.roll_back()
            raise
        except DataPlaneDied as error:
            holdings.sockets.roll_back()
            await self._replace_child(self._generation, self._running, self._files_in_force())
            raise NotStarted(f"{error}; the configuration before it serves again") from error
        self._generation += 1
        self._running, self._files = wanted, files
        self.look_at_certificates(time.time())
        gone = set(steps.members_removed)
        self._transitions = {key: kept for key, kept in self._transitions.items() if key not in gone}
        closed = holdings.sockets.commit(wanted)
        receipt = self._receipt(steps, changed=True, opened=opened, closed=closed, began=began)
        log.info("applied generation=%d elapsed_ms=%d", receipt.generation, receipt.elapsed_s * 1000)
        return receipt

    def _receipt(self, steps: Plan, *, changed: bool, opened: int, closed: int, began: float) -> ApplyReceipt:
        child = self._holdings.child
        assert child is not None
        return ApplyReceipt(
            generation=self._generation,
            changed=changed,
            summary=steps.summary,
            changes=tuple(steps.describe().splitlines()[1:]),  # without the summary
            sockets_opened=opened,
            sockets_closed=closed,
            sockets_kept=len(self._holdings.sockets) - opened,
            elapsed_s=time.monotonic() - began,
            draining=child.draining,
        )

    def status(self) -> Status:
        return self.status_builder()()

    def status_builder(self) -> Callable[[], Status]:
        """What makes the status of now in another thread: with thousands of members that takes a while.

        What is made raises ValueError when the board has been closed meanwhile.
        """
        assert self._running is not None
        assert self._holdings.board is not None
        assert self._holdings.child is not None
        child, running, board = self._holdings.child, self._running, self._holdings.board
        alarms = tuple(self._alarms)
        transitions = {key: tuple(kept) for key, kept in self._transitions.items()}
        certificates = self._certificates
        data_plane = DataPlaneStatus(
            pid=child.pid if child.is_running else 0,
            uptime_s=time.monotonic() - child.started_at,
            restarts=self._restarts,
            threads=self._holdings.threads,
            sessions=child.sessions,
            draining=child.draining,
            spare=self._spare.pid,
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
