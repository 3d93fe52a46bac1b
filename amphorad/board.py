"""The board: one shared-memory segment that counters, gauges and balancing state live in.

The engine threads write it, everyone else reads it: heartbeats, metrics and the status command never ask a busy data
plane. Because the segment belongs to the supervising process, what it holds survives an apply and the death of the
data plane. Layout (native byte order; `proxy/engine/board.pxd` declares the same structs, a test compares them):

    header, 4096 bytes      magic, version, threads, slots, slots ever used
    slots, 512 bytes each   one object: kind, state, identity, gauges, balancing state, last health check, standing
    rows, 512 bytes each    [thread][slot]: 32 counters of 64 bits, 64 latency buckets of 32 bits
    stick tables            sparse; see `amphorad.stick_tables`

A row has one writer, its engine thread, so the hot path needs no atomic operation; readers add the rows up.
Slots are handed out, and health checks written, by the data plane's main thread only.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from amphorad.stick_tables import TABLES_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BUCKETS",
    "COUNTERS",
    "MAX_THREADS",
    "Board",
    "BoardFull",
    "Kind",
    "LastCheck",
    "ListenerStatistics",
    "MemberState",
    "MemberStatistics",
    "PoolStatistics",
    "Standing",
    "bucket_upper_bound_s",
]

MAGIC = 0x616D70686F726164  # "amphorad"
VERSION = 2
HEADER_BYTES = 4096
USED_AT = 20  # of the number of slots ever used
SLOT_BYTES = 512
ROW_BYTES = 512
SLOTS = 16384
MAX_THREADS = 64
NAME_BYTES = 96
BUCKETS = 64

COUNTERS = (
    "connections",
    "requests",
    "bytes_in",
    "bytes_out",
    "responses_1xx",
    "responses_2xx",
    "responses_3xx",
    "responses_4xx",
    "responses_5xx",
    "responses_other",
    "request_errors",
    "connect_errors",
    "response_errors",
    "retries",
    "redispatches",
    "connects",
    "reuses",
    "client_aborts",
    "member_aborts",
    "denied",
)

_HEADER = struct.Struct("=QIIII")
# kind, state, weight, limit, in_flight, credit, lock, cursor, max_current, idle, changed_ns, then three names
_SLOT = struct.Struct(f"=IIIIqqIIqqq{NAME_BYTES}s{NAME_BYTES}s{NAME_BYTES}s")
# After the names: state, code, text, info, status, duration_us, since, checked_at, checks, failures, transitions
_CHECK = struct.Struct("=16s8s32s48siIddIII")
CHECK_AT = _SLOT.size
_STANDING = struct.Struct("=IB")  # after the check: until when the member is ejected, percent of its weight (0: 100)
STANDING_AT = CHECK_AT + _CHECK.size
_ROW = struct.Struct("=32Q64I")
_WORD = struct.Struct("=I")
_WIDE = struct.Struct("=q")


class Kind(IntEnum):
    FREE = 0
    LISTENER = 1
    POOL = 2
    MEMBER = 3


class MemberState(IntEnum):
    """What the balancing sees; the names are HAProxy's, as `show stat` prints them."""

    NO_CHECK = 0
    UP = 1
    DOWN = 2
    MAINT = 3
    DRAIN = 4

    @property
    def text(self) -> str:
        return "NO CHECK" if self is MemberState.NO_CHECK else self.name


class LastCheck(NamedTuple):
    """What the health monitor of a member found.

    Args:
        state: `UP`, `UP 1/3`, `DOWN`, `DOWN 1/2`, as `show stat` prints them.
        code, text: HAProxy's words for the last check, such as `L7STS` and `Layer7 wrong status`; empty before the first.
        status: of the member's answer, or -1.
        info: the rest of the reason; cut when it is long.
        since: wall time since which it is up or down.
        checked_at: wall time of the last check.
        checks, failures, transitions: since the monitor exists in this data plane.
    """

    state: str
    code: str
    text: str
    info: str
    status: int
    duration_s: float
    since: float
    checked_at: float
    checks: int
    failures: int
    transitions: int

    @property
    def is_up(self) -> bool:
        return self.state.startswith("UP")


class Standing(NamedTuple):
    """Why a member gets less than its configuration and its checks say.

    Args:
        ejected_until: wall time in whole seconds; 0: it is not ejected.
        percent: of its weight that it gets, below 100 during a slow start.
    """

    ejected_until: float
    percent: int


class BoardFull(Exception):
    """No free slot: the configuration has more listeners, pools and members than the board can hold."""


def bucket_upper_bound_s(bucket: int) -> float:
    """Upper bound of a latency bucket in seconds: buckets grow by the fourth root of two pairs, from 16 us to 67 s.

    Bucket b holds durations below 16 us * (1 + (b % 4) / 4 + 1/4) * 2**(b // 4) with the last one open-ended.
    """
    return 16e-6 * (1.25 + (bucket % 4) / 4) * 2.0 ** (bucket // 4)


@dataclass(frozen=True, slots=True)
class _Statistics:
    counters: dict[str, int]
    buckets: tuple[int, ...]
    current: int
    max_current: int

    def latency_quantile(self, quantile: float) -> float | None:
        """The duration in seconds that `quantile` (0..1) of the requests stayed below, or None without any."""
        total = sum(self.buckets) if self.buckets is not _NO_BUCKETS else 0
        if not total:
            return None
        wanted = quantile * total
        seen = 0
        for bucket, count in enumerate(self.buckets):
            seen += count
            if seen >= wanted and count:
                return bucket_upper_bound_s(bucket)
        return bucket_upper_bound_s(BUCKETS - 1)


@dataclass(frozen=True, slots=True)
class ListenerStatistics(_Statistics):
    listener_id: str
    limit: int


@dataclass(frozen=True, slots=True)
class PoolStatistics(_Statistics):
    listener_id: str
    pool_id: str


@dataclass(frozen=True, slots=True)
class MemberStatistics(_Statistics):
    listener_id: str
    pool_id: str
    member_id: str
    state: str
    weight: int
    idle: int
    check: LastCheck | None = None
    standing: Standing | None = None


class Board:
    """The segment, mapped. `create` in the process that must outlive the data plane, `attach` everywhere else."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, 0)
        self._index: dict[tuple[Kind, tuple[str, ...]], int] | None = None
        self._free: list[int] = []
        magic, version, self.threads, self.slots, _used = _HEADER.unpack_from(self._map, 0)
        if magic != MAGIC or version != VERSION:
            raise ValueError(f"not a board of version {VERSION}")
        self._rows_at = HEADER_BYTES + self.slots * SLOT_BYTES
        self.tables_at = (self._rows_at + self.threads * self.slots * ROW_BYTES + 4095) // 4096 * 4096

    @classmethod
    def create(cls, threads: int, slots: int = SLOTS) -> Board:
        """A new, empty board for `threads` engine threads (1..64)."""
        if not 1 <= threads <= MAX_THREADS:
            raise ValueError(f"threads must be 1 to {MAX_THREADS}, not {threads}")
        descriptor = os.memfd_create("amphorad-board", os.MFD_CLOEXEC)
        tables_at = HEADER_BYTES + slots * SLOT_BYTES + threads * slots * ROW_BYTES
        os.ftruncate(descriptor, (tables_at + 4095) // 4096 * 4096 + TABLES_BYTES)
        os.pwrite(descriptor, _HEADER.pack(MAGIC, VERSION, threads, slots, 0), 0)
        return cls(descriptor)

    @classmethod
    def attach(cls, descriptor: int) -> Board:
        """The board behind an inherited or received descriptor, which the board owns from now on."""
        return cls(descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def copy_from(self, other: Board) -> None:
        """Takes over what another board holds, before anybody uses this one. What is written there meanwhile may be missed.

        Raises:
            ValueError: this one has fewer threads, or another number of slots.
        """
        if self.threads < other.threads or self.slots != other.slots:
            raise ValueError(f"a board of {other.threads} threads does not fit into one of {self.threads}")
        used = other._used()
        _copy_data(other._descriptor, HEADER_BYTES, other.tables_at, self._descriptor, HEADER_BYTES)
        _copy_data(
            other._descriptor, other.tables_at, os.fstat(other._descriptor).st_size, self._descriptor, self.tables_at
        )
        _WORD.pack_into(self._map, USED_AT, used)

    def close(self) -> None:
        self._map.close()
        os.close(self._descriptor)

    @property
    def memory(self) -> mmap.mmap:
        """The mapping itself, for the engine. It must not be closed while an engine uses it."""
        return self._map

    # --- slots: the data plane's main thread only ---

    def claim(self, kind: Kind, *names: str) -> int:
        """The slot of that identity, found or newly taken.

        Raises:
            BoardFull: every slot is in use.
            ValueError: a name is too long for a slot.
        """
        index = self._slot_index()
        slot = index.get((kind, names))
        if slot is not None:
            return slot
        identity = [name.encode() for name in names]
        if any(len(name) >= NAME_BYTES for name in identity):
            raise ValueError(f"identifiers longer than {NAME_BYTES - 1} bytes are not supported: {names}")
        identity += [b""] * (3 - len(identity))
        if self._free:
            slot = self._free.pop()
        else:
            slot = self._used()
            if slot == self.slots:
                raise BoardFull(f"the board holds {self.slots} objects at most")
            _WORD.pack_into(self._map, USED_AT, slot + 1)
        self._clear(slot)
        _SLOT.pack_into(self._map, self._slot_at(slot), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, *identity)
        _WORD.pack_into(self._map, self._slot_at(slot), kind)  # last: readers skip a slot without a kind
        index[kind, names] = slot
        return slot

    def release(self, slot: int) -> None:
        """Forgets an object; its counters are gone."""
        index = self._slot_index()
        _WORD.pack_into(self._map, self._slot_at(slot), Kind.FREE)
        for identity in [identity for identity, place in index.items() if place == slot]:
            del index[identity]
        self._free.append(slot)

    def find(self, kind: Kind, *names: str) -> int | None:
        """The slot of that identity, if it has one."""
        return self._slot_index().get((kind, names))

    def show_check(self, slot: int, check: LastCheck | None) -> None:
        """Puts the last health check of a member in its slot; None: it is not checked."""
        at = self._slot_at(slot) + CHECK_AT
        if check is None:
            if self._map[at]:
                self._map[at : at + _CHECK.size] = bytes(_CHECK.size)
            return
        _CHECK.pack_into(
            self._map,
            at,
            check.state.encode(),
            check.code.encode(),
            check.text.encode(),
            check.info.encode(errors="replace"),
            check.status,
            min(round(check.duration_s * 1e6), 0xFFFFFFFF),
            check.since,
            check.checked_at,
            check.checks & 0xFFFFFFFF,
            check.failures & 0xFFFFFFFF,
            check.transitions & 0xFFFFFFFF,
        )

    def show_standing(self, slot: int, standing: Standing | None) -> None:
        """Puts in its slot why a member gets less than its due; None: it does not."""
        until, percent = standing or (0, 100)
        at = self._slot_at(slot) + STANDING_AT
        _STANDING.pack_into(self._map, at, min(round(until), 0xFFFFFFFF), percent if percent < 100 else 0)

    def _standing(self, slot: int) -> Standing | None:
        until, percent = _STANDING.unpack_from(self._map, self._slot_at(slot) + STANDING_AT)
        return Standing(float(until), percent or 100) if until or percent else None

    def _last_check(self, slot: int) -> LastCheck | None:
        at = self._slot_at(slot) + CHECK_AT
        if not self._map[at]:
            return None
        *texts, status, duration_us, since, checked_at, checks, failures, transitions = _CHECK.unpack_from(
            self._map, at
        )
        state, code, text, info = (field.rstrip(b"\0").decode(errors="ignore") for field in texts)
        return LastCheck(
            state, code, text, info, status, duration_us / 1e6, since, checked_at, checks, failures, transitions
        )

    def reset_gauges(self) -> None:
        """What a data plane that died was doing is over: nothing is in flight, idle or locked."""
        for slot, _kind, _names in self.objects():
            at = self._slot_at(slot)
            _WIDE.pack_into(self._map, at + 16, 0)  # in_flight
            _WORD.pack_into(self._map, at + 32, 0)  # lock
            _WIDE.pack_into(self._map, at + 48, 0)  # idle

    def _slot_index(self) -> dict[tuple[Kind, tuple[str, ...]], int]:
        """Identity to slot, built once: from then on this process is the only one that hands out slots."""
        if self._index is None:
            self._index = {(kind, tuple(name for name in names if name)): slot for slot, kind, names in self.objects()}
            taken = set(self._index.values())
            self._free = [slot for slot in range(self._used()) if slot not in taken]
        return self._index

    def objects(self) -> Iterator[tuple[int, Kind, tuple[str, str, str]]]:
        """Every slot in use: number, kind, (listener id, pool id, member id)."""
        for slot in range(self._used()):
            fields = _SLOT.unpack_from(self._map, self._slot_at(slot))
            if fields[0] != Kind.FREE:
                names = tuple(name.rstrip(b"\0").decode(errors="replace") for name in fields[11:14])
                yield slot, Kind(fields[0]), (names[0], names[1], names[2])

    # --- statistics: anyone ---

    def listeners(self) -> list[ListenerStatistics]:
        return [
            ListenerStatistics(*self._totals(slot), *self._gauges(fields), names[0], fields[3])
            for slot, fields, names in self._read(Kind.LISTENER)
        ]

    def pools(self) -> list[PoolStatistics]:
        return [
            PoolStatistics(*self._totals(slot), *self._gauges(fields), names[0], names[1])
            for slot, fields, names in self._read(Kind.POOL)
        ]

    def members(self) -> list[MemberStatistics]:
        return [
            MemberStatistics(
                *self._totals(slot),
                *self._gauges(fields),
                *names,
                MemberState(fields[1]).text,
                fields[2],
                max(0, fields[9]),
                self._last_check(slot),
                self._standing(slot),
            )
            for slot, fields, names in self._read(Kind.MEMBER)
        ]

    # --- private ---

    def _used(self) -> int:
        used: int = _WORD.unpack_from(self._map, USED_AT)[0]
        return used

    def _slot_at(self, slot: int) -> int:
        return HEADER_BYTES + slot * SLOT_BYTES

    def _clear(self, slot: int) -> None:
        self._map[self._slot_at(slot) : self._slot_at(slot) + SLOT_BYTES] = bytes(SLOT_BYTES)
        for thread in range(self.threads):
            at = self._rows_at + (thread * self.slots + slot) * ROW_BYTES
            if self._map[at : at + ROW_BYTES] != _ZERO_ROW:  # reading a page that was never written allocates none
                self._map[at : at + ROW_BYTES] = bytes(ROW_BYTES)

    def _read(self, kind: Kind) -> Iterator[tuple[int, tuple[int, ...], tuple[str, str, str]]]:
        for slot in range(self._used()):
            at = self._slot_at(slot)
            if self._map[at] == kind:  # the lowest byte of the word, on the machines that there are engines for
                fields = _SLOT.unpack_from(self._map, at)
                listener, pool, member = (name.rstrip(b"\0").decode(errors="replace") for name in fields[11:14])
                yield slot, fields, (listener, pool, member)

    def _totals(self, slot: int) -> tuple[dict[str, int], tuple[int, ...]]:
        """Rows that nobody has counted in are the rule among thousands of objects, so they are the cheap ones."""
        rows = []
        for thread in range(self.threads):
            at = self._rows_at + (thread * self.slots + slot) * ROW_BYTES
            if self._map[at : at + ROW_BYTES] != _ZERO_ROW:
                rows.append(_ROW.unpack_from(self._map, at))
        if not rows:
            return dict.fromkeys(COUNTERS, 0), _NO_BUCKETS
        sums = rows[0] if len(rows) == 1 else tuple(map(sum, zip(*rows, strict=True)))
        return dict(zip(COUNTERS, sums, strict=False)), sums[32:]

    @staticmethod
    def _gauges(fields: tuple[int, ...]) -> tuple[int, int]:
        return max(0, fields[4]), fields[8]


_ZERO_ROW = bytes(ROW_BYTES)
_NO_BUCKETS = (0,) * BUCKETS


def _copy_data(source: int, at: int, end: int, target: int, target_at: int) -> None:
    """A range of a sparse file; its holes stay holes."""
    shift = target_at - at
    while at < end:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole until the end
            return
        stop = min(os.lseek(source, at, os.SEEK_HOLE), end)
        while at < stop:
            at += os.pwrite(target, os.pread(source, min(stop - at, 1 << 20), at), at + shift)
