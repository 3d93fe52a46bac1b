"""The VRRP and LVS files of the real controller code, from simple arguments."""

from __future__ import annotations

import functools
import importlib
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.support import octavia_render

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["keepalived_modules", "render_lvs", "render_vrrp", "subnet"]


@functools.cache
def keepalived_modules() -> SimpleNamespace:
    """The renderers. Importing them warns about libraries of theirs, which must not fail our tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SimpleNamespace(
            config=importlib.import_module("octavia.common.config"),
            data_models=importlib.import_module("octavia.common.data_models"),
            vrrp=importlib.import_module("octavia.amphorae.drivers.keepalived.jinja.jinja_cfg"),
            lvs=importlib.import_module("octavia.common.jinja.lvs.jinja_cfg"),
        )


def subnet(cidr: str, gateway: str | None = None, routes: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """A VIP's subnet with its host routes, pairs of destination and next hop."""
    hosts = [{"destination": destination, "nexthop": nexthop} for destination, nexthop in routes]
    return {"cidr": cidr, "gateway_ip": gateway, "host_routes": hosts}


def render_vrrp(
    *,
    own: str,
    peers: Sequence[str],
    vips: Sequence[tuple[str, dict[str, Any]]],
    base_path: str = "/var/lib/octavia",
    interface: str | None = "eth1",
    name: str = "7f3a0c7e5b1c4d52a3f0c8d1e2f3a4b5",
    router_id: int = 1,
    priority: int = 100,
    auth_type: str = "PASS",
    auth_pass: str = "1f0e3da",
    advert_int: int = 1,
    options: dict[str, int] | None = None,
) -> str:
    """octavia-keepalived.conf of one amphora.

    Args:
        vips: addresses with their `subnet`; the first is the primary one.
        options: of group `keepalived_vrrp`.
    """
    modules = keepalived_modules()
    models = modules.data_models
    amphora = models.Amphora(
        vrrp_ip=own, vrrp_interface=interface, vrrp_id=router_id, vrrp_priority=priority, status="ALLOCATED"
    )
    others = [models.Amphora(vrrp_ip=peer, status="ALLOCATED") for peer in peers]
    load_balancer = models.LoadBalancer(
        vip=models.Vip(ip_address=vips[0][0]),
        amphorae=[amphora, *others, models.Amphora(vrrp_ip="192.0.2.250", status="DELETED")],
        vrrp_group=models.VRRPGroup(
            vrrp_group_name=name, vrrp_auth_type=auth_type, vrrp_auth_pass=auth_pass, advert_int=advert_int
        ),
    )
    network = {
        "vip_subnet": vips[0][1],
        "additional_vip_data": [{"ip_address": address, "subnet": found} for address, found in vips[1:]],
    }
    conf = modules.config.cfg.CONF
    overrides = [("haproxy_amphora", "base_path", base_path)]
    overrides += [("keepalived_vrrp", key, value) for key, value in (options or {}).items()]
    for group, key, value in overrides:
        conf.set_override(key, value, group=group)
    try:
        templater = modules.vrrp.KeepalivedJinjaTemplater()
        text: str = templater.build_keepalived_config(load_balancer, amphora, network)
    finally:
        for group, key, _value in overrides:
            conf.clear_override(key, group=group)
    return text


def render_lvs(
    listener: Any,
    *,
    lb_id: str | None = None,
    vip: str = "10.0.0.10",
    additional_vips: Sequence[str] = (),
    enabled: bool = True,
) -> str:
    """octavia-keepalivedlvs-<listener_id>.conf of one listener of `octavia_render.make_listener`."""
    modules = keepalived_modules()
    models = modules.data_models
    listener.load_balancer = models.LoadBalancer(
        id=lb_id or octavia_render.make_id("load-balancer", 1),
        enabled=enabled,
        vip=models.Vip(ip_address=vip),
        additional_vips=[models.AdditionalVip(ip_address=address) for address in additional_vips],
        listeners=[listener],
    )
    text: str = modules.lvs.LvsJinjaTemplater(base_amp_path="/var/lib/octavia").build_config(listener)
    return text
