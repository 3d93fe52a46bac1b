"""What configurations have taken out: kept until its last session has let go of it, and then given back.

That goes for slots of the board, stick tables and descriptors alike. Replaced views wait here too, until no thread uses them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amphorad.proxy.engine.engine import ListenerRuntime, MemberRuntime, PoolRuntime, View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amphorad.board import Board
    from amphorad.proxy.draining import Draining
    from amphorad.proxy.engine.engine import Engine
    from amphorad.proxy.engine.stick_table import Table
    from amphorad.proxy.preparation import Generation
    from amphorad.stick_tables import TableSpace

__all__ = ["Departures"]


@dataclass(frozen=True, slots=True, eq=False)
class _Departure:
    """A removed listener with everything its last sessions may need."""

    listener: ListenerRuntime
    pools: list[PoolRuntime]
    members: list[MemberRuntime]

    @property
    def references(self) -> int:
        return self.listener.references


class Departures:
    """What has left, and what it holds on the board.

    Args:
        draining: is told of listeners and members that go.
    """

    def __init__(self, engine: Engine, board: Board, tables: TableSpace[Table], draining: Draining) -> None:
        self._engine = engine
        self._board = board
        self._tables = tables
        self._draining = draining
        self._leaving: list[_Departure | PoolRuntime | MemberRuntime] = []

    def remove(self, before: Generation, new: Generation, now: float) -> None:
        """Takes leave of what is not in the new generation.

        A listener goes together with its pools: until its last session is gone they stay as they were, so that a request
        that was on its way when the listener was removed is still served.
        """
        departing = set(before.listeners) - set(new.listeners)
        for listener_id in departing:
            listener = before.listeners[listener_id]
            listener.remove()
            self._draining.begin(listener, now)
            pools = [runtime for key, runtime in before.pools.items() if key[0] == listener_id]
            members = [runtime for key, runtime in before.members.items() if key[0] == listener_id]
            self._engine.retire(_Departure(listener, pools, members))
        self._drop(
            [runtime for key, runtime in before.pools.items() if key not in new.pools and key[0] not in departing],
            [runtime for key, runtime in before.members.items() if key not in new.members and key[0] not in departing],
            now,
        )

    def _drop(self, pools: Sequence[PoolRuntime], members: list[MemberRuntime], now: float) -> None:
        for pool in pools:
            if pool.view is not None:
                self._engine.retire(pool.view)
            pool.publish(None)
        for member in members:
            member.remove()
            self._draining.begin(member, now)
        self._engine.sweep(members)
        for runtime in (*pools, *members):
            self._engine.retire(runtime)

    def see_off(self, in_force: Generation, now: float) -> None:
        """Gives back what nobody needs any more. To be called every now and then."""
        lets_go_of_tables = False
        for item in self._engine.release_retired():
            if isinstance(item, int):
                if item >= 0:
                    os.close(item)
            elif isinstance(item, _Departure | PoolRuntime | MemberRuntime):
                self._leaving.append(item)
            elif isinstance(item, View) and item.table is not None:
                lets_go_of_tables = True
        gone = [item for item in self._leaving if not item.references]
        if gone:
            self._leaving = [item for item in self._leaving if item not in gone]
            for item in gone:
                if isinstance(item, _Departure):
                    self._drop(item.pools, item.members, now)
                    self._draining.end(item.listener)
                elif isinstance(item, MemberRuntime):
                    self._draining.end(item)
            self.release_unused_slots(in_force)
        if gone or lets_go_of_tables:
            self.release_unused_tables(in_force)

    def release_unused_slots(self, in_force: Generation) -> None:
        """Gives slots back whose object is neither configured nor still referred to."""
        runtimes = [*in_force.listeners.values(), *in_force.pools.values(), *in_force.members.values()]
        for item in self._items():
            if isinstance(item, _Departure):
                runtimes += [item.listener, *item.pools, *item.members]
            elif isinstance(item, PoolRuntime | MemberRuntime):
                runtimes.append(item)
        used = {runtime.slot_number for runtime in runtimes}
        for slot in [slot for slot, _kind, _names in self._board.objects() if slot not in used]:
            self._board.release(slot)

    def release_unused_tables(self, in_force: Generation) -> None:
        """Gives back the memory of stick tables that are neither configured nor still pointed to by a view."""
        pools = [*in_force.pools.values()]
        views = []
        for item in self._items():
            if isinstance(item, _Departure):
                pools += item.pools
            elif isinstance(item, PoolRuntime):
                pools.append(item)
            elif isinstance(item, View):
                views.append(item)
        views += [pool.view for pool in pools if pool.view is not None]
        self._tables.drop_unused(view.table for view in views if view.table is not None)

    def _items(self) -> tuple[object, ...]:
        return (*self._leaving, *self._engine.retired_items())

    @property
    def sessions(self) -> int:
        """Client connections of listeners that are removed."""
        return sum(item.references for item in self._items() if isinstance(item, _Departure))

    def members(self) -> list[MemberRuntime]:
        """Those that may still have connections."""
        members = []
        for item in self._items():
            if isinstance(item, _Departure):
                members += item.members
            elif isinstance(item, MemberRuntime):
                members.append(item)
        return members

    def descriptors(self) -> list[int]:
        """Those that a thread may still be using."""
        return [item for item in self._items() if isinstance(item, int) and item >= 0]
