"""Where everything of VRRP lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Paths"]


@dataclass(frozen=True, slots=True)
class Paths:
    """Files of one agent's VRRP.

    Args:
        base: the agent's base path, kept over a reboot; the files there have the stock names (Octavia contract sections 5.2, 5.3).
        state_dir: the agent's runtime directory, empty after a reboot.
    """

    base: Path
    state_dir: Path

    @property
    def uploaded(self) -> Path:
        """What the controller sent last, byte for byte."""
        return self.base / "vrrp" / "octavia-keepalived.conf"

    @property
    def pid(self) -> Path:
        return self.base / "vrrp" / "octavia-keepalived.pid"

    @property
    def check_script(self) -> Path:
        return self.base / "vrrp" / "check_script.sh"

    @property
    def runtime(self) -> Path:
        """Directory of the files below."""
        return self.state_dir / "vrrp"

    @property
    def active(self) -> Path:
        """The controller's text that is in force."""
        return self.runtime / "active.conf"

    @property
    def effective(self) -> Path:
        """What keepalived reads."""
        return self.runtime / "keepalived.conf"

    @property
    def child_pid(self) -> Path:
        """Of keepalived's VRRP process."""
        return self.runtime / "keepalived-vrrp.pid"

    @property
    def fault(self) -> Path:
        """`0`, or `1` for a node that cannot serve; keepalived watches it by inotify."""
        return self.runtime / "fault"

    @property
    def processes(self) -> Path:
        """Which processes the check script looks for."""
        return self.runtime / "processes"

    @property
    def events(self) -> Path:
        """The named pipe in which keepalived tells its state."""
        return self.runtime / "events"

    @property
    def history(self) -> Path:
        """The states of late, for `amphorad vrrp state`."""
        return self.runtime / "state.json"

    @property
    def idle(self) -> Path:
        """There while keepalived should not run although it is configured; a reboot deletes it, and keepalived is then started."""
        return self.runtime / "idle"
