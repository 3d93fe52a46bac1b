"""The agent's life: all parts started in the order in which they need each other, signals obeyed, everything ended in the reverse order.

    start   lock -> network -> load balancers -> VRRP -> heartbeats -> API -> admin socket -> READY

Traffic comes before management: a rebooted amphora serves as soon as it can, whether a controller is there or not. Heartbeats begin when the
load balancers stand, because one without them would tell the controller that its listeners are gone.

    SIGTERM  the agent ends; data planes and keepalived go on, and the next agent adopts them
    SIGINT   everything ends, VRRP first, so that the other amphora takes over before the listeners close; a second one hurries
    SIGHUP   settings are read again

What cannot be restored at the start is logged and shown in the status, and does not keep the API from coming up: the
controller is the one who can repair it. Only an API that cannot listen, and a second agent, are fatal.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

import amphorad
from amphorad.admin import AdminServer
from amphorad.agent.load_balancers import LoadBalancers
from amphorad.agent.service_manager import ServiceManager
from amphorad.agent.settings import MUTABLE, read_settings
from amphorad.agent.status import AgentStatus
from amphorad.agent_api.server import AgentServer
from amphorad.agent_api.services import Services
from amphorad.errors import AmphoradError
from amphorad.files import make_directory
from amphorad.heartbeat.sender import HeartbeatSender
from amphorad.network.plugging import Plugging
from amphorad.supervisor import AlreadyRunning
from amphorad.vrrp import Vrrp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from amphorad.admin import ApplyReceipt
    from amphorad.agent.settings import AgentSettings

__all__ = ["Agent", "run"]

log = logging.getLogger(__name__)


async def run(settings: AgentSettings) -> signal.Signals:
    """One agent from its start to the signal that ends it, which is returned.

    Raises:
        AlreadyRunning: another agent has the same state directory or admin socket.
        ListenError: the API's address is taken.
    """
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    manager = ServiceManager(os.environ)
    watchdog = asyncio.create_task(manager.run_watchdog(), name="watchdog")
    agent = Agent(settings)
    ended_by = signal.SIGTERM  # of a start that fails: what serves goes on serving
    try:
        await agent.start()
        manager.ready(agent.summary)
        log.info("ready %s", agent.summary)
        ended_by = await _obey(agent, manager, signals)
    finally:
        manager.stopping()
        await _end(agent, ended_by, signals)
        watchdog.cancel()
        await asyncio.gather(watchdog, return_exceptions=True)
    return ended_by


async def _obey(agent: Agent, manager: ServiceManager, signals: asyncio.Queue[signal.Signals]) -> signal.Signals:
    """Until the first signal that ends; gives it."""
    while (number := await signals.get()) is signal.SIGHUP:
        manager.reloading()
        try:
            await agent.reread_settings()
        except AmphoradError as error:
            log.error("settings refused, those that are in force stay reason=%s", error)
        manager.ready(agent.summary)
    log.info("ending on signal=%s", number.name)
    return number


async def _end(agent: Agent, number: signal.Signals, signals: asyncio.Queue[signal.Signals]) -> None:
    if number is not signal.SIGINT:
        await agent.leave()
        return
    stopping = asyncio.create_task(agent.stop(), name="stop")
    impatient = asyncio.create_task(signals.get(), name="signals")
    await asyncio.wait((stopping, impatient), return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        await agent.hurry()
    await stopping
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)


def _end_without_heartbeats(task: asyncio.Task[None]) -> None:
    """They end by cancellation only. An agent without them looks dead to the controller, so it makes room for the next one."""
    if not task.cancelled():
        log.critical("heartbeats have ended, the agent ends too", exc_info=task.exception())
        signal.raise_signal(signal.SIGTERM)


class Agent:
    """All parts of one agent. `start`, and in the end `leave` or `stop`, also after a start that failed."""

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        self._started_at = time.monotonic()
        self._problems: dict[str, str] = {}  # by the part that has it
        self._lock_file = -1
        self._plugging = Plugging(settings)
        self._load_balancers = LoadBalancers(settings, self._plugging.announce)
        self._vrrp = Vrrp(
            settings, lambda: self._load_balancers.is_healthy, lambda: self._load_balancers.data_plane_pids
        )
        self._heartbeats = HeartbeatSender(
            settings, self._load_balancers.sources, self._load_balancers.lvs_sources, self._may_send_heartbeats
        )
        self._heartbeat_task: asyncio.Task[None] | None = None
        self._api = AgentServer(
            settings,
            Services(
                load_balancers=self._load_balancers,
                plugging=self._plugging,
                vrrp=self._vrrp,
                reread_settings=self.reread_settings,
            ),
        )
        self._admin = AdminServer(settings.admin_socket, self)
        self._load_balancers.on_change.append(self._vrrp.health_changed)

    # --- life ---

    async def start(self) -> None:
        """Returns when everything that can be restored is, and the API listens.

        Raises:
            AlreadyRunning, ListenError.
        """
        self._take_lock()
        await self._try("network", self._plugging.restore())
        await self._try("load balancers", self._load_balancers.restore())
        await self._try("vrrp", self._vrrp.restore())
        self._heartbeat_task = asyncio.create_task(self._heartbeats.run(), name="heartbeats")
        self._heartbeat_task.add_done_callback(_end_without_heartbeats)
        await self._api.start()
        try:
            await self._admin.start()
        except OSError as error:
            raise AlreadyRunning(f"admin socket {self._settings.admin_socket}: {error.strerror}") from error

    async def _try(self, part: str, restoring: Awaitable[None]) -> None:
        """One part that cannot be restored does not keep the others from it, nor the controller from repairing it."""
        try:
            await restoring
        except (AmphoradError, OSError) as error:
            self._problems[part] = str(error)
            log.error("not restored part=%s reason=%s", part, error)

    async def leave(self) -> None:
        """Ends the management and leaves traffic and VRRP as they are."""
        await self._end_management()
        await self._vrrp.close()
        await self._load_balancers.leave()
        await self._plugging.close()
        self._drop_lock()

    async def stop(self) -> None:
        """Ends everything: VRRP first, then the traffic within the grace period."""
        await self._end_management()
        with contextlib.suppress(OSError):
            await self._vrrp.end()
        await self._vrrp.close()
        await self._load_balancers.stop_all(self._settings.grace_s)
        await self._plugging.close()
        self._drop_lock()

    async def hurry(self) -> None:
        """During `stop`: ends the data planes at once."""
        await self._load_balancers.hurry()

    async def _end_management(self) -> None:
        await self._admin.stop()
        await self._api.close()
        if self._heartbeat_task is not None:
            self._heartbeat_task.cancel()
            await asyncio.gather(self._heartbeat_task, return_exceptions=True)

    def _take_lock(self) -> None:
        directory = self._settings.state_dir
        try:
            make_directory(self._settings.base_path)
            make_directory(directory, 0o711)  # data planes have to come to their own directories in it
            self._lock_file = os.open(directory / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"another agent serves with state directory {directory}") from None
        except OSError as error:
            raise AlreadyRunning(f"state directory {directory}: {error.strerror}") from error

    def _drop_lock(self) -> None:
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    # --- settings ---

    async def reread_settings(self) -> None:
        """Takes what changed and may change; the rest is named in the log and waits for a restart.

        Raises:
            ConfigError: nothing changed.
        """
        found = await asyncio.to_thread(read_settings, self._settings.files)
        changed = [name for name in found.__slots__ if getattr(found, name) != getattr(self._settings, name)]
        taken = {name: getattr(found, name) for name in changed if name in MUTABLE}
        waiting = [name for name in changed if name not in MUTABLE]
        self._settings = replace(self._settings, **taken)
        logging.getLogger().setLevel(logging.DEBUG if self._settings.debug else logging.INFO)
        self._load_balancers.update(self._settings)
        self._heartbeats.update(self._settings)
        log.info("settings read again changed=%s", ",".join(taken) or "nothing")
        self._problems.pop("settings", None)
        if waiting:
            self._problems["settings"] = f"changed, in force after a restart: {', '.join(waiting)}"
            log.warning("settings need a restart names=%s", ",".join(waiting))

    # --- what others ask ---

    def _may_send_heartbeats(self) -> bool:
        """False while keepalived should run and does not: the controller then replaces this amphora (Octavia contract section 3.2)."""
        return not self._vrrp.is_configured or self._vrrp.is_alive

    @property
    def summary(self) -> str:
        """One line for the service manager and the log."""
        return (
            f"load_balancers={self._load_balancers.running_count} problems={len(self._problems)}"
            f" topology={self._settings.topology} amphora={self._settings.amphora_id or '-'}"
        )

    def status(self) -> AgentStatus:
        return self.status_builder()()

    def status_builder(self) -> Callable[[], AgentStatus]:
        """See `Supervisor.status_builder`."""
        builders = self._load_balancers.status_builders()
        status = AgentStatus(
            version=amphorad.__version__,
            amphora_id=self._settings.amphora_id,
            topology=str(self._settings.topology),
            uptime_s=time.monotonic() - self._started_at,
            is_healthy=self._load_balancers.is_healthy,
            vrrp=str(self._vrrp.state),
            vrrp_since_s=self._vrrp.since_s,
            load_balancers=(),
            not_running=tuple(self._load_balancers.not_running()),
            lvs_listeners=tuple(self._load_balancers.lvs_statuses()),
            problems=tuple(f"{part}: {text}" for part, text in self._problems.items()),
        )
        return lambda: msgspec.structs.replace(status, load_balancers=tuple(build() for build in builders))

    async def apply_text(self, text: str, file: str) -> ApplyReceipt:
        """
        Raises:
            AmphoradError: always; an agent serves what its controller sends.
        """
        raise AmphoradError("the configuration belongs to the controller; `amphorad apply` is for `amphorad serve`")
