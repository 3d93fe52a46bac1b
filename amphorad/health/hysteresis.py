"""How many checks in a row it takes to change a member's state. Pure: no clock and no I/O."""

from __future__ import annotations

__all__ = ["Hysteresis"]


class Hysteresis:
    """Rise and fall of one member under one monitor, with HAProxy's single counter (configuration manual 5.2, rise/fall).

    The counter runs from 0 to rise + fall - 1; from `rise` on the member is up. A pass adds one, and reaching `rise` fills
    it; a failure takes one away, and falling below `rise` empties it. A new member starts at exactly `rise`: up, and the
    first failure takes it down.

        0 .. rise-1: DOWN, that many passes so far | rise .. rise+fall-1: UP, that many failures still allowed, plus one

    Args:
        rise: consecutive passes that turn DOWN into UP (>= 1). Octavia: max_retries.
        fall: consecutive failures that turn UP into DOWN (>= 1). Octavia: max_retries_down.
        up: None for a new member; True or False for one whose state is known from before (like HAProxy's server-state
            file, which forgets how far a streak had come).
    """

    __slots__ = ("_value", "fall", "rise")

    def __init__(self, rise: int, fall: int, *, up: bool | None = None) -> None:
        if rise < 1 or fall < 1:
            raise ValueError(f"rise and fall must be at least 1, not {rise} and {fall}")
        self.rise = rise
        self.fall = fall
        if up is None:
            self._value = rise
        else:
            self._value = rise + fall - 1 if up else 0

    @property
    def is_up(self) -> bool:
        return self._value >= self.rise

    @property
    def text(self) -> str:
        """As `show stat` has it: `UP`, `UP 1/3` (one more failure is too many), `DOWN`, `DOWN 1/2` (one pass of two)."""
        if self.is_up:
            left = self._value - self.rise + 1
            return "UP" if left == self.fall else f"UP {left}/{self.fall}"
        return f"DOWN {self._value}/{self.rise}" if self._value else "DOWN"

    def take(self, passed: bool) -> bool:
        """One result. True when the state has changed."""
        was_up = self.is_up
        if passed:
            value = min(self._value + 1, self.rise + self.fall - 1)
            self._value = self.rise + self.fall - 1 if value >= self.rise else value
        else:
            self._value = self._value - 1 if self._value > self.rise else 0
        return self.is_up != was_up
