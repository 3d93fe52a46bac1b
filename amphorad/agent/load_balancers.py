"""Load balancers as the controller drives them: one supervisor per load balancer id, and what must outlive this process on disk.

    upload      text -> checked -> on disk; what is in force stays in force
    start       the uploaded text becomes the one in force, on disk first and in the data plane second
    reload      the same; a stopped load balancer is started
    stop        the data plane ends, with its sessions; the text stays
    delete      the same, and the text and the certificates go too
    restore     at boot, with no controller: whatever was in force is served again, or adopted when it still runs

An operation that fails puts back what was on disk before it, so disk and data plane agree. When the agent dies between the two, `restore` brings
the data plane to what the disk says.

UDP and SCTP listeners (LVS in the contract's words) are stored, answered and remembered, but nothing carries their traffic yet. That is
said in the log at each start of one, and by `amphorad status`; in heartbeats they stand as `LvsSource` explains.

Source: Octavia contract sections 1.5 (routes 4 and 7 to 12), 3.4, 5.3 to 5.5.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from amphorad.admin import Refused
from amphorad.agent import configuration
from amphorad.agent.lvs_listeners import LvsListeners
from amphorad.agent.sources import HeartbeatSource, ListenerEntry
from amphorad.agent.storage import Storage
from amphorad.agent_api.identifiers import is_id
from amphorad.errors import AmphoradError, ConfigError, NotFound, OperationFailed
from amphorad.supervisor import Options, Supervisor, survivor_names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from amphorad.agent.settings import AgentSettings
    from amphorad.agent.sources import LvsSource
    from amphorad.agent.status import LvsStatus
    from amphorad.model import LoadBalancer
    from amphorad.status import Status

__all__ = ["LoadBalancers"]

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0  # first pause before what did not start is tried again; it doubles
RETRY_LIMIT_S: Final = 60.0
AT_ONCE_S: Final = 0.0  # the stock agent gives sessions no time either when a load balancer is stopped


@dataclass(slots=True)
class _Entry:
    """One load balancer.

    Args:
        uploaded: what the text on disk says; None when it is none that can be read (left by another version).
        digest: of that text.
        is_started: it should serve.
        wanted: what should be in force, while it is started; None when that text cannot be read.
        supervisor: None while it is stopped, and while it cannot be started.
    """

    uploaded: LoadBalancer | None = None
    digest: bytes = b""
    is_started: bool = False
    wanted: LoadBalancer | None = None
    supervisor: Supervisor | None = None


async def _announce_nothing(_addresses: Sequence[str]) -> None:
    """For tests and machines without interfaces to announce on."""


class LoadBalancers:
    """All load balancers of one agent. `restore` first; `leave` or `stop` last.

    Operations may overlap; each load balancer sees them one at a time.

    Args:
        announce: tells the neighbours of addresses (gratuitous ARP, unsolicited NA); it must not raise.
        isolated: data planes run in the namespace and as the user of the settings, which takes root; else as this process.

    Attributes:
        on_change: called, with nothing, after each change that `is_healthy` may depend on.
    """

    def __init__(
        self,
        settings: AgentSettings,
        announce: Callable[[Sequence[str]], Awaitable[None]] = _announce_nothing,
        *,
        isolated: bool = True,
    ) -> None:
        self._settings = settings
        self._isolated = isolated
        self._announce = announce
        self._storage = Storage(settings.base_path, settings.base_cert_dir)
        self._entries: dict[str, _Entry] = {}
        self._lvs = LvsListeners(self._storage)
        self._changing = asyncio.Lock()
        self._retrying: asyncio.Task[None] | None = None
        self.on_change: list[Callable[[], None]] = []

    # --- routes 7 and 8 ---

    async def upload(self, amphora_id: str, lb_id: str, body: bytes) -> None:
        """Checks a text and keeps it, durably. Nothing is started or changed by it.

        Args:
            amphora_id: of this amphora, in the words of the URL; it names the local peer of stick tables.

        Raises:
            Refused: with every error of the text; nothing changed.
            OperationFailed: it cannot be written.
        """
        if not is_id(lb_id):
            raise Refused([ConfigError("not the UUID of a load balancer", file="URL", word=lb_id)])
        model = await self._read(body, lb_id)
        async with self._changing:
            try:
                await asyncio.to_thread(self._storage.set_uploaded, lb_id, body)
            except OSError as error:
                raise OperationFailed("Error writing configuration", _reason(error)) from error
            entry = self._entries.setdefault(lb_id, _Entry())
            entry.uploaded, entry.digest = model, _digest(body)
        log.info("configuration stored lb=%s amphora=%s listeners=%d", lb_id, amphora_id, len(model.listeners))

    async def configuration(self, lb_id: str) -> bytes:
        """The bytes that were uploaded last.

        Raises:
            NotFound.
        """
        text = await asyncio.to_thread(self._storage.uploaded, lb_id) if lb_id in self._entries else None
        if text is None:
            raise _no_load_balancer(lb_id)
        return text

    # --- route 9 ---

    async def start(self, object_id: str) -> str:
        """Puts the uploaded text in force; gives the contract's `details`.

        Raises:
            NotFound, OperationFailed: what was in force before still is.
        """
        return await self._act(object_id, "start", self._lvs.start)

    async def reload(self, object_id: str) -> str:
        """As `start`: one that does not run is started. Answers when the configuration is in force.

        Raises:
            NotFound, OperationFailed: what was in force before still is.
        """
        return await self._act(object_id, "reload", self._lvs.reload)

    async def stop(self, object_id: str) -> str:
        """Ends the data plane of a load balancer, with its sessions.

        Raises:
            NotFound, OperationFailed.
        """
        return await self._act(object_id, "stop", self._lvs.stop)

    async def _act(self, object_id: str, action: str, on_lvs: Callable[[str], Awaitable[str]]) -> str:
        async with self._changing:
            entry = self._entries.get(object_id)
            if entry is None and object_id in self._lvs:
                details = await on_lvs(object_id)
                await self._announced(self._lvs.addresses(object_id) if action != "stop" else ())
            elif entry is None:
                raise _no_load_balancer(object_id)
            elif action == "stop":
                await self._stop(object_id, entry)
                details = f"Listener {object_id} stoped"  # as the stock agent spells it
            else:
                was_running = entry.supervisor is not None
                await self._activate(object_id, entry, action)
                details = f"Configuration file is valid\nhaproxy daemon for {object_id} started"
                if action == "reload" and was_running:
                    details = f"Listener {object_id} reloaded"
                await self._announced(configuration.addresses(entry.wanted) if entry.wanted is not None else ())
        self._changed()
        return details

    async def _activate(self, lb_id: str, entry: _Entry, action: str) -> None:
        message = f"Error {action}ing haproxy"
        try:
            text = await asyncio.to_thread(self._storage.uploaded, lb_id)
            if text is None:
                raise _no_load_balancer(lb_id)
            wanted = entry.uploaded
            if wanted is None or entry.digest != _digest(text):  # somebody else wrote that file
                wanted = await self._read(text, lb_id)
            before = await asyncio.to_thread(self._storage.active, lb_id)
            await asyncio.to_thread(self._storage.set_active, lb_id, text)
        except (Refused, OSError) as error:
            raise OperationFailed(message, _reason(error)) from error
        try:
            await self._serve(lb_id, entry, wanted)
        except (AmphoradError, OSError) as error:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._storage.set_active, lb_id, before)
            log.error("not in force, what was before stays lb=%s action=%s reason=%s", lb_id, action, _reason(error))
            raise OperationFailed(message, _reason(error)) from error
        entry.is_started, entry.wanted = True, wanted

    async def _serve(self, lb_id: str, entry: _Entry, wanted: LoadBalancer) -> None:
        """Makes the data plane serve this; starts it if there is none."""
        if entry.supervisor is not None:
            await entry.supervisor.apply(wanted)
            return
        supervisor = Supervisor(self._options(lb_id), on_down=self._changed, on_serving=self._changed)
        try:
            await supervisor.start(wanted)
        except BaseException:
            await supervisor.stop(AT_ONCE_S)
            raise
        entry.supervisor = supervisor

    async def _stop(self, lb_id: str, entry: _Entry) -> None:
        try:
            await asyncio.to_thread(self._storage.set_active, lb_id, None)
        except OSError as error:
            raise OperationFailed("Error stopping haproxy", _reason(error)) from error
        entry.is_started, entry.wanted = False, None
        supervisor, entry.supervisor = entry.supervisor, None
        if supervisor is not None:
            await supervisor.stop(AT_ONCE_S)
            return
        try:  # one that could not be adopted goes on serving by itself
            await self._end_survivor(lb_id)
        except AmphoradError as error:
            raise OperationFailed("Error stopping haproxy", _reason(error)) from error

    # --- route 10 ---

    async def delete(self, object_id: str) -> None:
        """Ends and forgets a load balancer with its certificates, or a UDP or SCTP listener; one that is not there is no error.

        Raises:
            OperationFailed.
        """
        async with self._changing:
            entry = self._entries.get(object_id)
            if entry is None:
                await self._lvs.delete(object_id)
            else:
                await self._stop(object_id, entry)
                try:
                    await asyncio.to_thread(self._storage.delete, object_id)
                    await self._forget_runtime(object_id)
                except OSError as error:
                    raise OperationFailed("Error deleting load balancer", _reason(error)) from error
                del self._entries[object_id]
                log.info("deleted lb=%s", object_id)
        self._changed()

    # --- routes 11 and 12 ---

    async def upload_lvs(self, amphora_id: str, listener_id: str, body: bytes) -> None:
        """Keeps the text of a UDP or SCTP listener.

        Raises:
            Refused: it is not what the controller's template makes.
            OperationFailed: it cannot be written.
        """
        async with self._changing:
            await self._lvs.upload(listener_id, body)
        log.info("configuration stored listener=%s amphora=%s kind=lvs", listener_id, amphora_id)

    async def lvs_configuration(self, listener_id: str) -> bytes:
        """
        Raises:
            NotFound.
        """
        return await self._lvs.configuration(listener_id)

    # --- what others want to know ---

    def entries(self) -> list[ListenerEntry]:
        """The answer of `GET listeners`: a listener whose text is stored is ACTIVE, whether it runs or not."""
        found = [
            ListenerEntry("ACTIVE", listener.id, configuration.listener_type(listener))
            for entry in self._entries.values()
            if entry.uploaded is not None
            for listener in entry.uploaded.listeners
        ]
        return found + self._lvs.entries()

    @property
    def running_count(self) -> int:
        """Load balancers with a data plane that serves."""
        return sum(1 for entry in self._entries.values() if _is_serving(entry))

    @property
    def lvs_count(self) -> int:
        """UDP and SCTP listeners that are carried."""
        return sum(1 for entry in self._lvs.entries() if entry.status == "ACTIVE")

    def sources(self) -> Sequence[HeartbeatSource]:
        """Every started load balancer with what is in force."""
        return [
            HeartbeatSource(
                lb_id,
                entry.wanted,
                entry.supervisor.board if entry.supervisor is not None else None,
                # One that is being replaced is no news for a controller: it is over before the next heartbeat.
                entry.supervisor is not None and not entry.supervisor.is_down,
            )
            for lb_id, entry in self._entries.items()
            if entry.wanted is not None
        ]

    def lvs_sources(self) -> Sequence[LvsSource]:
        """Every UDP or SCTP listener that is enabled and started."""
        return self._lvs.sources()

    @property
    def is_healthy(self) -> bool:
        """What the VRRP check answers: a load balancer is started, and each one that is has a data plane that serves.

        Members do not matter (Octavia contract section 5.3). With nothing but UDP or SCTP listeners it is False: nothing carries them.
        """
        started = [entry for entry in self._entries.values() if entry.is_started]
        return bool(started) and all(map(_is_serving, started))

    @property
    def data_plane_pids(self) -> list[int]:
        """Processes that carry traffic."""
        found = [entry.supervisor.data_plane_pid for entry in self._entries.values() if entry.supervisor is not None]
        return [pid for pid in found if pid]

    def status_builders(self) -> list[Callable[[], Status]]:
        """Of every load balancer that runs, for `amphorad status`; see `Supervisor.status_builder`."""
        return [entry.supervisor.status_builder() for entry in self._entries.values() if entry.supervisor is not None]

    def lvs_statuses(self) -> list[LvsStatus]:
        """Of every UDP and SCTP listener, for `amphorad status`."""
        return self._lvs.statuses()

    def not_running(self) -> list[str]:
        """Ids of load balancers that are started and could not be."""
        return [lb_id for lb_id, entry in self._entries.items() if entry.is_started and entry.supervisor is None]

    # --- life ---

    def update(self, settings: AgentSettings) -> None:
        """Takes settings that may change over; those of running data planes do not."""
        self._settings = settings

    async def restore(self) -> None:
        """Serves again whatever was in force, and goes on trying what cannot be served; raises nothing of that.

        Raises:
            OSError: the base path cannot be read at all.
        """
        async with self._changing:
            await asyncio.to_thread(self._storage.clean)
            for lb_id in await asyncio.to_thread(self._storage.load_balancer_ids):
                try:
                    await self._restore(lb_id)
                except OSError as error:
                    log.error("load balancer cannot be read lb=%s reason=%s", lb_id, _reason(error))
            await self._end_survivors(lambda entry: entry is None or not entry.is_started)
            await self._lvs.restore()
        self._retrying = asyncio.create_task(self._keep_trying(), name="load balancers retry")
        self._changed()

    async def _end_survivors(self, is_doomed: Callable[[_Entry | None], bool]) -> None:
        """Ends data planes without a supervisor: an agent died before it could stop them, or they could not be adopted."""
        for lb_id in filter(is_id, await asyncio.to_thread(survivor_names, self._settings.state_dir)):
            entry = self._entries.get(lb_id)
            if is_doomed(entry):
                try:
                    await self._end_survivor(lb_id)
                except AmphoradError as error:
                    log.error("data plane cannot be ended lb=%s reason=%s", lb_id, error)
                    continue
                if entry is None:
                    await self._forget_runtime(lb_id)

    async def _end_survivor(self, lb_id: str) -> None:
        """
        Raises:
            AmphoradError: it is there and goes on.
        """
        if lb_id in await asyncio.to_thread(survivor_names, self._settings.state_dir):
            if await Supervisor(self._options(lb_id)).end_survivor():
                log.warning("data plane that nobody looked after was ended lb=%s", lb_id)

    async def _forget_runtime(self, lb_id: str) -> None:
        """Stick tables, for example: a load balancer that is deleted leaves nothing."""
        await asyncio.to_thread(shutil.rmtree, self._settings.state_dir / lb_id, ignore_errors=True)

    async def _restore(self, lb_id: str) -> None:
        entry = self._entries[lb_id] = _Entry()
        text = await asyncio.to_thread(self._storage.uploaded, lb_id)
        active = await asyncio.to_thread(self._storage.active, lb_id)
        if text is not None:
            entry.digest = _digest(text)
            with contextlib.suppress(Refused):
                entry.uploaded = await self._read(text, lb_id)
        if active is not None:
            entry.is_started = True
            await self._try(lb_id, entry)

    async def _try(self, lb_id: str, entry: _Entry) -> bool:
        """Serves what the disk says should be in force; whether that worked."""
        try:
            if entry.wanted is None:
                active = await asyncio.to_thread(self._storage.active, lb_id)
                entry.wanted = await self._read(active or b"", lb_id)
            await self._serve(lb_id, entry, entry.wanted)
        except (AmphoradError, OSError) as error:
            log.error("load balancer does not serve, tried again later lb=%s reason=%s", lb_id, _reason(error))
            return False
        return True

    async def _keep_trying(self) -> None:
        pause_s = RETRY_S
        while True:
            await asyncio.sleep(pause_s)
            waiting = self.not_running()
            pause_s = min(pause_s * 2, RETRY_LIMIT_S) if waiting else RETRY_S
            for lb_id in waiting:
                async with self._changing:
                    entry = self._entries.get(lb_id)
                    if entry is None or not entry.is_started or entry.supervisor is not None:
                        continue  # somebody else has dealt with it meanwhile
                    if await self._try(lb_id, entry):
                        log.warning("load balancer serves again lb=%s", lb_id)
                self._changed()

    async def leave(self) -> None:
        """Ends this object and lets the data planes serve on, for the next agent."""
        await self._end_retrying()
        for entry in self._entries.values():
            if entry.supervisor is not None:
                await entry.supervisor.leave()

    async def stop_all(self, grace_s: float) -> None:
        """Ends this object and all data planes; what was started is started again by the next `restore`."""
        await self._end_retrying()
        async with self._changing:
            supervisors = [entry.supervisor for entry in self._entries.values() if entry.supervisor is not None]
            await asyncio.gather(*(supervisor.stop(grace_s) for supervisor in supervisors))
            for entry in self._entries.values():
                entry.supervisor = None
            await self._end_survivors(lambda _entry: True)

    async def hurry(self) -> None:
        """During `stop_all`: ends the data planes at once."""
        for entry in self._entries.values():
            if entry.supervisor is not None:
                await entry.supervisor.hurry()

    async def _end_retrying(self) -> None:
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.gather(self._retrying, return_exceptions=True)

    # --- inside ---

    async def _read(self, text: bytes, lb_id: str) -> LoadBalancer:
        """In a thread, because a long text takes long.

        Raises:
            Refused.
        """
        return await asyncio.to_thread(configuration.check, text, f"{lb_id}/haproxy.cfg", self._settings)

    def _options(self, lb_id: str) -> Options:
        settings = self._settings
        return Options(
            namespace=settings.namespace_path if self._isolated else None,
            user=settings.user if self._isolated else None,
            state_dir=settings.state_dir / lb_id,
            threads=settings.threads,
            grace_s=settings.grace_s,
            reuse=settings.http_reuse,
            escaping=settings.escaping,
            algorithms=settings.algorithms,
            minimum_body_rate=settings.minimum_body_rate,
            extras=settings.extras,
            traffic_log=settings.traffic_log,
            free_bind=True,  # a BACKUP does not have the VIP
            survive=True,
            local_peer=configuration.peer_name(settings.amphora_id) if settings.amphora_id else None,
        )

    async def _announced(self, addresses: Sequence[str]) -> None:
        """In ACTIVE_STANDBY keepalived announces, and only on the MASTER."""
        if addresses and self._settings.topology == "SINGLE":
            await self._announce(addresses)

    def _changed(self) -> None:
        for callback in self.on_change:
            callback()


def _is_serving(entry: _Entry) -> bool:
    return entry.supervisor is not None and entry.supervisor.is_serving


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _reason(error: Exception) -> str:
    if isinstance(error, Refused):
        return "\n".join(map(str, error.errors))
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return str(error)


def _no_load_balancer(lb_id: str) -> NotFound:
    return NotFound("Loadbalancer Not Found", f"No loadbalancer with UUID: {lb_id}")
