"""How a member stands beyond its configuration and its checks: ejected, on its way back to its full weight, or neither.

The data plane's main thread asks this when it builds a pool's table, and puts it on the board for status and metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from amphorad.board import Exclusion
from amphorad.observation import Ejections
from amphorad.slow_start import DYNAMIC, Ramps

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from amphorad.observation import Observation
    from amphorad.proxy.engine.engine import MemberRuntime

__all__ = ["MemberKey", "Standing", "StandingChange", "choose_usable"]

MemberKey = tuple[str, str, str, str, int]  # listener, pool, member, address, port


class StandingChange(NamedTuple):
    """A member was ejected, or has come back. `reason` is for the log and the member's history."""

    member: tuple[str, str, str]
    ejected: bool
    reason: str


class Standing:
    """Times are monotonic seconds.

    Args:
        observation: None: nobody is ever ejected.
        slow_start_s: 0: everybody comes back with its full weight.
    """

    def __init__(self, observation: Observation | None, slow_start_s: float) -> None:
        self.observation = observation
        self._ejections: Ejections[MemberKey] | None = None
        if observation is not None:
            self._ejections = Ejections(observation, lambda key: key[:2])
        self._ramps: Ramps[MemberKey] = Ramps(slow_start_s)
        self._reasons: dict[MemberKey, str] = {}
        self._changes: list[StandingChange] = []

    def is_ejected(self, key: MemberKey) -> bool:
        return self._ejections is not None and self._ejections.of(key) is not None

    def percent(self, key: MemberKey, algorithm: str) -> int:
        """Of its weight that the balancing is to give a member now."""
        return self._ramps.percent(key) if algorithm in DYNAMIC else 100

    def exclusion(self, key: MemberKey, algorithm: str, now: float, wall: float) -> Exclusion | None:
        """For the board; None for a member that is treated as its configuration says."""
        ejection = self._ejections.of(key) if self._ejections is not None else None
        percent = self.percent(key, algorithm)
        if ejection is None:
            return Exclusion(0.0, 0, "", percent) if percent < 100 else None
        return Exclusion(wall + ejection.until - now, ejection.number, self._reasons.get(key, ""), percent)

    def recovered(self, key: MemberKey, now: float) -> None:
        """It was DOWN and is UP."""
        self._ramps.begin(key, now)

    def went_down(self, key: MemberKey) -> None:
        self._ramps.end(key)

    def judge(self, key: MemberKey, member: MemberRuntime, usable: int, now: float) -> bool:
        """Looks at what was counted of a member since it last went well; True when that ejects it.

        Args:
            usable: see `amphorad.observation.Ejections.eject`.
        """
        rules = self.observation
        if rules is None or self._ejections is None:
            return False
        connects, errors = member.failures
        if rules.connects and connects >= rules.connects:
            reason = "connects"
            text = f"{connects} connections in a row failed"
        elif rules.errors and errors >= rules.errors:
            reason = "errors"
            text = f"{errors} responses in a row were 5xx or broken off"
        else:
            return False
        member.forget_failures()  # if it cannot be ejected now, the next failures may
        ejection = self._ejections.eject(key, usable, now)
        if ejection is None:
            return False
        self._reasons[key] = reason
        times = f" (ejection {ejection.number} in a row)" if ejection.number > 1 else ""
        self._changes.append(StandingChange(key[:3], True, f"{text}, ejected for {ejection.duration_s:g} s{times}"))
        return True

    def pass_time(self, now: float) -> list[MemberKey]:
        """Members whose ejection has ended, or whose weight is to be another one."""
        ended = self._ejections.take_ended(now) if self._ejections is not None else []
        for key in ended:
            self._reasons.pop(key, None)
            self._ramps.begin(key, now)
            self._changes.append(StandingChange(key[:3], False, "the ejection is over"))
        return ended + self._ramps.take_changed(now)

    def keep(self, keys: Iterable[MemberKey]) -> None:
        """Forgets all others."""
        keys = set(keys)
        self._ramps.keep(keys)
        if self._ejections is not None:
            self._ejections.keep(keys)
        self._reasons = {key: reason for key, reason in self._reasons.items() if key in keys}

    def changes(self) -> list[StandingChange]:
        """Each once."""
        changes, self._changes = self._changes, []
        return changes


def choose_usable(fit: Sequence[bool], backup: Sequence[bool], ejected: Sequence[bool]) -> list[int]:
    """Places of the members to choose from: backups only when nothing else is left, ejected ones only when nobody is.

    Args:
        fit: by member, whether configuration and checks let it serve.
    """
    places = [place for place, is_fit in enumerate(fit) if is_fit]
    for allowed in (
        [place for place in places if not backup[place] and not ejected[place]],
        [place for place in places if not ejected[place]],
        [place for place in places if not backup[place]],
    ):
        if allowed:
            return allowed
    return places
