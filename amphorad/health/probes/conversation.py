"""The seam between the socket of a check and what is said on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from amphorad.health.verdict import Finding

__all__ = ["Conversation"]


class Conversation(Protocol):
    """One check on one connection. Methods that return a finding end the conversation by it.

    `outgoing` is what is to be sent; the driver takes it after every call. `is_established` becomes true when the
    connect timeout no longer applies (after a TLS handshake), and the monitor's own timeout begins.
    """

    outgoing: bytes
    is_established: bool

    def connected(self) -> Finding | None:
        """The connection stands."""

    def received(self, data: bytes) -> Finding | None:
        """Bytes came, at least one."""

    def ended(self) -> Finding:
        """The member sent its end of file."""

    def broken(self, reason: str) -> Finding:
        """The connection failed: `reason` is the system's word for it."""

    def timed_out(self) -> Finding:
        """Time is up."""
