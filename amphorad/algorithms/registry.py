"""Which algorithms there are: the compiled ones, those registered in this process, those that installed packages offer."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.metadata import EntryPoints

__all__ = [
    "BUILT_IN",
    "ENTRY_POINT_GROUP",
    "Algorithm",
    "Factory",
    "MemberView",
    "SessionView",
    "find_factory",
    "names",
    "register",
]

ENTRY_POINT_GROUP = "amphorad.algorithms"
BUILT_IN = ("least_connections", "maglev", "round_robin", "source_ip_hash", "weighted_round_robin")


def _nothing_in_flight() -> int:
    return 0


@dataclass(frozen=True, slots=True)
class MemberView:
    """One usable member as an algorithm sees it.

    Args:
        index: what `Algorithm.pick` returns to choose this member; 0 is the first usable member.
        name: the member id.
        weight: 1 to 256; members of weight 0 are not shown.
        read_in_flight: gives the live count behind `in_flight`; tests of an algorithm pass their own.
    """

    index: int
    name: str
    weight: int = 1
    read_in_flight: Callable[[], int] = field(default=_nothing_in_flight, repr=False, compare=False)

    @property
    def in_flight(self) -> int:
        """Sessions or exchanges at this member now, over all threads; 0 once the algorithm has been replaced."""
        return self.read_in_flight()


@dataclass(frozen=True, slots=True)
class SessionView:
    """What is known of a session when its member is chosen.

    Args:
        address: client address in network order, 4 or 16 bytes; empty when the client has none.
    """

    address: bytes = b""

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """`address` as an object; an IPv4-mapped IPv6 address stays IPv6."""
        return ipaddress.ip_address(self.address) if self.address else None


class Algorithm(Protocol):
    """A way to choose a member, made by a `Factory` for the usable members and thrown away when these change."""

    def pick(self, session: SessionView) -> int:
        """The index of the chosen member.

        Called with the interpreter lock held, by several threads in turn, once per session or exchange. When it raises, or
        its index names no member, the session goes to the next member in rotation, and the fault is logged.
        """
        ...


Factory: TypeAlias = "Callable[[Sequence[MemberView]], Algorithm]"

_registered: dict[str, Factory] = {}


def register(name: str, factory: Factory) -> None:
    """Make `factory` known as algorithm `name` in this process; the last registration of a name counts.

    Raises:
        ValueError: `name` is empty or belongs to a built-in algorithm.
    """
    if not name or name in BUILT_IN:
        raise ValueError(f"algorithm name {name!r} is empty or built in; built in are {', '.join(BUILT_IN)}")
    _registered[name] = factory


def _entry_points(**wanted: Any) -> EntryPoints:
    from importlib.metadata import entry_points  # a tenth of a data plane's start, and most never need it

    return entry_points(group=ENTRY_POINT_GROUP, **wanted)


def names() -> tuple[str, ...]:
    """All names that a pool may use, sorted. Offered packages are listed without being imported."""
    offered = (point.name for point in _entry_points())
    return tuple(sorted({*BUILT_IN, *_registered, *offered}))


def find_factory(name: str) -> Factory:
    """The factory of an algorithm that is not built in; registered names come before those of installed packages.

    Raises:
        ValueError: the name is unknown, or the package that offers it cannot be imported.
    """
    if name in _registered:
        return _registered[name]
    for point in _entry_points(name=name):
        try:
            factory: Factory = point.load()
        except Exception as error:  # the package's own code runs here and may raise anything
            raise ValueError(f"algorithm {name!r} cannot be loaded from {point.value}: {error}") from error
        if not callable(factory):
            raise ValueError(f"algorithm {name!r}: {point.value} is not callable")
        # pickers are built again at every change of a member's health; reading all packages' metadata once is enough
        return _registered.setdefault(name, factory)
    raise ValueError(f"unknown algorithm {name!r}; known are {', '.join(names())}")
