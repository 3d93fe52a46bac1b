"""The last segment of the routes that start, stop and reload something."""

from __future__ import annotations

from amphorad.agent_api.answers import Refusal, message
from amphorad.agent_api.identifiers import printable

__all__ = ["action_of"]

_ACTIONS = ("start", "stop", "reload")


def action_of(segment: str) -> str:
    """`start`, `stop` or `reload`; capitals are taken too.

    Raises:
        Refusal: 400, any other word. This comes before the question whether the object exists.
    """
    action = segment.lower()
    if action not in _ACTIONS:
        raise Refusal(message("Invalid Request", status=400, details=f"Unknown action: {printable(action)}"))
    return action
