"""What an operator sees of an agent: `amphorad status` and `amphorad top` on its admin socket.

The load balancers in it are those of `amphorad.status`; here is what they have in common, and what is wrong.
"""

from __future__ import annotations

import msgspec

from amphorad.status import Status, duration, render

__all__ = ["AgentStatus", "LvsStatus", "render_agent"]


class LvsStatus(msgspec.Struct, frozen=True):
    """A UDP or SCTP listener. `is_carried` is False as long as no data plane serves them."""

    id: str
    is_started: bool
    is_disabled: bool
    is_carried: bool


class AgentStatus(msgspec.Struct, frozen=True, tag="agent", tag_field="kind"):
    """One agent.

    Args:
        topology: SINGLE or ACTIVE_STANDBY.
        is_healthy: what the VRRP check answers.
        vrrp: MASTER, BACKUP, FAULT or a word for why there is none; `vrrp_since_s` is how long ago that began, if known.
        not_running: load balancers that should serve and cannot; the agent tries again.
        problems: of the agent itself, in the operator's words; empty when there are none.
    """

    version: str
    amphora_id: str
    topology: str
    uptime_s: float
    is_healthy: bool
    vrrp: str
    vrrp_since_s: float | None
    load_balancers: tuple[Status, ...]
    not_running: tuple[str, ...]
    lvs_listeners: tuple[LvsStatus, ...]
    problems: tuple[str, ...]


def render_agent(status: AgentStatus) -> str:
    """The text of `amphorad status`."""
    since = "" if status.vrrp_since_s is None else f" for {duration(status.vrrp_since_s)}"
    lines = [
        f"amphora {status.amphora_id or '(no id)'}  {status.topology}  vrrp {status.vrrp}{since}"
        f"  {'healthy' if status.is_healthy else 'not healthy'}"
        f"  up {duration(status.uptime_s)}  amphorad {status.version}",
    ]
    lines += [f"problem: {text}" for text in status.problems]
    lines += [f"load balancer {lb_id}  should serve and does not run; tried again" for lb_id in status.not_running]
    lines += [f"listener {found.id}  UDP or SCTP, {_lvs_text(found)}" for found in status.lvs_listeners]
    for load_balancer in status.load_balancers:
        lines += ["", render(load_balancer)]
    return "\n".join(lines)


def _lvs_text(found: LvsStatus) -> str:
    if found.is_disabled:
        return "disabled"
    if not found.is_started:
        return "stopped"
    return "serves" if found.is_carried else "NOT CARRIED: UDP and SCTP are not built yet"
