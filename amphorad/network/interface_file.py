"""Interface files: what an interface of the namespace shall have, in the stock agent's JSON.

Source: Octavia contract section 6.4.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from amphorad.network.errors import InvalidAddress

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from amphorad.network.bodies import FixedIp, HostRoute, NetworkPlug, VipPlug

__all__ = [
    "LOOPBACK",
    "Address",
    "InterfaceFile",
    "Route",
    "Rule",
    "backend_file",
    "decode",
    "encode",
    "vip_addresses",
    "vip_file",
]

T = TypeVar("T")

VIP_TABLE = 1  # of routes that answers from a VIP take
SCRIPT = "/usr/local/bin/lvs-masquerade.sh"


class Address(msgspec.Struct, frozen=True, omit_defaults=True):
    """A static address, or a source of addresses. `octavia_owned` False: keepalived adds and deletes it."""

    address: str | None = None
    prefixlen: int | None = None
    octavia_owned: bool | None = None
    dhcp: bool = False
    ipv6auto: bool = False


class Route(msgspec.Struct, frozen=True, omit_defaults=True):
    dst: str
    gateway: str | None = None
    prefsrc: str | None = None
    scope: Literal["link"] | None = None
    table: int | None = None
    flags: tuple[str, ...] = ()


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    src: str
    src_len: int
    table: int


class Script(msgspec.Struct, frozen=True):
    command: str


class Scripts(msgspec.Struct, frozen=True):
    up: tuple[Script, ...] = ()
    down: tuple[Script, ...] = ()


class InterfaceFile(msgspec.Struct, frozen=True, kw_only=True):
    """Extra keys of a file that someone else wrote are skipped."""

    name: str
    if_type: Literal["lo", "vip", "backend"]
    mtu: int | None = None
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    scripts: Scripts = Scripts()
    is_sriov: bool = False


LOOPBACK = InterfaceFile(name="lo", if_type="lo", addresses=(Address("127.0.0.1", 8),))


def encode(file: InterfaceFile) -> bytes:
    """The bytes of the file."""
    content = msgspec.to_builtins(file)
    if file.mtu is None:
        del content["mtu"]
    return msgspec.json.encode(content)


def decode(content: bytes) -> InterfaceFile:
    """Raises: ValueError."""
    return msgspec.json.decode(content, type=InterfaceFile)


def vip_addresses(vip: str, body: VipPlug) -> tuple[str, ...]:
    """The VIP and the additional VIPs of a call."""
    return (vip, *(additional.ip_address for additional in body.additional_vips))


def vip_file(name: str, vip: str, body: VipPlug, *, standby: bool, fixed_ips: Sequence[FixedIp] = ()) -> InterfaceFile:
    """What the interface of the VIP shall have.

    Args:
        standby: ACTIVE_STANDBY, where keepalived owns the VIPs and what depends on them.
        fixed_ips: further addresses, when the VIP's network is a member network too.

    Raises:
        InvalidAddress: as the contract words it.
    """
    vips = [(vip, body.subnet_cidr, body.gateway, body.host_routes)]
    vips += [(item.ip_address, item.subnet_cidr, item.gateway, item.host_routes) for item in body.additional_vips]
    parsed = [_vip(address, cidr) for address, cidr, _, _ in vips]
    addresses: list[Address] = []
    routes: list[Route] = []
    rules: list[Rule] = []
    if body.vrrp_ip:
        addresses.append(Address(_own_address(body.vrrp_ip), parsed[0][1].prefixlen))
    else:
        versions = {address.version for address, _ in parsed}
        addresses += [Address(dhcp=True)] if 4 in versions else []
        addresses += [Address(ipv6auto=True)] if 6 in versions else []
    for (address, network), (_, _, gateway, host_routes) in zip(parsed, vips, strict=True):
        text, bits = str(address), address.max_prefixlen
        addresses.append(Address(text, bits, octavia_owned=not standby))
        routes += _default_routes(gateway, both=not standby)
        routes.append(Route(str(network), scope="link"))
        if not standby:
            routes.append(Route(str(network), prefsrc=text, scope="link", table=VIP_TABLE))
            rules.append(Rule(text, bits, VIP_TABLE))
        routes += _host_routes(host_routes)
        routes += _host_routes(host_routes, VIP_TABLE)
    families: set[int] = {address.version for address, _ in parsed}
    for fixed in fixed_ips:
        own = _fixed(fixed)
        families.add(own.version)
        addresses.append(Address(str(own.ip), own.network.prefixlen))
        routes += _default_routes(fixed.gateway, both=not standby)
        routes += _host_routes(fixed.host_routes)
    return InterfaceFile(
        name=name,
        if_type="vip",
        mtu=body.mtu,
        addresses=_once(addresses),
        routes=_once(routes),
        rules=_once(rules),
        scripts=_scripts(name, families, body.is_sriov),
        is_sriov=body.is_sriov,
    )


def backend_file(name: str, body: NetworkPlug) -> InterfaceFile:
    """What the interface of a member network shall have: its addresses and host routes, and no default route.

    Raises:
        InvalidAddress: as the contract words it.
    """
    addresses: list[Address] = []
    routes: list[Route] = []
    families: set[int] = set()
    for fixed in body.fixed_ips or ():
        own = _fixed(fixed)
        families.add(own.version)
        addresses.append(Address(str(own.ip), own.network.prefixlen))
        routes += _host_routes(fixed.host_routes)
    if not body.fixed_ips:
        families = {4, 6}
        addresses = [Address(dhcp=True, ipv6auto=True)]
    return InterfaceFile(
        name=name,
        if_type="backend",
        mtu=body.mtu,
        addresses=_once(addresses),
        routes=_once(routes),
        scripts=_scripts(name, families, bool(body.is_sriov)),
        is_sriov=bool(body.is_sriov),
    )


Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _vip(address: str, cidr: str) -> tuple[IpAddress, Network]:
    try:
        found, network = ipaddress.ip_address(address), ipaddress.ip_network(cidr, strict=False)
        if found.version != network.version:
            raise ValueError(f"{address} and {cidr} are of different families")
        return found, ipaddress.ip_network(f"{found}/{network.prefixlen}", strict=False)
    except ValueError as error:
        raise InvalidAddress(f"Invalid VIP: {error}") from error


def _own_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise InvalidAddress(f"Invalid VRRP Address: {error}") from error


def _fixed(fixed: FixedIp) -> Interface:
    try:
        prefixlen = ipaddress.ip_network(fixed.subnet_cidr, strict=False).prefixlen
        return ipaddress.ip_interface(f"{ipaddress.ip_address(fixed.ip_address)}/{prefixlen}")
    except ValueError as error:
        raise InvalidAddress("Invalid network port") from error


def _default_routes(gateway: str | None, *, both: bool) -> list[Route]:
    if not gateway:
        return []
    try:
        via = ipaddress.ip_address(gateway)
    except ValueError as error:
        raise InvalidAddress(f"Invalid VIP: {error}") from error
    everything = "::/0" if via.version == 6 else "0.0.0.0/0"
    main = Route(everything, str(via), flags=("onlink",))
    return [main, Route(everything, str(via), flags=("onlink",), table=VIP_TABLE)] if both else [main]


def _host_routes(routes: Iterable[HostRoute], table: int | None = None) -> list[Route]:
    try:
        return [
            Route(
                str(ipaddress.ip_network(route.destination, strict=False)),
                str(ipaddress.ip_address(route.nexthop)),
                flags=("onlink",),
                table=table,
            )
            for route in routes
        ]
    except ValueError as error:
        raise InvalidAddress("Invalid network port") from error


def _scripts(name: str, families: set[int], is_sriov: bool) -> Scripts:
    """The stock agent's entries, so that it can take over the file; ours are `firewall`'s."""

    def of(action: str) -> tuple[Script, ...]:
        suffix = " sriov" if is_sriov else ""
        return tuple(
            Script(f"{SCRIPT} {action} {'ipv6' if family == 6 else 'ipv4'} {name}{suffix}")
            for family in sorted(families)
        )

    return Scripts(of("add"), of("delete"))


def _once(items: list[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(items))
