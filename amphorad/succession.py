"""A data plane that has outlived its supervisor gets another one, or a successor.

It is adopted when it is as this supervisor would have started it. Else a new data plane takes its sockets, and it ends with its last
session. How the two talk is in `adoption`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

import amphorad
from amphorad.board import Board
from amphorad.child import DataPlaneDied, DataPlaneProcess
from amphorad.messages import VERSION, MessageError, decode_load_balancer, decode_transitions
from amphorad.state_directory import NotStarted
from amphorad.tls_files import read_tls_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from amphorad.adoption import Adoptee
    from amphorad.holdings import Holdings
    from amphorad.messages import Transition
    from amphorad.model import Bind, LoadBalancer
    from amphorad.options import Options

__all__ = ["Succession", "Taken"]

log = logging.getLogger(__name__)

ATTEMPTS = 3
HANDOVER_S = 600.0  # for the sessions of a data plane that has been succeeded


class _Gone(Exception):
    """A data plane ended, or hung up, while it was adopted."""


class Taken(NamedTuple):
    """What serves after a take-over.

    Args:
        is_adopted: it is the one that served before, with what it served before.
        files: what its TLS options name; empty when that is not known, because which certificates it serves is not told.
        transitions: changes of health that it had told its supervisor, oldest first.
    """

    is_adopted: bool
    load_balancer: LoadBalancer
    generation: int
    files: dict[str, bytes]
    transitions: tuple[Transition, ...] = ()


class Succession:
    """Takes over what a data plane without a supervisor has, into `holdings`.

    Args:
        on_alarm: gets the text of each alarm.
    """

    def __init__(self, options: Options, holdings: Holdings, on_alarm: Callable[[str], None]) -> None:
        self._options = options
        self._holdings = holdings
        self._on_alarm = on_alarm

    async def take_over(self, wanted: LoadBalancer) -> Taken | None:
        """Adopts or succeeds a data plane that has outlived its supervisor; None when there is none.

        Raises:
            NotStarted: it goes on without this supervisor.
            AmphoradError: `wanted` cannot be served; the old data plane goes on with what it serves.
        """
        for _attempt in range(ATTEMPTS):
            found = await self._holdings.directory.find_survivor(self._on_alarm)
            if found is None:
                return None
            running = self._adoptable(found)
            try:
                return await (self._succeed(found, wanted) if running is None else self._adopt(found, running))
            except _Gone as error:
                log.warning("not adopted reason=%s", error)
                await self._holdings.release()
                self._holdings.give_back_shared()
        raise NotStarted("a data plane that serves could not be adopted")

    async def seize(self) -> bool:
        """Makes a data plane that has outlived its supervisor obey, so that it can be ended; False when there is none."""
        holdings = self._holdings
        found = await holdings.directory.find_survivor(self._on_alarm)
        if found is None:
            return False
        self._take_listening(found)
        os.close(found.board)
        holdings.child = DataPlaneProcess([], -1, self._on_alarm)
        with contextlib.suppress(_Gone):
            await _obey_us(holdings.child, found)
        return True

    def _adoptable(self, found: Adoptee) -> LoadBalancer | None:
        """What it serves; None when another release, or other settings, want another process."""
        message = found.message
        is_same = (message.version, message.release) == (VERSION, amphorad.__version__)
        if not self._options.survive or not is_same or list(message.arguments) != self._holdings.arguments:
            return None
        try:
            return decode_load_balancer(message.load_balancer)
        except MessageError as error:
            log.error("data plane cannot be adopted pid=%d reason=%s", message.pid, error)
            return None

    async def _adopt(self, found: Adoptee, running: LoadBalancer) -> Taken:
        """Goes on as if this process had started it.

        Raises:
            _Gone.
        """
        holdings, message = self._holdings, found.message
        self._take_listening(found)
        holdings.board = Board.attach(found.board)
        holdings.child = holdings.new_child()
        await _obey_us(holdings.child, found)
        transitions: list[Transition] = []
        with contextlib.suppress(MessageError):
            transitions = decode_transitions(message.transitions)
        log.warning("data plane adopted pid=%d generation=%d", holdings.child.pid, message.generation)
        return Taken(True, running, message.generation, {}, tuple(transitions))

    async def _succeed(self, found: Adoptee, wanted: LoadBalancer) -> Taken:
        """A new data plane on the sockets of one that cannot be adopted, which ends with its last session, at most HANDOVER_S later.

        Both write their board, so the new one gets a copy. Each step leaves one that will go on if this process dies now: the old
        one does not outlive this connection any more before the new one accepts.

        Raises:
            _Gone.
            AmphoradError: the old one goes on serving.
        """
        began = time.monotonic()
        holdings = self._holdings
        old = DataPlaneProcess([], -1, self._on_alarm)
        holdings.leaving.append(old)
        self._take_listening(found)
        holdings.board = _successor_of(found.board, holdings.threads)
        await _obey_us(old, found)
        try:
            files = read_tls_files(wanted, stapling=self._options.extras.ocsp_stapling)
            holdings.sockets.prepare(wanted)
            if not self._options.survive:
                holdings.directory.remove_adoption()
            holdings.child = child = holdings.new_child()
            await child.start()
            await old.set_survival(survive=False)
            await child.apply(1, wanted, dict(holdings.sockets.of(wanted)), files)
        except BaseException as error:
            if holdings.child is not None:
                await holdings.child.kill()
                holdings.child = None
            with contextlib.suppress(DataPlaneDied):
                await old.set_survival(survive=True)
            await holdings.release()
            holdings.give_back()
            if isinstance(error, DataPlaneDied | OSError):
                raise NotStarted(f"{error}; the data plane before it serves on") from error
            raise
        await old.begin_stop(HANDOVER_S)
        holdings.sockets.commit(wanted)
        took_ms = (time.monotonic() - began) * 1000
        log.warning("data plane pid=%d succeeds pid=%d took_ms=%d", child.pid, old.pid, took_ms)
        return Taken(False, wanted, 1, files)

    def _take_listening(self, found: Adoptee) -> None:
        """One socket for each address; a listener that shares it with another has sent a copy."""
        self._holdings.directory.keep_adoption(found.listening)
        kept: dict[Bind, socket.socket] = {}
        for (_listener_id, bind), descriptor in found.sockets.items():
            if bind in kept:
                os.close(descriptor)
            else:
                kept[bind] = socket.socket(fileno=descriptor)
        self._holdings.sockets.adopt(kept)


async def _obey_us(child: DataPlaneProcess, found: Adoptee) -> None:
    try:
        child.adopt(found.channel, found.message.pid, frozenset(found.sockets))
        await child.start()
    except (DataPlaneDied, OSError) as error:
        raise _Gone(f"data plane pid={found.message.pid} ended while it was adopted: {error}") from error


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
