"""What the agent tells others of the objects it has, as plain values: for heartbeats, for `GET listeners`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amphorad.board import Board
    from amphorad.model import LoadBalancer

__all__ = ["HeartbeatSource", "ListenerEntry", "LvsSource"]


@dataclass(frozen=True, slots=True)
class HeartbeatSource:
    """A started load balancer, with the configuration that is in force.

    Args:
        board: its counters and states; None while there is no data plane to have any.
        is_alive: its data plane serves (or another one takes over at this moment).
    """

    lb_id: str
    load_balancer: LoadBalancer
    board: Board | None
    is_alive: bool


@dataclass(frozen=True, slots=True)
class LvsSource:
    """A UDP or SCTP listener that is enabled and started.

    Nothing carries its traffic, so it is not `OPEN`. It must be in the heartbeat all the same: the health manager counts listeners,
    and replaces the amphora again and again while one is missing (Octavia contract section 3.4). `status` is a word that the health
    manager counts, logs, and takes for no state: the listener's operating status stays what it was before, OFFLINE.
    """

    listener_id: str
    status: str = "DOWN"


@dataclass(frozen=True, slots=True)
class ListenerEntry:
    """One element of `GET /1.0/listeners`.

    Args:
        status: ACTIVE, OFFLINE or ERROR.
        type: HTTP, TCP, TERMINATED_HTTPS or UDP.
    """

    status: str
    uuid: str
    type: str
