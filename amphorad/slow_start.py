"""Slow start: a member that comes back gets its share little by little. Pure; off unless an operator asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

__all__ = ["DYNAMIC", "Ramps", "scaled_weights"]

K = TypeVar("K", bound="Hashable")

STEPS: Final = 20
"""A ramp has at most that many, as HAProxy's (configuration manual 5.2, slowstart)."""
SHORTEST_STEP_S: Final = 0.25
LEAST_PERCENT: Final = 5
HIGHEST_WEIGHT: Final = 256
DYNAMIC: Final = frozenset({"round_robin", "weighted_round_robin", "least_connections"})
"""Algorithms that it is for. Where clients are mapped to members by weight, a ramp would only send them to and fro."""


class Ramps(Generic[K]):
    """Members on their way to their full weight. `now` is monotonic seconds.

    Args:
        duration_s: from the recovery to the full weight; 0: at once.
    """

    def __init__(self, duration_s: float) -> None:
        self._duration_s = duration_s
        self._since: dict[K, float] = {}
        self._step: dict[K, int] = {}
        self._steps = max(1, min(STEPS, int(duration_s / SHORTEST_STEP_S)))

    def begin(self, member: K, now: float) -> None:
        if self._duration_s > 0:
            self._since[member] = now
            self._step[member] = 0

    def end(self, member: K) -> None:
        self._since.pop(member, None)
        self._step.pop(member, None)

    def keep(self, members: Iterable[K]) -> None:
        """Forgets all others."""
        for member in self._since.keys() - set(members):
            self.end(member)

    def percent(self, member: K) -> int:
        """Of its weight that a member has now, 100 for one that is not on a ramp; as of the last `take_changed`."""
        step = self._step.get(member)
        return 100 if step is None else max(LEAST_PERCENT, 100 * step // self._steps)

    def take_changed(self, now: float) -> list[K]:
        """Members that have come a step further, those at the end of their ramp among them, which are on none any more."""
        changed = []
        for member, since in list(self._since.items()):
            step = int((now - since) / self._duration_s * self._steps)
            if step >= self._steps:
                self.end(member)
            elif step == self._step[member]:
                continue
            else:
                self._step[member] = step
            changed.append(member)
        return changed


def scaled_weights(weights: Sequence[int], percents: Sequence[int]) -> list[int]:
    """Weights for the balancing: each weight's percentage, all scaled up as far as they go so that small ones can be divided.

    Args:
        weights: 1 to 256 each.
        percents: 1 to 100 each.
    """
    if all(percent == 100 for percent in percents):
        return list(weights)
    factor = max(1, HIGHEST_WEIGHT // max(weights))
    return [
        max(1, weight * factor * percent // 100) if percent < 100 else weight * factor
        for weight, percent in zip(weights, percents, strict=True)
    ]
