"""The TCP check: a connection that stands is all that is asked."""

from __future__ import annotations

from amphorad.health.verdict import CheckStatus, Finding

__all__ = ["TcpConversation"]

_PASSED = Finding(CheckStatus.L4OK)


class TcpConversation:
    """Over as soon as it is connected."""

    outgoing = b""
    is_established = True

    def connected(self) -> Finding | None:
        return _PASSED

    def received(self, data: bytes) -> Finding | None:
        del data
        return _PASSED

    def ended(self) -> Finding:
        return _PASSED

    def broken(self, reason: str) -> Finding:
        return Finding(CheckStatus.L4CON, None, reason)

    def timed_out(self) -> Finding:
        return Finding(CheckStatus.L4TOUT)
