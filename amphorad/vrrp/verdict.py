"""Whether this node can serve, made steady: a data plane that is replaced at once does not move the VIPs."""

from __future__ import annotations

from typing import Final

__all__ = ["DOWN_AFTER_S", "UP_AFTER_S", "Verdict"]

DOWN_AFTER_S: Final = (
    0.5  # a replacement serves after 25 to 300 ms; with the peer's 0.6 s this stays well below two seconds
)
UP_AFTER_S: Final = 1.0  # of service after a failure, so that a data plane which dies again and again does not count


class Verdict:
    """Hysteresis over the bare fact: `is_good` turns False after DOWN_AFTER_S without service, True after UP_AFTER_S with service.

    Args:
        is_good: what an earlier agent said last; None when there was none. Then the first service counts at once: nothing has failed yet.
    """

    def __init__(self, is_good: bool | None = None) -> None:
        self._is_good = bool(is_good)
        self._was_ever_good = is_good is not None
        self._fact = self._is_good
        self._since = 0.0

    @property
    def is_good(self) -> bool:
        return self._is_good

    def see(self, fact: bool, now: float) -> bool:
        """Takes the fact of this moment; whether `is_good` has changed.

        Args:
            now: monotonic seconds.
        """
        if fact is not self._fact:
            self._fact, self._since = fact, now
        if fact is self._is_good:
            return False
        wait_s = (UP_AFTER_S if self._was_ever_good else 0.0) if fact else DOWN_AFTER_S
        if now - self._since < wait_s:
            return False
        self._is_good = fact
        self._was_ever_good = True
        return True

    def due_s(self, now: float) -> float | None:
        """Seconds until `see` with the same fact would change the verdict; None when it would not."""
        if self._fact is self._is_good:
            return None
        wait_s = (UP_AFTER_S if self._was_ever_good else 0.0) if self._fact else DOWN_AFTER_S
        return max(0.0, self._since + wait_s - now)
