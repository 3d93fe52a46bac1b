"""Bodies of the plugging calls, as the controller sends them; unknown keys are skipped, except in rules.

Types are checked here, addresses are not. Source: Octavia contract section 1.5, routes 6, 16 and 17.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = ["AdditionalVip", "FixedIp", "HostRoute", "NetworkPlug", "Rule", "VipNetwork", "VipPlug"]


class HostRoute(msgspec.Struct, frozen=True):
    destination: str
    nexthop: str


class AdditionalVip(msgspec.Struct, frozen=True):
    subnet_cidr: str
    ip_address: str
    gateway: str | None
    host_routes: tuple[HostRoute, ...]


class VipPlug(msgspec.Struct, frozen=True):
    """`vrrp_ip` is the amphora's own address on the VIP port."""

    subnet_cidr: str
    gateway: str | None
    mac_address: str
    mtu: int | None = None
    vrrp_ip: str | None = None
    host_routes: tuple[HostRoute, ...] = ()
    additional_vips: tuple[AdditionalVip, ...] = ()
    is_sriov: bool = False


class VipNetwork(VipPlug, frozen=True, kw_only=True):
    """In a network plug: the member network is that of the VIP."""

    vip: str


class FixedIp(msgspec.Struct, frozen=True):
    ip_address: str
    subnet_cidr: str
    host_routes: tuple[HostRoute, ...] = ()
    gateway: str | None = None


class NetworkPlug(msgspec.Struct, frozen=True):
    """Without `fixed_ips` the addresses come by DHCP and router advertisements."""

    mac_address: str
    fixed_ips: tuple[FixedIp, ...] | None = None
    mtu: int | None = None
    vip_net_info: VipNetwork | None = None
    is_sriov: bool | None = None


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One allowed kind of packets; a null `cidr` is any source, `vrrp` comes with port 112."""

    protocol: Literal["TCP", "UDP", "SCTP", "vrrp"]
    cidr: str | None
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
