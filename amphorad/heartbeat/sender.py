"""Sends heartbeats: the first at once, then one every interval, to the controllers in turn.

One controller gets each message, because its counters are differences: sent twice, they would be counted twice. The
schedule is absolute, so that what a round takes does not add up. A controller's name is looked up in a thread and for a
bounded time; an address needs no lookup.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import socket
from typing import TYPE_CHECKING

from amphorad.files import write_atomically
from amphorad.heartbeat import datagram, message
from amphorad.heartbeat.counters import Reported

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from amphorad.agent.settings import AgentSettings, Endpoint
    from amphorad.agent.sources import HeartbeatSource, LvsSource
    from amphorad.heartbeat.message import Totals

__all__ = ["HeartbeatSender"]

log = logging.getLogger(__name__)

FILE = "stats_counters.json"
FILE_MODE = 0o640
LOOKUP_LIMIT_S = 2.0


class HeartbeatSender:
    """`run` until it is cancelled; `update` at any time.

    Args:
        sources: every started load balancer, as it is now.
        lvs_sources: every UDP or SCTP listener that must be counted.
        may_send: False skips a round (Octavia contract section 3.2, the VRRP gate).
    """

    def __init__(
        self,
        settings: AgentSettings,
        sources: Callable[[], Sequence[HeartbeatSource]],
        lvs_sources: Callable[[], Sequence[LvsSource]],
        may_send: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._sources = sources
        self._lvs_sources = lvs_sources
        self._may_send = may_send
        self._reported = Reported()
        self._sequence = 0
        self._turn = 0
        self._sockets: dict[int, socket.socket] = {}
        self._changed = asyncio.Event()
        self._complaints: dict[str, str] = {}
        self.sent = 0
        self.failed = 0

    def update(self, settings: AgentSettings) -> None:
        """Takes another list of controllers, key or interval; the next heartbeat goes out at once."""
        if settings != self._settings:
            self._settings = settings
            self._turn = 0
            self._complaints.clear()
            self._changed.set()

    async def run(self) -> None:
        """Sends until it is cancelled."""
        await self._load()
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while True:
                await self._round()
                due += self._settings.heartbeat_interval
                now = loop.time()
                if due < now:  # a suspended machine, or an interval shorter than a round: do not catch up
                    due = now
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), due - now)
                    due = loop.time()
                self._changed.clear()
        finally:
            for udp in self._sockets.values():
                udp.close()
            self._sockets.clear()

    async def _round(self) -> None:
        settings = self._settings
        if not settings.controllers:
            self._complain("controllers", "no controller is configured, nobody gets heartbeats")
            return
        if not self._may_send():
            self._complain("gate", "heartbeat held back: keepalived should run and does not")
            return
        self._settle("gate")
        controller = settings.controllers[self._turn % len(settings.controllers)]
        self._turn += 1
        address = await self._resolve(controller)
        if address is None:
            self.failed += 1
            return
        try:
            now = message.totals(self._sources())
            if self._send(self._encode(self._reported.deltas(now)), *address, controller) and self._reported.take(now):
                await self._save()
        except Exception:  # the next heartbeat must go out whatever this one stumbled over
            self.failed += 1
            log.exception("heartbeat failed controller=%s", controller)

    def _encode(self, deltas: dict[str, Totals]) -> bytes:
        settings = self._settings
        sources, lvs = self._sources(), self._lvs_sources()
        content = message.build(settings.amphora_id, self._sequence, sources, lvs, deltas)
        encoded = datagram.encode(content, settings.heartbeat_key)
        if len(encoded) > datagram.MAX_BYTES:
            # Better without the pools than not at all: the controller takes a silent amphora for a dead one and replaces it.
            self._complain(
                "size", f"heartbeat of {len(encoded)} bytes is too long for a datagram, sent without its pools"
            )
            encoded = datagram.encode({**content, "pools": {}}, settings.heartbeat_key)
        self._sequence += 1
        return encoded

    def _send(self, content: bytes, family: int, address: tuple[str, int], controller: Endpoint) -> bool:
        try:
            if family not in self._sockets:
                self._sockets[family] = socket.socket(
                    family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
                )
            self._sockets[family].sendto(content, address)
        except OSError as error:
            self.failed += 1
            reason = error.strerror or str(error)
            if error.errno == errno.EMSGSIZE:
                reason = f"{len(content)} bytes do not fit in a datagram"
            self._complain(str(controller), f"no heartbeat to {controller}: {reason}")
            return False
        self.sent += 1
        self._settle(str(controller))
        return True

    async def _resolve(self, controller: Endpoint) -> tuple[int, tuple[str, int]] | None:
        """Address family and address of a controller; None when its name is not found in time."""
        with contextlib.suppress(ValueError):
            version = ipaddress.ip_address(controller.host.partition("%")[0]).version
            return (socket.AF_INET6 if version == 6 else socket.AF_INET), (controller.host, controller.port)
        loop = asyncio.get_running_loop()
        try:
            lookup = loop.getaddrinfo(controller.host, controller.port, type=socket.SOCK_DGRAM)
            found = await asyncio.wait_for(lookup, LOOKUP_LIMIT_S)
        except (OSError, TimeoutError) as error:
            self._complain(
                str(controller), f"no heartbeat to {controller}: its name is not found ({error or 'no answer'})"
            )
            return None
        family, _, _, _, address = found[0]
        return family, (str(address[0]), int(address[1]))

    # --- what outlives the agent ---

    async def _load(self) -> None:
        path = self._settings.base_path / FILE
        try:
            self._reported = Reported.parse(await asyncio.to_thread(path.read_bytes))
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            log.warning(
                "counters of the last heartbeat are lost, those that go on are reported again file=%s reason=%s",
                path,
                error,
            )

    async def _save(self) -> None:
        path = self._settings.base_path / FILE
        try:
            await asyncio.to_thread(write_atomically, path, self._reported.encode(), FILE_MODE)
        except OSError as error:
            self._complain("file", f"counters are not kept file={path}: {os.strerror(error.errno or 0)}")
        else:
            self._settle("file")

    # --- one line a trouble, not one a round ---

    def _complain(self, about: str, text: str) -> None:
        if self._complaints.get(about) != text:
            self._complaints[about] = text
            log.warning("%s", text)

    def _settle(self, about: str) -> None:
        if self._complaints.pop(about, None) is not None:
            log.info("heartbeats go on about=%s", about)
