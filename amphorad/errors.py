"""What can go wrong, and whose fault it is.

    AmphoradError
    +-- ConfigError         the controller or the operator wrote something we refuse; nothing changed
    |   +-- NotSupportedYet the text is right, the feature is not built
    +-- ListenError         a listener's address and port cannot be bound
    +-- NotFound            an object that was asked for does not exist
    +-- OperationFailed     something that was ordered could not be done; the message is the contract's, the details are ours

Failures of clients and members never become exceptions: the engine answers them with a status or a close.
"""

from __future__ import annotations

__all__ = ["AmphoradError", "ConfigError", "ListenError", "NotFound", "NotSupportedYet", "OperationFailed"]


class AmphoradError(Exception):
    """Base of every error that amphorad raises on purpose."""


class ConfigError(AmphoradError):
    """A configuration is refused.

    Args:
        reason: one sentence for the operator.
        file: name of the file, as given.
        line: 1-based line number, or None when the error is about the whole.
        word: the offending word, if there is one.
    """

    def __init__(self, reason: str, *, file: str = "<text>", line: int | None = None, word: str | None = None) -> None:
        self.reason = reason
        self.file = file
        self.line = line
        self.word = word
        where = file if line is None else f"{file}:{line}"
        what = reason if word is None else f"{reason}: {word!r}"
        super().__init__(f"{where}: {what}")


class NotSupportedYet(ConfigError):
    """The directive is part of the dialect, but its feature is not built yet."""


class ListenError(AmphoradError):
    """A listener cannot be bound; the message names the listener, the address, the port and the system's reason."""


class NotFound(AmphoradError):
    """An object that was asked for does not exist.

    Args:
        message, details: as the controller gets them (Octavia contract section 1.5).
    """

    def __init__(self, message: str, details: str) -> None:
        self.message = message
        self.details = details
        super().__init__(f"{message}: {details}")


class OperationFailed(AmphoradError):
    """Something that was ordered could not be done; what was there before is still there.

    Args:
        message: as the controller gets it (Octavia contract section 1.5).
        details: what went wrong, for the operator.
    """

    def __init__(self, message: str, details: str) -> None:
        self.message = message
        self.details = details
        super().__init__(f"{message}: {details}")
