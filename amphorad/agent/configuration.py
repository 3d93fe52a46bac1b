"""What the agent makes of a load balancer's text, and what it wants to know of the result. Pure."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from amphorad.admin import Refused
from amphorad.dialects import haproxy
from amphorad.errors import ConfigError
from amphorad.model import Mode
from amphorad.options import read_configuration

if TYPE_CHECKING:
    from amphorad.agent.settings import AgentSettings
    from amphorad.model import Listener, LoadBalancer

__all__ = ["addresses", "check", "listener_type", "peer_name"]


def check(text: bytes, name: str, settings: AgentSettings) -> LoadBalancer:
    """The model of a text, with the agent's settings for reading it. Takes about 50 us for each member.

    Raises:
        Refused: with every error of the text.
    """
    try:
        decoded = haproxy.decode(text, file=name)
        found = read_configuration(decoded, name, settings.escaping, settings.algorithms)
        if not found.listeners:  # HAProxy does not start with that either
            raise ConfigError("there is no listener in it", file=name)
    except Refused:
        raise
    except ConfigError as error:
        raise Refused([error]) from error
    return found


def addresses(load_balancer: LoadBalancer) -> tuple[str, ...]:
    """Those that its listeners listen on, each once."""
    return tuple(dict.fromkeys(bind.address for listener in load_balancer.listeners for bind in listener.binds))


def listener_type(listener: Listener) -> str:
    """As `GET /1.0/listeners` has it (Octavia contract section 1.5, route 4)."""
    if listener.tls is not None and listener.tls.crt_list is not None:
        return "TERMINATED_HTTPS"
    return "HTTP" if listener.mode is Mode.HTTP else "TCP"


def peer_name(amphora_id: str) -> str:
    """This amphora's name in the `peers` section that the controller writes (Octavia contract section 1.5, route 7).

    The base64 of the SHA-1 of its id, with `_` and `-` in the place of `+` and `/`, no padding, and no dash at the start.
    """
    digest = hashlib.sha1(amphora_id.encode(), usedforsecurity=False).digest()
    name = base64.b64encode(digest, b"_-").decode().rstrip("=")
    return "x" + name[1:] if name.startswith("-") else name
