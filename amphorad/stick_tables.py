"""Stick tables on the board: a directory of them, each with a region of the board's memory behind the rows.

    directory header, one page      magic, version, rows ever used
    directory, one page for each 16 one row for each table: identity, shape, region
    regions                         the tables (`proxy/engine/stick_table.pxd`)

The space is sparse: TABLES_BYTES are named, and pages that no entry has used yet take no memory. What a table holds belongs
to its identity, listener and pool, and so survives an apply, a data plane's death, and, through `save` and `load`, a
restart of the service. One process at a time makes and drops tables: the data plane's main thread.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec

from amphorad.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

__all__ = ["KIND_ADDRESS", "KIND_STRING", "TABLES_BYTES", "Shape", "TableFile", "TableSpace", "now_ms"]

MAGIC = 0x616D70682D737469  # "amph-sti"
VERSION = 1
PAGE = 4096
TABLE_LIMIT = 4096
TABLES_BYTES = 1 << 34
KIND_ADDRESS = 1
KIND_STRING = 2
FILE_VERSION = 1
FILE_LIMIT_BYTES = 1 << 30

_HEADER = struct.Struct("=QII")
# used, kind, size, longest key, expire_ms, offset, bytes, listener id, pool id
_ROW = struct.Struct("=IIIIQQQ96s96s")
_ROW_BYTES = 256
_REGIONS_AT = PAGE + TABLE_LIMIT * _ROW_BYTES
_USED = struct.Struct("=I")

TableKey = tuple[str, str]


class StickTable(Protocol):
    """What is needed here of `engine.stick_table.Table`; the engine ranks above this module."""

    @property
    def changes(self) -> int: ...

    def format(self, kind: int, size: int, key_limit: int, seed: int, expire_s: float = 0.0) -> None: ...

    def recover(self) -> bool: ...

    def entries(self) -> list[tuple[bytes, str, int]]: ...

    def learn(self, key: bytes, place: int, now_ms: int) -> None: ...

    def name_place(self, name: str) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a table is made for: at most `size` entries, keys of at most `key_limit` bytes, forgotten after `expire_s`."""

    kind: int
    size: int
    key_limit: int
    expire_s: float = 0.0


def now_ms() -> int:
    """The clock of the tables: CLOCK_MONOTONIC, which all processes share."""
    return time.monotonic_ns() // 1_000_000


T = TypeVar("T", bound=StickTable)


@dataclass(frozen=True, slots=True, eq=False)
class _Row(Generic[T]):
    number: int
    shape: Shape
    table: T


class TableSpace(Generic[T]):
    """The tables of a board.

    Args:
        memory: the board's mapping.
        start: where the space begins in it.
        open_table: makes a `StickTable` of memory and an offset.
        table_bytes: size and longest key to bytes.
    """

    def __init__(
        self,
        memory: mmap.mmap,
        start: int,
        open_table: Callable[[mmap.mmap, int], T],
        table_bytes: Callable[[int, int], int],
    ) -> None:
        self._memory = memory
        self._start = start
        self._open_table = open_table
        self._table_bytes = table_bytes
        self._tables: dict[TableKey, list[_Row[T]]] = {}  # the one in force last; before it what a new shape replaced
        magic, version, _used = _HEADER.unpack_from(memory, start)
        if (magic, version) != (MAGIC, VERSION):
            _HEADER.pack_into(memory, start, MAGIC, VERSION, 0)
        for number, key, shape, offset, _length in self._rows():
            self._tables.setdefault(key, []).append(_Row(number, shape, open_table(memory, start + offset)))

    def recover(self) -> int:
        """For a new data plane: frees what one that died had locked. Returns how many tables that were."""
        return sum(row.table.recover() for rows in self._tables.values() for row in rows)

    def __iter__(self) -> Iterator[TableKey]:
        return iter(self._tables)

    def table(self, key: TableKey) -> T:
        return self._tables[key][-1].table

    def shape(self, key: TableKey) -> Shape:
        return self._tables[key][-1].shape

    def claim(self, key: TableKey, shape: Shape) -> T:
        """The table of that identity, made if there is none. One of another shape gives its entries to a new one, and stays
        itself until `drop_unused`.

        Raises:
            ConfigError: no room, or an identifier is too long.
        """
        rows = self._tables.get(key, [])
        for row in rows:
            if row.shape == shape:
                rows.append(rows.pop(rows.index(row)))
                return row.table
        made = self._make(key, shape)
        if rows and rows[-1].shape.kind == shape.kind:
            _copy(rows[-1].table.entries(), made.table)
        self._tables[key] = [*rows, made]
        return made.table

    def drop_unused(self, used: Iterable[object]) -> None:
        """Forgets every table that is not among `used`; its memory goes back."""
        wanted = {id(table) for table in used}
        for key, rows in list(self._tables.items()):
            kept = [row for row in rows if id(row.table) in wanted]
            for row in rows:
                if row not in kept:
                    self._free(row.number)
            if kept:
                self._tables[key] = kept
            else:
                del self._tables[key]

    def _make(self, key: TableKey, shape: Shape) -> _Row[T]:
        names = [name.encode() for name in key]
        if any(len(name) > 95 for name in names):
            raise ConfigError(f"identifiers longer than 95 bytes are not supported: {key}")
        length = (self._table_bytes(shape.size, shape.key_limit) + PAGE - 1) // PAGE * PAGE
        taken = sorted((offset, length) for _n, _k, _s, offset, length in self._rows())
        numbers = {number for number, *_rest in self._rows()}
        used = _HEADER.unpack_from(self._memory, self._start)[2]
        number = next((each for each in range(TABLE_LIMIT) if each not in numbers), None)
        offset = _REGIONS_AT
        for begin, reach in taken:
            if begin - offset >= length:
                break
            offset = max(offset, begin + reach)
        if number is None or offset + length > TABLES_BYTES:
            raise ConfigError(f"no room for a stick table of {shape.size} entries")
        table = self._open_table(self._memory, self._start + offset)
        table.format(shape.kind, shape.size, shape.key_limit, secrets.randbits(64), shape.expire_s)
        expire_ms = round(shape.expire_s * 1000)
        row = (0, shape.kind, shape.size, shape.key_limit, expire_ms, offset, length, *names)
        at = self._start + PAGE + number * _ROW_BYTES
        _ROW.pack_into(self._memory, at, *row)
        _USED.pack_into(self._memory, at, 1)  # last: before that there is no such table
        _HEADER.pack_into(self._memory, self._start, MAGIC, VERSION, max(used, number + 1))
        return _Row(number, shape, table)

    def _free(self, number: int) -> None:
        at = self._start + PAGE + number * _ROW_BYTES
        offset, length = _ROW.unpack_from(self._memory, at)[5:7]
        _USED.pack_into(self._memory, at, 0)
        begin = self._start + offset
        with contextlib.suppress(OSError):
            self._memory.madvise(mmap.MADV_REMOVE, begin, length)
            return
        self._memory[begin : begin + length] = bytes(length)

    def _rows(self) -> Iterator[tuple[int, TableKey, Shape, int, int]]:
        for number in range(min(_HEADER.unpack_from(self._memory, self._start)[2], TABLE_LIMIT)):
            at = self._start + PAGE + number * _ROW_BYTES
            used, kind, size, key_limit, expire_ms, offset, length, *names = _ROW.unpack_from(self._memory, at)
            if used:
                listener_id, pool_id = (name.rstrip(b"\0").decode(errors="replace") for name in names)
                shape = Shape(kind=kind, size=size, key_limit=key_limit, expire_s=expire_ms / 1000)
                yield number, (listener_id, pool_id), shape, offset, length


def _copy(entries: Iterable[tuple[bytes, str, int]], table: StickTable) -> None:
    """The one unused for longest first, so that the newest stay when there is room for less."""
    places: dict[str, int] = {}
    for key, name, touched_ms in entries:
        place = places.get(name)
        if place is None:
            place = places[name] = table.name_place(name)
        if place >= 0:
            table.learn(key, place, touched_ms)


class _SavedTable(msgspec.Struct, frozen=True, array_like=True):
    listener_id: str
    pool_id: str
    kind: int
    size: int
    key_limit: int
    expire_s: float
    members: tuple[str, ...]
    entries: tuple[tuple[bytes, int, int], ...]  # key, place in `members`, age in ms


class _Saved(msgspec.Struct, frozen=True, array_like=True):
    version: int
    tables: tuple[_SavedTable, ...]


class TableFile:
    """Tables on disk, for the time in which no process of the service lives. Read and written by the supervisor.

    A file that is not understood is the same as none: clients are balanced anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[TableKey, int] = {}

    def load(self, space: TableSpace[T]) -> int:
        """Puts what was saved into a space that is empty. Returns the number of entries."""
        try:
            if self._path.stat().st_size > FILE_LIMIT_BYTES:
                return 0
            saved = msgspec.msgpack.decode(self._path.read_bytes(), type=_Saved)
        except (OSError, msgspec.MsgspecError):
            return 0
        count = 0
        for each in saved.tables if saved.version == FILE_VERSION else ():
            shape = Shape(kind=each.kind, size=each.size, key_limit=each.key_limit, expire_s=each.expire_s)
            if each.kind not in (KIND_ADDRESS, KIND_STRING) or not 0 < each.size <= 1 << 24 or each.key_limit > 4096:
                continue
            now = now_ms()
            with contextlib.suppress(ConfigError, IndexError):
                entries = [(key, each.members[place], max(0, now - age)) for key, place, age in each.entries]
                _copy(entries, space.claim((each.listener_id, each.pool_id), shape))
                count += len(entries)
        return count

    def save(self, space: TableSpace[T]) -> bool:
        """Writes all tables, unless they are as they were at the last time. True when it did."""
        changes = {key: space.table(key).changes for key in space}
        if changes == self._seen:
            return False
        tables = tuple(self._saved(key, space.shape(key), space.table(key)) for key in changes)
        temporary = self._path.with_suffix(".new")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(msgspec.msgpack.encode(_Saved(FILE_VERSION, tables)))
        os.replace(temporary, self._path)
        self._seen = changes
        return True

    @staticmethod
    def _saved(key: TableKey, shape: Shape, table: StickTable) -> _SavedTable:
        now = now_ms()
        places: dict[str, int] = {}
        entries = tuple(
            (entry, places.setdefault(name, len(places)), max(0, now - touched))
            for entry, name, touched in table.entries()
        )
        return _SavedTable(*key, shape.kind, shape.size, shape.key_limit, shape.expire_s, tuple(places), entries)
