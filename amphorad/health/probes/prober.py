"""The seam between the monitor and the drivers of checks. A driver for another transport implements `Prober`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from amphorad.health.target import Target
    from amphorad.health.verdict import Finding

__all__ = ["Attempt", "Owner", "Prober"]


class Owner(Protocol):
    """Whom an attempt reports to. It owns the clock: a prober never sets a timer."""

    def established(self) -> None:
        """What the connect timeout covers is done; the monitor's own timeout begins. At most once."""

    def finish(self, finding: Finding) -> None:
        """The check is over; the attempt has given everything back. At most once, and never after `close`."""


class Attempt(Protocol):
    """One check under way."""

    def time_out(self) -> Finding:
        """Time is up: gives everything back and says what was waited for in vain."""

    def close(self) -> None:
        """The check is no longer wanted: gives everything back. The owner hears nothing more."""


class Prober(Protocol):
    """Makes attempts of one kind. It never blocks, and a failure of this machine is `CheckStatus.LOCAL`."""

    def begin(self, target: Target, owner: Owner) -> Attempt | Finding:
        """Starts a check; a finding when it is over already (the owner is not told then)."""

    def forget(self) -> None:
        """A new configuration: what was read from files is to be read again."""

    def close(self) -> None:
        """No attempt is under way any more, and none will come."""
