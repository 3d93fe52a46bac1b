"""`Vrrp`: the controller's calls, and keepalived kept alive without cost for clients.

What happens when keepalived dies:

    in order (SIGTERM from an operator)   it has told the peer and put the VIPs away; another one is started as BACKUP
    by a crash or SIGKILL, as BACKUP      another one is started
    by a crash or SIGKILL, as MASTER      the VIPs are still on the interface and serve. A keepalived that starts would take them down and wait
                                          until the peer, which hears nothing, has taken over: three seconds without VIPs. So `lo` gets the VIPs
                                          first, which the kernel answers on like on any interface; then another one is started that
                                          becomes MASTER at once (see `effective.render`), within a tenth of a second, before the peer misses
                                          an advertisement for long enough. Then `lo` loses them again. Sessions stay where they are
    and no other one can be started       the VIPs stay until the peer is heard to be MASTER, then they are removed, or two machines
                                          would answer. Without a peer they stay and serve

After an agent's restart keepalived is adopted as it is. When it died meanwhile as MASTER, the same is done, unless the peer is heard.

Source: Octavia contract sections 1.5 (routes 20 and 21), 3.2, 5.2, 5.3.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING, Final

from amphorad.dialects.keepalived import vrrp as dialect
from amphorad.errors import AmphoradError, ConfigError, OperationFailed
from amphorad.files import make_directory, remove, write_atomically
from amphorad.vrrp.addresses import Addresses, PeerWatch
from amphorad.vrrp.check_script import write_script
from amphorad.vrrp.effective import render
from amphorad.vrrp.health import HealthFiles
from amphorad.vrrp.keepalived import NotStarted, find_running, kill_child, launch, wait_child_gone
from amphorad.vrrp.paths import Paths
from amphorad.vrrp.states import History, State, open_events, read_events

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from amphorad.agent.settings import AgentSettings
    from amphorad.dialects.keepalived import VrrpConfiguration
    from amphorad.vrrp.keepalived import Keepalived
    from amphorad.vrrp.states import Change

__all__ = ["Vrrp"]

log = logging.getLogger(__name__)

CHILD_GONE_S: Final = 1.0  # it puts its addresses away after its parent was killed
MASTER_AGAIN_S: Final = (
    2.0  # for one that replaces a MASTER; else something keeps it from that, and `lo` must not go on answering
)
BACKOFF_S: Final = 0.2
BACKOFF_LIMIT_S: Final = 5.0
LISTEN_S: Final = 0.1  # between two looks for the peer
EARLY_S: Final = 5.0  # one that dies sooner counts as failing, and the next waits


class Vrrp:
    """VRRP of one agent. `restore` first, `close` last; in between the controller's calls, one at a time.

    Args:
        is_healthy: whether this node can serve (Octavia contract section 5.3).
        data_planes: process ids of data planes that serve, for the time in which no agent lives.
    """

    def __init__(
        self,
        settings: AgentSettings,
        is_healthy: Callable[[], bool],
        data_planes: Callable[[], Sequence[int]] = tuple,
    ) -> None:
        self._settings = settings
        self._paths = Paths(settings.base_path, settings.state_dir)
        self._health = HealthFiles(self._paths, is_healthy, data_planes)
        self._history = History(self._paths.history)
        self._changing = asyncio.Lock()
        self._state_changed = asyncio.Event()
        self._active: VrrpConfiguration | None = None
        self._keepalived: Keepalived | None = None
        self._addresses: Addresses | None = None
        self._events = -1
        self._partial = bytearray()
        self._care: asyncio.Task[None] | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._launched_at = 0.0
        self._failures = 0
        self._is_wanted = False  # keepalived should run
        self._holds_vips = False  # it was MASTER last, and has not put the VIPs away since
        self.is_configured = False

    # --- what others ask ---

    @property
    def is_alive(self) -> bool:
        """keepalived runs; while VRRP is configured and it does not, no heartbeat may be sent (Octavia contract section 3.2)."""
        return self._keepalived is not None and self._keepalived.is_alive

    @property
    def state(self) -> State:
        return self._history.state if self.is_configured else State.NOT_CONFIGURED

    @property
    def since_s(self) -> float | None:
        """Seconds since the state began; None without one."""
        return self._history.since_s

    @property
    def history(self) -> tuple[Change, ...]:
        """The states of late, oldest first."""
        return self._history.changes

    def health_changed(self) -> None:
        """To be called when `is_healthy` or `data_planes` may answer something else; without it that is noticed a little later."""
        self._health.wake()

    # --- the controller's calls ---

    async def upload(self, body: bytes) -> None:
        """Checks a text and keeps it, byte for byte. Nothing is started or changed by it.

        Raises:
            ConfigError: refused; what was there before stays.
            OperationFailed: it cannot be written.
        """
        await asyncio.to_thread(self._read, body)
        async with self._changing:
            try:
                await asyncio.to_thread(self._store, body)
                self._prepare()
            except (OSError, ValueError) as error:
                raise OperationFailed("Error enabling octavia-keepalived service", str(error)) from error
            if not self.is_configured:
                self.is_configured = True
                self._enter(State.STOPPED)
        log.info("configuration stored bytes=%d", len(body))

    async def start(self) -> str:
        """Puts the uploaded text in force: starts keepalived, or lets one that runs reload. Gives the contract's `details`.

        Raises:
            OperationFailed: what was in force before still is.
        """
        async with self._changing:
            return await self._activate("start")

    async def reload(self) -> str:
        """As `start`, for a keepalived that runs.

        Raises:
            OperationFailed.
        """
        async with self._changing:
            if not self._is_wanted:
                raise _failed("reload", "octavia-keepalived is not active, cannot reload")
            return await self._activate("reload")

    async def stop(self) -> str:
        """Ends keepalived in order: the peer takes over within the skew time, 0.6 s with the controller's settings.

        Raises:
            OperationFailed.
        """
        async with self._changing:
            try:
                if self.is_configured:
                    make_directory(self._paths.runtime)
                    write_atomically(self._paths.idle, b"", 0o644)
                await self._stop()
            except OSError as error:
                raise _failed("stop", str(error)) from error
        return "keepalived stoped"  # as the stock agent spells it

    async def _stop(self) -> None:
        self._is_wanted = False
        await self._cancel_recovery()
        if self._keepalived is not None and not await self._keepalived.stop():
            self._drop_addresses(loopback_only=False)
        self._drop_addresses(loopback_only=True)
        self._keepalived = None
        self._take_events()
        self._holds_vips = False
        if self.is_configured:
            self._enter(State.STOPPED)

    # --- life ---

    async def restore(self) -> None:
        """Adopts the keepalived that runs, or starts it if it should run; nothing to do where nothing was uploaded.

        Raises:
            OperationFailed, OSError.
        """
        self.is_configured = self._paths.uploaded.exists()
        if not self.is_configured:
            return
        async with self._changing:
            self._history.load()
            self._prepare()
            self._keepalived = find_running(self._paths, self._on_exit)
            if self._keepalived is not None:
                self._adopt()
                return
            self._take_events()
            if self._paths.idle.exists():
                self._enter(State.STOPPED)
                return
            await self._restore_dead()

    async def end(self) -> None:
        """As `stop`, but the next `restore` starts it again. `close` comes after it.

        Raises:
            OSError.
        """
        async with self._changing:
            await self._stop()

    async def close(self) -> None:
        """Ends this object; keepalived goes on. The files of the health stay as they are, and true as long as the data planes live."""
        self._is_wanted = False
        await self._cancel_recovery()
        if self._care is not None:
            self._care.cancel()
            await asyncio.gather(self._care, return_exceptions=True)
        if self._keepalived is not None:
            self._keepalived.release()
        if self._addresses is not None:
            self._addresses.close()
        if self._events >= 0:
            asyncio.get_running_loop().remove_reader(self._events)
            os.close(self._events)
            self._events = -1

    def _prepare(self) -> None:
        """What keepalived needs before it starts, and what tells of it.

        Raises:
            OSError, ValueError.
        """
        make_directory(self._paths.runtime)
        write_script(self._paths.check_script, self._paths.processes)
        if self._care is None:
            self._health.prepare()
            self._care = asyncio.create_task(self._health.run(), name="vrrp health")
        if self._events < 0:
            self._events = open_events(self._paths.events)
            asyncio.get_running_loop().add_reader(self._events, self._take_events)

    def _store(self, body: bytes) -> None:
        make_directory(self._paths.uploaded.parent)
        make_directory(self._paths.runtime)
        if not self._is_wanted:
            write_atomically(self._paths.idle, b"", 0o644)
        write_atomically(self._paths.uploaded, body, 0o644)

    def _read(self, body: bytes) -> VrrpConfiguration:
        return dialect.check(body, file=self._paths.uploaded.name, script=str(self._paths.check_script))

    # --- start and reload ---

    async def _activate(self, action: str) -> str:
        try:
            text = await asyncio.to_thread(self._paths.uploaded.read_bytes)
            configuration = self._read(text)
            self._prepare()
            write_atomically(self._paths.active, text, 0o600)
            self._write_effective(configuration)
            remove(self._paths.idle)
        except FileNotFoundError:
            raise _failed(action, "no configuration has been uploaded") from None
        except (ConfigError, OSError, ValueError) as error:
            raise _failed(action, str(error)) from error
        self._active = configuration
        if self._keepalived is not None and self._keepalived.is_alive:
            self._keepalived.reload()
            self._is_wanted = True
            return "keepalived reloaded"
        self._is_wanted = False
        await self._cancel_recovery()
        try:
            await self._launch()
        except (NotStarted, OSError) as error:
            self._is_wanted = False
            with contextlib.suppress(OSError):
                write_atomically(self._paths.idle, b"", 0o644)
            self._enter(State.STOPPED)
            raise _failed(action, str(error)) from error
        self._is_wanted = True  # not earlier: a death during the start is answered to the controller
        return "keepalived started"

    def _write_effective(self, configuration: VrrpConfiguration, *, keeps_mastership: bool = False) -> None:
        text = render(configuration, self._paths, keeps_mastership=keeps_mastership)
        write_atomically(self._paths.effective, text.encode(), 0o600)

    async def _launch(self) -> None:
        """
        Raises:
            NotStarted, OSError.
        """
        settings = self._settings
        self._launched_at = asyncio.get_running_loop().time()
        found = launch(
            self._paths,
            settings.keepalived_command,
            settings.namespace_path,
            settings.administrative_log_facility,
            self._on_exit,
        )
        self._keepalived = found
        self._enter(State.STARTING)
        await found.wait_running()
        log.info("keepalived runs pid=%d", found.pid)

    # --- adoption ---

    def _adopt(self) -> None:
        assert self._keepalived is not None
        self._is_wanted = True
        self._active = self._read(self._paths.active.read_bytes())
        self._take_events()
        self._drop_addresses(loopback_only=True)
        self._holds_vips = bool(self._namespace().find(self._active.all_vips))
        if self._holds_vips:  # the only proof; events may have been lost with a state directory
            self._enter(State.MASTER)
        if self._paths.effective.read_text() != render(
            self._active, self._paths
        ):  # left in the middle of something, or another version
            self._write_effective(self._active)
            self._keepalived.reload()
        log.info("keepalived adopted pid=%d state=%s", self._keepalived.pid, self.state)

    async def _restore_dead(self) -> None:
        """Nobody runs: after a reboot, or it died without an agent. VIPs that are still there are kept unless the peer has them."""
        try:
            self._active = self._read(self._paths.uploaded.read_bytes())
            has_vips = bool(self._namespace().find(self._active.all_vips))
            keeps = has_vips and not await self._hears_peer(self._active)
            if keeps:
                self._namespace().add_to_loopback(self._active.all_vips)
        except (AmphoradError, OSError) as error:
            raise _failed("start", str(error)) from error
        if not keeps:
            await self._activate("start")
            return
        self._is_wanted = True
        write_atomically(self._paths.active, self._paths.uploaded.read_bytes(), 0o600)
        self._recovery = asyncio.create_task(self._recover(holds_vips=True), name="vrrp recovery")

    async def _hears_peer(self, configuration: VrrpConfiguration) -> bool:
        """Within one interval of advertisements and a fifth."""
        if not configuration.peers:
            return False
        watch = PeerWatch(self._settings.namespace_path, configuration.peers, configuration.virtual_router_id)
        try:
            await asyncio.sleep(1.2 * configuration.advert_interval_s)
            return watch.has_heard()
        finally:
            watch.close()

    # --- keepalived's death ---

    def _on_exit(self) -> None:
        self._take_events()
        found = self._keepalived
        if not self._is_wanted or found is None or self._recovery is not None:
            return  # expected, or somebody deals with it already
        # A child whose parent was killed also says STOP, but then nobody has removed the parent's pid file.
        was_orderly = self._history.state is State.STOPPED and not self._paths.pid.exists()
        holds_vips = self._holds_vips = self._holds_vips and not was_orderly
        log.error(
            "keepalived died pid=%d %s state=%s orderly=%s",
            found.pid,
            found.exit_text,
            self._history.state,
            was_orderly,
        )
        if holds_vips and self._active is not None:
            try:  # at once: a child whose parent was killed is putting them away at this moment
                self._namespace().add_to_loopback(self._active.all_vips)
            except OSError as error:
                log.error("addresses cannot be kept reason=%s", error)
        lived_s = asyncio.get_running_loop().time() - self._launched_at
        self._failures = self._failures + 1 if lived_s < EARLY_S else 0
        self._recovery = asyncio.create_task(self._recover(holds_vips=holds_vips), name="vrrp recovery")

    async def _recover(self, *, holds_vips: bool) -> None:
        """Until keepalived runs again."""
        try:
            if await self._restart(holds_vips=holds_vips):
                await self._settle()
        except OSError as error:
            log.error("keepalived restarted, but not all was put right reason=%s", error)
        finally:
            self._recovery = None
        if self._is_wanted and not self.is_alive:  # it died again meanwhile
            self._on_exit()

    async def _restart(self, *, holds_vips: bool) -> bool:
        """Starts another one, again and again; whether the VIPs are still this node's."""
        assert self._active is not None
        configuration = self._active
        watch: PeerWatch | None = None
        try:
            if holds_vips and configuration.peers:
                watch = PeerWatch(self._settings.namespace_path, configuration.peers, configuration.virtual_router_id)
            while True:
                if self._failures:
                    holds_vips = await self._pause(watch, holds_vips=holds_vips)
                if not await wait_child_gone(self._paths, CHILD_GONE_S):
                    kill_child(self._paths)
                try:
                    self._write_effective(configuration, keeps_mastership=holds_vips)
                    await self._launch()
                    return holds_vips
                except (NotStarted, OSError) as error:
                    self._failures += 1
                    log.error("keepalived not started, trying again failures=%d reason=%s", self._failures, error)
        finally:
            if watch is not None:
                watch.close()

    async def _pause(self, watch: PeerWatch | None, *, holds_vips: bool) -> bool:
        """Waits before another try; whether the VIPs are still this node's."""
        left_s = min(BACKOFF_S * 2.0 ** min(self._failures - 1, 8), BACKOFF_LIMIT_S)
        while left_s > 0:
            await asyncio.sleep(min(LISTEN_S, left_s))
            left_s -= LISTEN_S
            if holds_vips and watch is not None and watch.has_heard():
                log.warning("the peer has taken over, this node lets the VIPs go")
                self._drop_addresses(loopback_only=False)
                holds_vips = self._holds_vips = False
        return holds_vips

    async def _settle(self) -> None:
        """After the start of one that should be MASTER at once: back to the usual file, and nothing left on `lo`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MASTER_AGAIN_S):
                while self._history.state is not State.MASTER and self.is_alive:
                    self._state_changed.clear()
                    await self._state_changed.wait()
        assert self._active is not None
        self._write_effective(self._active)
        if self._keepalived is not None:
            self._keepalived.reload()
        self._drop_addresses(loopback_only=True)
        log.warning("keepalived replaced state=%s", self._history.state)

    async def _cancel_recovery(self) -> None:
        recovery, self._recovery = self._recovery, None
        if recovery is not None:
            recovery.cancel()
            await asyncio.gather(recovery, return_exceptions=True)
            self._recovery = None

    # --- small parts ---

    def _namespace(self) -> Addresses:
        if self._addresses is None:
            self._addresses = Addresses(self._settings.namespace_path)
        return self._addresses

    def _drop_addresses(self, *, loopback_only: bool) -> None:
        if self._active is not None:
            self._namespace().remove(self._active.all_vips, loopback_only=loopback_only)

    def _take_events(self) -> None:
        for state in read_events(self._events, self._partial) if self._events >= 0 else ():
            self._enter(state)

    def _enter(self, state: State) -> None:
        before = self._history.state
        if state is State.MASTER:
            self._holds_vips = True
        elif state in (State.BACKUP, State.FAULT):
            self._holds_vips = False
        try:
            if self._history.enter(state):
                log.warning("vrrp state=%s before=%s", state, before)
        except OSError as error:
            log.error("state cannot be written path=%s reason=%s", self._paths.history, error)
        self._state_changed.set()


def _failed(action: str, details: str) -> OperationFailed:
    return OperationFailed(f"Failed to {action} octavia-keepalived service", details)
