"""One connection between two peers after its handshake, without I/O.

Both sides send what changes here as it changes, and acknowledge what came. A side that does not know enough (it has just
started) asks for everything: the other teaches it all entries, says that it has finished, and waits for that to be
confirmed. Of two updates of one key the later one to arrive wins, as in HAProxy.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from amphorad.proxy.peers import wire
from amphorad.proxy.peers.wire import Definition, Dictionary, PeerError, Update

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from amphorad.proxy.engine.stick_table import Table

__all__ = ["PeerMemory", "PeerSession", "SharedTable"]

BATCH = 64  # entries read under the table's lock at once
CHUNK = 512  # entries in one answer of `pending`
HEARTBEAT = bytes((wire.CLASS_CONTROL, wire.HEARTBEAT))
_CONTROL = {
    number: bytes((wire.CLASS_CONTROL, number))
    for number in (wire.RESYNC_REQUEST, wire.RESYNC_FINISHED, wire.RESYNC_CONFIRM)
}


@dataclass(slots=True, eq=False)
class SharedTable:
    """A stick table that is shared.

    Args:
        name: `<pool id>:<listener id>`, the same at both ends.
        members: names in the order of the file: a member's number is its place, from 1.
    """

    name: str
    table: Table
    members: tuple[str, ...]
    _places: dict[str, int] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)

    def set_members(self, members: tuple[str, ...]) -> None:
        if members != self.members:
            self.members = members
            self._numbers.clear()

    def describe(self, number: int) -> Definition:
        is_text = self.table.kind != 1
        key_bytes = self.table.key_limit + 1 if is_text else 16  # HAProxy counts the zero at the end of a text
        return Definition(
            number, self.name, wire.TYPE_STRING if is_text else wire.TYPE_IPV6, key_bytes, wire.DATA_TYPES
        )

    def fits(self, other: Definition) -> bool:
        own = self.describe(0)
        return (own.key_type, own.key_bytes) == (other.key_type, other.key_bytes) and wire.is_readable(other.data_types)

    def learn(self, update: Update, now_ms: int) -> bool:
        """False for an entry that says nothing: no member, or a key that is not one."""
        name = update.server_key
        if not name and 0 < update.server_id <= len(self.members):
            name = self.members[update.server_id - 1]
        if not name or not name.isascii() or not name.isprintable() or not update.key:
            return False
        place = self._places.get(name, -1)
        if place < 0 or self.table.name_at(place) != name:
            place = self.table.name_place(name, self.members)
        if place < 0:
            return False
        self._places[name] = place
        self.table.learn(update.key, place, now_ms)
        return True

    def entry(self, number: int, key: bytes, place: int) -> Update:
        name = self.table.name_at(place)
        if not self._numbers:
            self._numbers.update((each, index + 1) for index, each in enumerate(self.members))
        return Update(number, key, self._numbers.get(name, 0), name)


@dataclass(slots=True)
class PeerMemory:
    """What outlives a connection to a peer: up to which update it has each table, and whether everything was asked of it."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    has_learned: bool = False


@dataclass(slots=True)
class _Remote:
    """A table of the other end: its number there, and what came of it."""

    definition: Definition
    shared: SharedTable
    received: int = 0
    acknowledged: int = 0


class PeerSession:
    """Feed it with `receive`, and send what `receive` and `pending` return.

    Args:
        tables: shared ones; they keep their numbers as long as the session lives.
        memory: of this peer.
    """

    def __init__(self, tables: Sequence[SharedTable], memory: PeerMemory) -> None:
        self._tables = tuple(tables)
        self._memory = memory
        self._buffer = bytearray()
        self._remotes: dict[int, _Remote] = {}
        self._current: _Remote | None = None
        self._sent_dictionary = Dictionary()
        self._received_dictionary = Dictionary()
        self._told: SharedTable | None = None
        self._positions: dict[str, int | None] = {
            shared.name: memory.acknowledged.get(shared.name) for shared in self._tables
        }
        self._pushed: dict[str, int] = {}  # all entries are under way; acknowledged with this update they are there
        self._push: Iterator[bytes] = iter(())
        self._lesson: Iterator[bytes] | None = None
        self._origins: dict[str, int] = {}
        self._waits_for_confirm = False
        self._is_learning = False
        self._is_closed = False
        self.learned = 0  # entries taken from the peer
        self.told = 0  # entries sent to it

    def begin(self) -> bytes:
        """The first bytes: a request for everything, unless that was answered before."""
        if self._memory.has_learned:
            return b""
        self._is_learning = True
        return _CONTROL[wire.RESYNC_REQUEST]

    def close(self) -> None:
        """The tables may be gone from now on: what still comes is ignored, and nothing is said."""
        self._is_closed = True

    # --- what comes ---

    def receive(self, data: bytes, now_ms: int) -> bytes:
        """Takes what arrived. Returns what to answer at once.

        Raises:
            PeerError: the other end does not speak the protocol.
        """
        if self._is_closed:
            return b""
        self._buffer += data
        answer = bytearray()
        taken = 0
        view = bytes(self._buffer)
        while (cut := wire.cut_message(view[taken : taken + wire.MESSAGE_LIMIT + 16])) is not None:
            kind, number, payload, length = cut
            taken += length
            if kind == wire.CLASS_ERROR:
                raise PeerError("the peer reports an error of ours")
            if kind == wire.CLASS_CONTROL:
                answer += self._control(number)
            else:
                self._take(number, payload, now_ms)
        del self._buffer[:taken]
        return bytes(answer + self._acknowledge())

    def _control(self, number: int) -> bytes:
        if number == wire.RESYNC_REQUEST:
            self._waits_for_confirm = False
            self._lesson = self._teach()
        elif number in (wire.RESYNC_FINISHED, wire.RESYNC_PARTIAL):
            self._is_learning = False
            self._memory.has_learned = True
            return _CONTROL[wire.RESYNC_CONFIRM]
        elif number == wire.RESYNC_CONFIRM and self._waits_for_confirm:
            self._waits_for_confirm = False
            self._memory.acknowledged |= self._origins
            self._pushed.clear()
        return b""

    def _take(self, number: int, payload: bytes, now_ms: int) -> None:
        if number == wire.DEFINE:
            self._define(wire.decode_definition(payload))
        elif number == wire.SWITCH:
            self._current = self._remotes.get(wire.decode_integer(payload, 0)[0])
        elif number == wire.ACK:
            self._take_ack(*wire.decode_ack(payload))
        elif number in (wire.UPDATE, wire.INCREMENTAL, wire.UPDATE_TIMED, wire.INCREMENTAL_TIMED):
            self._update(number, payload, now_ms)

    def _define(self, definition: Definition) -> None:
        self._remotes.pop(definition.id, None)
        self._current = None
        for shared in self._tables:
            if shared.name == definition.name and shared.fits(definition):
                for number in [key for key, each in self._remotes.items() if each.shared is shared]:
                    del self._remotes[number]
                self._remotes[definition.id] = self._current = _Remote(definition, shared)

    def _update(self, number: int, payload: bytes, now_ms: int) -> None:
        remote = self._current
        if remote is None:
            return  # of a table that is not shared here
        update = wire.decode_update(number, payload, remote.definition, self._received_dictionary)
        if not self._is_learning:
            remote.received = (remote.received + 1 if update.number is None else update.number) & 0xFFFFFFFF
        self.learned += remote.shared.learn(update, now_ms)

    def _take_ack(self, table: int, update: int) -> None:
        if self._lesson is not None or self._waits_for_confirm or not 0 < table <= len(self._tables):
            return
        name = self._tables[table - 1].name
        wanted = self._pushed.get(name)
        if wanted is not None and (update - wanted) & 0xFFFFFFFF >= 1 << 31:
            return  # of an entry on the way there
        self._pushed.pop(name, None)
        self._memory.acknowledged[name] = update

    def _acknowledge(self) -> bytes:
        out = b""
        for remote in self._remotes.values():
            if remote.received != remote.acknowledged:
                remote.acknowledged = remote.received
                out += wire.encode_ack(remote.definition.id, remote.received)
        return out

    # --- what goes ---

    def pending(self) -> bytes:
        """The next bytes to send; empty when there is nothing to say now."""
        out = bytearray()
        if self._is_closed:
            return b""
        if self._lesson is not None:
            for _ in range(CHUNK // BATCH):
                part = next(self._lesson, None)
                if part is None:
                    self._lesson = None
                    self._waits_for_confirm = True
                    out += _CONTROL[wire.RESYNC_FINISHED]
                    break
                out += part
            return bytes(out)
        if self._waits_for_confirm:
            return b""
        out += self._next_push()
        if out:
            return bytes(out)
        for shared in self._tables:
            out += self._news(shared)
            if len(out) > wire.MESSAGE_LIMIT:
                break
        return bytes(out)

    def _next_push(self) -> bytes:
        return b"".join(itertools.islice(self._push, CHUNK // BATCH))

    def _news(self, shared: SharedTable) -> bytes:
        position = self._positions[shared.name]
        if position is None:  # what the peer has is not known: everything, as in a lesson that it has not asked for
            self._positions[shared.name] = self._pushed[shared.name] = shared.table.update
            self._push = itertools.chain(self._push, self._everything(shared, shared.table.update))
            return self._next_push()
        if position == shared.table.update:
            return b""
        updates, position = shared.table.updates_after(position, CHUNK)
        if updates is None:
            self._positions[shared.name] = None
            return self._news(shared)
        self._positions[shared.name] = position
        return self._tell(shared, updates)

    def _teach(self) -> Iterator[bytes]:
        self._push = iter(())
        self._origins = {shared.name: shared.table.update for shared in self._tables}
        for shared in self._tables:
            self._positions[shared.name] = self._origins[shared.name]
            yield from self._everything(shared, self._origins[shared.name])

    def _everything(self, shared: SharedTable, update: int) -> Iterator[bytes]:
        """All entries, the last one under that number: acknowledged, it tells that all have arrived."""
        before = (update - 1) & 0xFFFFFFFF
        start = 0
        last: list[tuple[int, bytes, int]] = []
        yield self._turn_to(shared)
        while True:
            entries, start = shared.table.scan(start, BATCH)
            yield self._tell(shared, [(before, key, place) for _number, key, place in entries])
            last = entries[-1:] or last
            if start == 0:
                yield self._tell(shared, [(update, key, place) for _number, key, place in last])
                return

    def _turn_to(self, shared: SharedTable) -> bytes:
        if self._told is shared:
            return b""
        self._told = shared
        return wire.encode_definition(shared.describe(self._tables.index(shared) + 1), 0)

    def _tell(self, shared: SharedTable, entries: Sequence[tuple[int, bytes, int]]) -> bytes:
        if not entries:
            return b""
        out = [self._turn_to(shared)]
        kind = wire.TYPE_STRING if shared.table.kind != 1 else wire.TYPE_IPV6
        for number, key, place in entries:
            out.append(wire.encode_update(shared.entry(number, key, place), kind, self._sent_dictionary))
        self.told += len(entries)
        return b"".join(out)
