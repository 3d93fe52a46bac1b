from collections.abc import Iterable, Sequence

from typing_extensions import Buffer

__all__ = ["BuiltPicker"]

class BuiltPicker:
    """One algorithm built over members, as the engine builds it.

    Args:
        name: one of `amphorad.algorithms.names()`.
        weights: of each usable member, 1 to 256.
        names: member ids; `maglev` needs them.
        memory: writable, aligned to 8 bytes, all zero at first, at least `memory_size(highest slot + 1)` bytes. What it holds
            (in-flight counts, credit, cursor) goes on with the next picker over it. Without it the picker has its own.
        slots: the place of each member in `memory`; by default 0, 1, 2, ...

    Raises:
        ValueError: unknown algorithm (the known ones are listed), weights, names or memory out of order.
    """

    def __init__(
        self,
        name: str,
        weights: Iterable[int],
        names: Sequence[str] | None = None,
        memory: Buffer | None = None,
        slots: Iterable[int] | None = None,
    ) -> None: ...
    @staticmethod
    def memory_size(capacity: int) -> int:
        """Bytes that `capacity` members need."""

    def pick(self, address: bytes = b"") -> int:
        """The chosen index, its `in_flight` one higher; -1 when there are no members."""

    def pick_many(self, picks: int, address: bytes = b"", releasing: bool = False) -> list[int]:
        """How often each member was chosen in `picks` picks made without the interpreter lock.

        `releasing` ends each session before the next pick.
        """

    def release(self, index: int) -> None:
        """One session at the member ended."""

    def occupy(self, index: int, amount: int = 1) -> None:
        """Sessions that came to the member by another way, such as persistence."""

    def reset_shared(self) -> None:
        """Free a lock whose holder was killed."""

    @property
    def in_flight(self) -> list[int]: ...
    @property
    def credits(self) -> list[int]: ...
    @property
    def table(self) -> list[int]:
        """Slot -> index of `source_ip_hash` and `maglev`; empty for the others."""

    @property
    def failures(self) -> int:
        """Picks at which an algorithm written in Python failed, and rotation stepped in."""
