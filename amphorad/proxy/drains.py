# NOTE FROM THE LEAD: see /tmp/lead_notes/tree-options before you go on
"""How long what is on its way out may still have sessions. Pure; what drains are any hashable objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Drains"]

T = TypeVar("T")


class Drains(Generic[T]):
    """Notes since when something drains.

    Args:
        deadline_s: time to drain, from when it was first seen draining.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._since: dict[T, float] = {}
        self.expired: frozenset[T] = frozenset()

    def step(self, draining: Iterable[T], now: float) -> tuple[frozenset[T], frozenset[T]]:
        """What has expired since the last step, and what had and is back in use.

        Args:
            draining: everything that drains now; what is left out and comes again begins anew.
            now: monotonic seconds.
        """
        self._since = {item: self._since.get(item, now) for item in draining}
        before = self.expired
        self.expired = frozenset(item for item, since in self._since.items() if now - since >= self._deadline_s)
        return self.expired - before, before - self.expired
