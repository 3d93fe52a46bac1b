"""What an operator may choose of a data plane beyond the controller's configuration; fixed for its life."""

from __future__ import annotations

from dataclasses import dataclass

from amphorad.extras import Extras
from amphorad.model import ReusePolicy

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator may choose beyond the controller's configuration.

    Args:
        reuse: what `http-reuse safe` of the file is carried out as.
        minimum_body_rate: bytes per second that a request body must reach on average once `timeout client` has passed;
            0 for no minimum.
        idle_lifetime_s: how long an unused member connection is kept.
        linger_s: how long a client may take to close after a last answer.
        splice_after: long reads in a row after which a TCP direction is spliced; 255 for never.
        log_socket: traffic log socket that replaces the one in the file; "" for no traffic log.
        extras: what goes beyond the controller's configuration.
    """

    reuse: ReusePolicy = ReusePolicy.RETRY
    minimum_body_rate: int = 256
    idle_lifetime_s: float = 10.0
    linger_s: float = 2.0
    splice_after: int = 4
    log_socket: str | None = None
    extras: Extras = Extras()  # noqa: RUF009, frozen
