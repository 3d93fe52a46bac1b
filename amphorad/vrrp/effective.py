"""The file that keepalived really reads, made of the controller's.

Everything that a peer can notice is as the controller wrote it: version, router id, priority, interval, password, addresses. A stock amphora with
its own file pairs with this one. Added is what stays inside this node, and each line of it makes a failover shorter:

    track_file        amphorad writes 1 when the data plane is gone for good; keepalived reads it by inotify, sends priority 0 and lets
                      the VIPs go, within milliseconds. The stock check takes two runs, five seconds apart. At 0 the node is good
                      again at once, and `nopreempt` keeps it from taking the VIPs back.
    check script      every second, and one answer decides. It has to answer alone only while the agent is dead (see `check_script`);
                      it looks at /proc and takes milliseconds, so one failure is a fact and no mishap. keepalived's peer does not know how
                      often this node asks itself.
    vrrp_notify_fifo  keepalived tells its state, where the stock agent does not know it.
    vrrp_priority     nice value of the process that sends the advertisements: it competes with engine threads for the CPU.

A text from the model, not an edit of the controller's text: nothing that the dialect did not read can get into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amphorad.dialects.keepalived.reading import version

if TYPE_CHECKING:
    from amphorad.dialects.keepalived.vrrp import VirtualRoute, VrrpConfiguration
    from amphorad.vrrp.paths import Paths

__all__ = ["OWNER_PRIORITY", "render"]

OWNER_PRIORITY: Final = 255
"""With it a starting keepalived becomes MASTER at once, as the owner of the address would (RFC 5798 section 6.4.1)."""

_CHECK_INTERVAL_S: Final = 1
_CHECK_TIMEOUT_S: Final = (
    3  # a machine that needs longer to start a shell cannot be judged by it, and one run too many harms less
)


def render(configuration: VrrpConfiguration, paths: Paths, *, keeps_mastership: bool = False) -> str:
    """The text for keepalived.

    Args:
        keeps_mastership: for a keepalived that replaces one which died as MASTER. It starts with the priority of an owner,
            because any other makes it wait for the time after which the peer takes over; the usual text, loaded right after
            that, brings the priority back and leaves the state.
    """
    found = configuration
    lines = [
        "# Made by amphorad of the file that the controller uploaded. Changes are lost.",
        "global_defs {",
        "    script_user root",
        f"    vrrp_notify_fifo {paths.events}",
        "    vrrp_priority -20",
        "}",
        "track_file data_plane {",
        f"    file {paths.fault}",
        "    weight 0",
        "}",
        "vrrp_script check_script {",
        f"    script {found.check.path}",
        f"    interval {_CHECK_INTERVAL_S}",
        f"    timeout {_CHECK_TIMEOUT_S}",
        "    fall 1",
        "    rise 1",
        "}",
        f"vrrp_instance {found.name} {{",
        f"    interface {found.interface}",
        f"    virtual_router_id {found.virtual_router_id}",
        f"    priority {OWNER_PRIORITY if keeps_mastership else found.priority}",
        *([] if keeps_mastership else ["    nopreempt"]),
        "    accept",
        f"    garp_master_refresh {found.garp_refresh_s}",
        f"    garp_master_refresh_repeat {found.garp_refresh_repeat}",
        f"    advert_int {found.advert_interval_s}",
        "    authentication {",
        f"        auth_type {found.auth_type}",
        f"        auth_pass {found.auth_pass}",
        "    }",
        f"    unicast_src_ip {found.source}",
        *_block("unicast_peer", found.peers),
        *_block("virtual_ipaddress", found.vips),
        *_block("virtual_ipaddress_excluded", found.excluded_vips),
        *_block("virtual_routes", [_route(route, found.interface) for route in found.routes]),
        *_block("virtual_rules", [_rule(vip) for vip in found.rule_sources]),
        *_block("track_script", ["check_script"]),
        *_block("track_file", ["data_plane"]),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _block(name: str, lines: list[str] | tuple[str, ...]) -> list[str]:
    return [f"    {name} {{", *(f"        {line}" for line in lines), "    }"]


def _route(route: VirtualRoute, interface: str) -> str:
    if route.source is not None:
        return f"{route.destination} dev {interface} src {route.source} scope link table 1"
    if route.destination == "default":
        return f"default via {route.gateway} dev {interface} onlink table 1"
    return f"{route.destination} dev {interface} gateway {route.gateway} onlink table 1"


def _rule(vip: str) -> str:
    return f"from {vip}/{32 if version(vip) == 4 else 128} table 1 priority 100"
