"""A data plane that has loaded its code and waits for the death of the one that serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from amphorad.child import DataPlaneProcess

__all__ = ["Spare"]

AGAIN_AFTER_S = 60.0  # before another one, when one died of itself


class Spare:
    """One spare process, or none.

    Args:
        make: gives a process that has not been launched.
        on_alarm: gets the text of each alarm.
    """

    def __init__(self, make: Callable[[], DataPlaneProcess], on_alarm: Callable[[str], None]) -> None:
        self._make = make
        self._on_alarm = on_alarm
        self._process: DataPlaneProcess | None = None
        self._not_before = 0.0

    @property
    def pid(self) -> int:
        """0 while there is none."""
        return self._process.pid if self._process is not None and self._process.is_running else 0

    async def keep(self, now: float) -> None:
        """Sees to it that there is one. To be called every now and then."""
        if now < self._not_before or (self._process is not None and self._process.is_running):
            return
        if self._process is not None:
            self._on_alarm(f"spare data plane died {self._process.exit_text}")
            self._not_before = now + AGAIN_AFTER_S
            await self.drop()
            return
        self._process = self._make()
        try:
            self._process.launch()
        except OSError as error:
            self._on_alarm(f"no spare data plane: {error.strerror}")
            self._not_before = now + AGAIN_AFTER_S
            await self.drop()

    async def take(self) -> DataPlaneProcess | None:
        """The process, which is the caller's from now on; None when there is none that lives."""
        spare = self._process
        if spare is None or not spare.is_running:
            await self.drop()
            return None
        self._process = None
        return spare

    async def drop(self) -> None:
        spare, self._process = self._process, None
        if spare is not None:
            await spare.kill()
