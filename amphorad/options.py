"""Start-up settings of one load balancer, and what becomes of them: the model of a text, the command line of a data plane."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from amphorad.admin import Refused
from amphorad.dialects import haproxy
from amphorad.extras import Extras
from amphorad.model import ReusePolicy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from amphorad.model import LoadBalancer, Pool

__all__ = ["Options", "data_plane_arguments", "read_configuration"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Start-up settings; they do not change while the process lives.

    Args:
        file: the configuration, read at the start and on `reread`, and its name in messages; None when whoever starts the
            `Supervisor` has read it already.
        admin_socket: where operators ask; None for a supervisor that somebody else answers for.
        threads: engine threads; None takes `nbthread` of the file, else the number of usable CPUs; at most MAX_THREADS.
        state_dir: a directory of this process alone, made with mode 0700 if it is not there.
        grace_s: how long open sessions may go on after a stop.
        algorithms: pairs of an algorithm of the file (None: any) and the one to balance with instead.
        minimum_body_rate: bytes per second that a request body must reach on average; 0 for no minimum.
        traffic_log: datagram socket that replaces the one in the file; "" for no traffic log.
        free_bind: also listen on addresses that this machine does not have at the moment.
        local_peer: this machine's name among the peers of a configuration; None: the one whose address it has.
        namespace: file of the network namespace of listeners, members and health checks; None for this process's own. Needs root.
        user: whom the data plane runs as (see `amphorad.privileges`); None for this process's user. Needs root.
        survive: the data plane goes on serving when this process dies or leaves, and the next `Supervisor` with this
            `state_dir` adopts it.
        extras: what goes beyond the controller's configuration.
    """

    file: Path | None = None
    state_dir: Path
    admin_socket: Path | None = None
    threads: int | None = None
    grace_s: float = 10.0
    reuse: ReusePolicy = ReusePolicy.RETRY
    escaping: haproxy.Escaping = haproxy.Escaping.INTENT
    algorithms: tuple[tuple[str | None, str], ...] = ()
    minimum_body_rate: int | None = None
    traffic_log: str | None = None
    free_bind: bool = False
    local_peer: str | None = None
    namespace: Path | None = None
    user: str | None = None
    survive: bool = False
    extras: Extras = Extras()  # noqa: RUF009, frozen


def read_configuration(
    text: str,
    file: str,
    escaping: haproxy.Escaping,
    algorithms: Sequence[tuple[str | None, str]] = (),
) -> LoadBalancer:
    """The model of a text, balanced with the operator's choice of algorithms (see `Options`).

    Raises:
        Refused: with every error of the text.
    """
    load_balancer, errors = haproxy.check(text, file=file, escaping=escaping)
    if errors or load_balancer is None:
        raise Refused(errors)
    return _with_algorithms(load_balancer, dict(algorithms)) if algorithms else load_balancer


def _with_algorithms(load_balancer: LoadBalancer, chosen: dict[str | None, str]) -> LoadBalancer:
    def changed(pool: Pool) -> Pool:
        return replace(pool, algorithm=chosen.get(str(pool.algorithm), chosen.get(None, pool.algorithm)))

    listeners = tuple(
        replace(listener, pools=tuple(changed(pool) for pool in listener.pools)) for listener in load_balancer.listeners
    )
    return replace(load_balancer, listeners=listeners)


def data_plane_arguments(options: Options, threads: int) -> list[str]:
    """Options of `amphorad.proxy.process`, apart from descriptors. Two data planes with the same ones behave the same."""
    arguments = [f"--threads={threads}", f"--http-reuse={options.reuse}", f"--grace={options.grace_s}"]
    choices = {
        "--minimum-body-rate": options.minimum_body_rate,
        "--traffic-log": options.traffic_log,
        "--local-peer": options.local_peer,
        "--namespace": options.namespace,
        "--user": options.user,
        "--extras": options.extras.encode() if options.extras != Extras() else None,
    }
    return arguments + [f"{name}={value}" for name, value in choices.items() if value is not None]
