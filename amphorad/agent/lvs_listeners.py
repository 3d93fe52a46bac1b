"""UDP and SCTP listeners: their texts are kept and answered; no traffic is carried for them yet.

What the controller sees is what it would see of the stock agent, except that `GET listeners` says OFFLINE and that heartbeats say DOWN
(see `LvsSource`), because that is how it is.

Source: Octavia contract sections 1.5 (routes 9 to 12), 5.4 and 5.5.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amphorad.admin import Refused
from amphorad.agent.sources import ListenerEntry, LvsSource
from amphorad.agent.status import LvsStatus
from amphorad.agent_api.identifiers import is_id
from amphorad.dialects.keepalived import lvs
from amphorad.errors import ConfigError, NotFound, OperationFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amphorad.agent.storage import Storage
    from amphorad.dialects.keepalived import LvsConfiguration

__all__ = ["LvsListeners", "LvsState"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class LvsState:
    """One listener.

    Args:
        text: what its configuration says; None when it is none that can be read.
    """

    listener_id: str
    text: LvsConfiguration | None
    is_started: bool

    @property
    def is_wanted(self) -> bool:
        """It should carry traffic, and the controller counts on seeing it."""
        return self.is_started and self.text is not None and self.text.is_enabled


class LvsListeners:
    """All UDP and SCTP listeners of one agent. The caller sees to it that one operation runs at a time."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._found: dict[str, LvsState] = {}

    def __contains__(self, listener_id: str) -> bool:
        return listener_id in self._found

    async def upload(self, listener_id: str, body: bytes) -> None:
        """
        Raises:
            Refused, OperationFailed: nothing changed.
        """
        if not is_id(listener_id):
            raise Refused([ConfigError("not the UUID of a listener", file="URL", word=listener_id)])
        text = await asyncio.to_thread(_checked, body, listener_id)
        try:
            await asyncio.to_thread(self._storage.set_lvs, listener_id, body)
        except OSError as error:
            raise OperationFailed("Error writing configuration", str(error)) from error
        state = self._found.setdefault(listener_id, LvsState(listener_id, text, is_started=False))
        state.text = text

    async def configuration(self, listener_id: str) -> bytes:
        """
        Raises:
            NotFound.
        """
        text = await asyncio.to_thread(self._storage.lvs, listener_id) if listener_id in self._found else None
        if text is None:
            raise _no_listener(listener_id)
        return text

    async def start(self, listener_id: str) -> str:
        return await self._set_started(listener_id, "start", started=True)

    async def reload(self, listener_id: str) -> str:
        """The stock agent restarts instead, and says so."""
        return await self._set_started(listener_id, "restart", started=True)

    async def stop(self, listener_id: str) -> str:
        return await self._set_started(listener_id, "stop", started=False)

    async def _set_started(self, listener_id: str, action: str, *, started: bool) -> str:
        state = self._found.get(listener_id)
        if state is None:
            raise _no_listener(listener_id)
        try:
            await asyncio.to_thread(self._storage.set_lvs_started, listener_id, started)
        except OSError as error:
            raise OperationFailed(f"Failed to {action} keepalivedlvs listener {listener_id}", str(error)) from error
        state.is_started = started
        self._say(state)
        return f"keepalivedlvs listener {listener_id} {action}ed"  # `stoped`, as the stock agent spells it

    async def delete(self, listener_id: str) -> None:
        """One that is not there is no error.

        Raises:
            OperationFailed.
        """
        if listener_id not in self._found:
            return
        try:
            await asyncio.to_thread(self._storage.delete_lvs, listener_id)
        except OSError as error:
            raise OperationFailed("Error stopping keepalivedlvs", str(error)) from error
        del self._found[listener_id]
        log.info("deleted listener=%s kind=lvs", listener_id)

    async def restore(self) -> None:
        for listener_id in await asyncio.to_thread(self._storage.lvs_ids):
            body = await asyncio.to_thread(self._storage.lvs, listener_id)
            text = None
            try:
                text = await asyncio.to_thread(_checked, body or b"", listener_id)
            except Refused as error:
                log.error("stored configuration cannot be read listener=%s reason=%s", listener_id, error)
            started = await asyncio.to_thread(self._storage.is_lvs_started, listener_id)
            self._found[listener_id] = state = LvsState(listener_id, text, started)
            self._say(state)

    def _say(self, state: LvsState) -> None:
        if state.is_wanted:
            log.warning("traffic of this listener is not carried: no UDP or SCTP yet listener=%s", state.listener_id)

    def addresses(self, listener_id: str) -> Sequence[str]:
        """The VIPs of a listener."""
        text = self._found[listener_id].text
        return text.vips if text is not None else ()

    def entries(self) -> list[ListenerEntry]:
        """The type is UDP for SCTP too (Octavia contract section 1.5, route 4)."""
        return [ListenerEntry("OFFLINE", state.listener_id, "UDP") for state in self._found.values()]

    def statuses(self) -> list[LvsStatus]:
        return [
            LvsStatus(
                id=state.listener_id,
                is_started=state.is_started,
                is_disabled=state.text is not None and not state.text.is_enabled,
                is_carried=False,
            )
            for state in self._found.values()
        ]

    def sources(self) -> list[LvsSource]:
        return [LvsSource(state.listener_id) for state in self._found.values() if state.is_wanted]


def _checked(body: bytes, listener_id: str) -> LvsConfiguration:
    name = f"octavia-keepalivedlvs-{listener_id}.conf"
    try:
        found = lvs.check(body, file=name)
    except ConfigError as error:
        raise Refused([error]) from error
    if found.listener_id != listener_id:
        raise Refused([ConfigError("the text is for another listener", file=name, word=found.listener_id)])
    return found


def _no_listener(listener_id: str) -> NotFound:
    return NotFound("UDP Listener Not Found", f"No UDP listener with UUID: {listener_id}")
