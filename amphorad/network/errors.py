"""What can go wrong while plugging, one class per answer of Octavia contract section 1.5, routes 5, 6, 16 and 17."""

from __future__ import annotations

from amphorad.errors import AmphoradError

__all__ = ["AlreadyPlugged", "InvalidAddress", "NoInterface", "PlugFailed", "UnknownInterface"]


class InvalidAddress(AmphoradError):
    """An address or network in a call is none; the message is the contract's, such as "Invalid VIP: ..."."""


class AlreadyPlugged(AmphoradError):
    """The interface is in the namespace already."""


class NoInterface(AmphoradError):
    """No interface has this MAC address yet; the controller asks again until it has been hot-plugged."""


class UnknownInterface(AmphoradError):
    """No interface of the namespace has this address."""


class PlugFailed(AmphoradError):
    """The system refused something.

    Args:
        message: as the controller gets it, such as "Error plugging VIP".
        details: what went wrong, for the operator.
    """

    def __init__(self, message: str, details: str) -> None:
        super().__init__(f"{message}: {details}")
        self.message = message
        self.details = details
