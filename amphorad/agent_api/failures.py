"""Errors of the services -> answers. The one place that knows both.

Source: Octavia contract section 1.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amphorad.admin import Refused
from amphorad.agent_api.answers import Answer, frame_error, message
from amphorad.agent_api.mutations import NotInTime
from amphorad.errors import AmphoradError, ConfigError, NotFound, OperationFailed
from amphorad.network.errors import (
    AlreadyPlugged,
    InvalidAddress,
    NoInterface,
    PlugFailed,
    UnknownInterface,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NO_INTERFACE_SENTENCE", "answer_of"]

NO_INTERFACE_SENTENCE = "No suitable network interface found"
"""The controller looks for exactly this text and then repeats the call until the interface has been plugged."""


def answer_of(error: Exception) -> Answer | None:
    """The answer for an error that a service raises on purpose; None for any other."""
    for kind, make in _ANSWERS:
        if isinstance(error, kind):
            return make(error)
    return None


def _refused(error: Exception) -> Answer:
    assert isinstance(error, Refused)
    return message("Invalid request", status=400, details="\n".join(map(str, error.errors)))


def _not_found(error: Exception) -> Answer:
    assert isinstance(error, NotFound)
    return message(error.message, status=404, details=error.details)


def _failed(error: Exception) -> Answer:
    assert isinstance(error, (OperationFailed, PlugFailed))
    return message(error.message, status=500, details=error.details)


_ANSWERS: tuple[tuple[type[Exception], Callable[[Exception], Answer]], ...] = (
    (Refused, _refused),
    (ConfigError, lambda error: message("Invalid request", status=400, details=str(error))),
    (NotFound, _not_found),
    (OperationFailed, _failed),
    (PlugFailed, _failed),
    (InvalidAddress, lambda error: message(str(error), status=400)),
    (UnknownInterface, lambda _: message("Error interface not found for IP address", status=404)),
    (AlreadyPlugged, lambda _: message("Interface already exists", status=409)),
    (NoInterface, lambda _: Answer.json({"details": NO_INTERFACE_SENTENCE}, status=404)),
    (NotInTime, lambda error: message("The call was not completed in time", status=500, details=str(error))),
    (AmphoradError, lambda error: frame_error(500, str(error))),
)
