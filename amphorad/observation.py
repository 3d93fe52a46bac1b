"""Passive observation of members: what sessions run into, and what follows from it. Pure; off unless an operator asks for it.

The engine counts failures in a row on the board (`proxy/engine/observation.pxd`); this decides whom to eject and for how
long. It complements health monitors: it sees what real requests see, at once, also in a pool without a monitor.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

__all__ = ["Ejection", "Ejections", "Observation", "ObservationError"]

K = TypeVar("K", bound="Hashable")


class ObservationError(ValueError):
    """A text that does not say how to observe. The message names the part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """How members are observed.

    Args:
        connects: connections in a row that fail until a member is ejected; 0: they eject nobody.
        errors: responses in a row with a 5xx status, or broken off by the member, until it is ejected; 0: they eject nobody.
        eject_s: how long the first ejection lasts; each further one is longer by that.
        longest_s: no ejection is longer. A member forgets one ejection in each `eject_s` that it is not ejected.
        share: percent of a pool's usable members, rounded down, that may be ejected at a time; one always stays.
        check: a failed connection has the health monitor of that member check it at once.
    """

    connects: int = 5
    errors: int = 5
    eject_s: float = 30.0
    longest_s: float = 300.0
    share: int = 50
    check: bool = True

    @classmethod
    def parse(cls, text: str) -> Observation:
        """Of `NAME=VALUE,...`, with the names and defaults above; an empty text is all defaults.

        Raises:
            ObservationError.
        """
        values: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _equals, value = part.partition("=")
            if name not in _LIMITS:
                raise ObservationError(f"{name!r} is not one of {', '.join(_LIMITS)}")
            least, most = _LIMITS[name]
            try:
                values[name] = float(value) if name.endswith("_s") else int(value)
            except ValueError:
                raise ObservationError(f"{name} needs a number, not {value!r}") from None
            if not least <= values[name] <= most:
                raise ObservationError(f"{name} must be {least:g} to {most:g}")
        if "check" in values:
            values["check"] = bool(values["check"])
        return cls(**values)  # type: ignore[arg-type]

    @property
    def text(self) -> str:
        """What `parse` makes this of."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return ",".join(f"{name}={int(value) if isinstance(value, bool) else value}" for name, value in values)


_LIMITS: dict[str, tuple[float, float]] = {
    "connects": (0, 1000000),
    "errors": (0, 1000000),
    "eject_s": (0.1, 86400),
    "longest_s": (0.1, 86400),
    "share": (0, 100),
    "check": (0, 1),
}


class Ejection(NamedTuple):
    """Args:
    until: on the clock that `Ejections` is given.
    number: how many in a row, this one included.
    """

    until: float
    number: int
    duration_s: float


@dataclass(slots=True)
class _Record:
    number: int = 0
    until: float = 0.0
    ejected: Ejection | None = None


class Ejections(Generic[K]):
    """Who is ejected now, and for how long. `now` is monotonic seconds.

    Args:
        pool_of: the pool that a member belongs to; its bound on ejections is the pool's own.
    """

    def __init__(self, rules: Observation, pool_of: Callable[[K], Hashable]) -> None:
        self._rules = rules
        self._pool_of = pool_of
        self._records: dict[K, _Record] = {}

    def eject(self, member: K, usable: int, now: float) -> Ejection | None:
        """Ejects a member; None when it is already, or when the pool would have too few left.

        Args:
            usable: members of its pool that could be chosen if nobody were ejected.
        """
        record = self._records.setdefault(member, _Record())
        if record.ejected is not None:
            return None
        pool = self._pool_of(member)
        others = sum(each.ejected is not None and self._pool_of(key) == pool for key, each in self._records.items())
        if others + 1 > min(usable * self._rules.share // 100, usable - 1):
            return None
        if record.number:
            record.number = max(0, record.number - int((now - record.until) / self._rules.eject_s))
        record.number += 1
        duration_s = min(self._rules.eject_s * record.number, max(self._rules.longest_s, self._rules.eject_s))
        record.until = now + duration_s
        record.ejected = Ejection(record.until, record.number, duration_s)
        return record.ejected

    def take_ended(self, now: float) -> list[K]:
        """Members whose ejection is over; they are not ejected any more."""
        ended = [key for key, record in self._records.items() if record.ejected is not None and record.until <= now]
        for key in ended:
            self._records[key].ejected = None
        forgotten = [
            key
            for key, record in self._records.items()
            if record.ejected is None and now - record.until >= record.number * self._rules.eject_s
        ]
        for key in forgotten:
            del self._records[key]
        return ended

    def end(self, member: K) -> bool:
        """Ends an ejection before its time. False: there is none."""
        record = self._records.get(member)
        if record is None or record.ejected is None:
            return False
        record.ejected = None
        return True

    def of(self, member: K) -> Ejection | None:
        record = self._records.get(member)
        return record.ejected if record is not None else None

    def keep(self, members: Iterable[K]) -> None:
        """Forgets all others."""
        wanted = set(members)
        self._records = {key: record for key, record in self._records.items() if key in wanted}
