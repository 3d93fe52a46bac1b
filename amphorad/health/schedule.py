"""When checks are due: the spread start, the grid of an interval, and the agenda of all that waits. Pure."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Agenda", "Timed", "first_due", "next_due"]


def first_due(now: float, interval_s: float, place: int, count: int) -> float:
    """When the monitor at `place` (0..count-1) among `count` that start together has its first check.

    Monitors are spread over their interval, so that neither this machine nor one that carries many members gets all
    checks at the same moment (HAProxy does so too).
    """
    return now + interval_s * place / count


def next_due(due: float, interval_s: float, now: float) -> float:
    """The check after the one that was due at `due`, when that has ended at `now`.

    Times stay on the grid due + n * interval: a late wake-up does not shift what follows, and a check that outlasts its
    interval skips times instead of making them up. (HAProxy counts from the end of a check, so its checks drift.)
    """
    upcoming = due + interval_s
    if upcoming > now:
        return upcoming
    upcoming = due + interval_s * (math.floor((now - due) / interval_s) + 1)
    return upcoming if upcoming > now else upcoming + interval_s


class Timed(Protocol):
    """Something that an agenda holds. Both times belong to the agenda; infinity means: not in it."""

    due_at: float
    armed_at: float


T = TypeVar("T", bound=Timed)


class Agenda(Generic[T]):
    """Items by time. An item is in it once; setting it again replaces its time.

    An item that is put off keeps its entry in the heap, and gets a new one when that comes up: most timeouts are put off
    again and again and never pass. An item that is brought forward leaves its entry behind, to be dropped when it comes up.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._count = 0

    def __len__(self) -> int:
        """Entries, stale ones included."""
        return len(self._heap)

    def set(self, item: T, when: float) -> None:
        item.due_at = when
        if when < item.armed_at:
            self._arm(item, when)

    def remove(self, item: T) -> None:
        item.due_at = item.armed_at = math.inf

    def next_at(self) -> float | None:
        """When to look again, never later than the next item is due; None when there is nothing."""
        heap = self._heap
        while heap and heap[0][0] != heap[0][2].armed_at:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def take_due(self, now: float) -> Iterator[T]:
        """Removes and gives each item whose time has come, oldest first. The caller may set items meanwhile."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            when, _count, item = heapq.heappop(heap)
            if item.armed_at != when:
                continue
            item.armed_at = math.inf
            if item.due_at > now:
                self._arm(item, item.due_at)
            else:
                item.due_at = math.inf
                yield item

    def _arm(self, item: T, when: float) -> None:
        item.armed_at = when
        self._count += 1  # orders entries of the same time, and spares comparing items
        heapq.heappush(self._heap, (when, self._count, item))
