"""Makes an interface of the namespace what its file says: link, addresses, routes, rules; and nothing else of it.

Coroutines for `Netlink.run`. Only what a file can hold is managed: permanent addresses, static routes, rules with a source. What
the kernel or keepalived put there stays. Source: Octavia contract section 6.5.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pyroute2 import NetlinkError

if TYPE_CHECKING:
    from pyroute2 import AsyncIPRoute

    from amphorad.network.interface_file import InterfaceFile, Route

__all__ = ["Link", "bring_up", "find_link", "links", "links_with_default_route"]

log = logging.getLogger(__name__)

MAIN_TABLE = 254
STATIC = 4  # rtnetlink(7) RTPROT_STATIC
KERNEL, KEEPALIVED = 2, 18  # whose rules are not ours
UP = 1  # IFF_UP
PERMANENT, TENTATIVE, FAILED_DETECTION = 0x80, 0x40, 0x08  # IFA_F_*
LINK_SCOPE = 253
ONLINK = 4  # RTNH_F_ONLINK
DETECTION_LIMIT_S = 30.0
RETRIES, PAUSE_S = 20, 0.2  # a route through an address that is not usable yet
NULL_ADDRESSES = {4: "0.0.0.0/0", 6: "::/0"}


@dataclass(frozen=True, slots=True)
class Link:
    """An interface; counters are bytes since it exists."""

    index: int
    name: str
    mac: str
    is_up: bool
    mtu: int
    tx: int
    rx: int


class _Key(NamedTuple):
    """What tells two routes of an interface apart."""

    dst: str
    gateway: str | None
    prefsrc: str | None
    table: int


async def links(netlink: AsyncIPRoute) -> list[Link]:
    """Every interface of the namespace."""
    found = []
    async for message in await netlink.get_links():
        counters = message.get("stats64") or {}
        found.append(
            Link(
                message["index"],
                message.get("ifname"),
                (message.get("address") or "").lower(),
                bool(message["flags"] & UP),
                message.get("mtu") or 0,
                counters.get("tx_bytes", 0),
                counters.get("rx_bytes", 0),
            )
        )
    return found


async def find_link(netlink: AsyncIPRoute, *, mac: str | None = None, name: str | None = None) -> Link | None:
    """The interface with that MAC address, or name."""
    for link in await links(netlink):
        if link.name == name or (mac is not None and link.mac == mac.lower() and link.name != "lo"):
            return link
    return None


async def links_with_default_route(netlink: AsyncIPRoute) -> set[int]:
    """Indexes of the interfaces that the way to everywhere leads through: the management network's."""
    found = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        async for route in await netlink.get_routes(family=family, table=MAIN_TABLE):
            if route["dst_len"] == 0 and route.get("oif") and route.get("table") == MAIN_TABLE:
                found.add(route.get("oif"))
    return found


async def bring_up(netlink: AsyncIPRoute, file: InterfaceFile, *, rules_from_elsewhere: bool = False) -> bool:
    """Makes the interface be as the file says; True when anything had to be changed.

    Args:
        rules_from_elsewhere: keep rules of sources that the file does not name (another VIP interface has them).

    Raises:
        LookupError: there is no such interface.
        NetlinkError, OSError: the kernel refuses an address or the link itself. A route that it refuses is only logged.
    """
    link = await find_link(netlink, name=file.name)
    if link is None:
        raise LookupError(f"no interface {file.name}")
    changed = await _link_up(netlink, link, file)
    changed |= await _addresses(netlink, link, file)
    changed |= await _routes(netlink, link, file)
    if file.if_type == "vip":
        changed |= await _rules(netlink, file, keep_others=rules_from_elsewhere)
    return changed


async def _link_up(netlink: AsyncIPRoute, link: Link, file: InterfaceFile) -> bool:
    changed = False
    if any(address.ipv6auto for address in file.addresses):
        for name, value in (("accept_ra", "2"), ("autoconf", "1")):
            try:
                Path(f"/proc/sys/net/ipv6/conf/{file.name}/{name}").write_text(value)  # noqa: ASYNC240 - at once
            except OSError as error:
                log.warning("no IPv6 autoconfiguration interface=%s reason=%s", file.name, error.strerror)
    if file.mtu is not None and file.mtu != link.mtu:
        await netlink.link("set", index=link.index, mtu=file.mtu)
        changed = True
    if not link.is_up:
        await netlink.link("set", index=link.index, state="up")
        changed = True
    return changed


async def _addresses(netlink: AsyncIPRoute, link: Link, file: InterfaceFile) -> bool:
    listed = {_plain(item.address, item.prefixlen) for item in file.addresses if item.address is not None}
    wanted = {
        _plain(item.address, item.prefixlen)
        for item in file.addresses
        if item.address is not None and item.octavia_owned is not False
    }
    present = {}
    async for message in await netlink.get_addr(index=link.index):
        if message["index"] != link.index:
            continue
        flags = message.get("flags") or message["flags"]
        is_automatic = message["family"] == socket.AF_INET6 and message["scope"] == LINK_SCOPE
        if flags & PERMANENT and not is_automatic:
            present[_plain(message.get("local") or message.get("address"), message["prefixlen"])] = flags
    changed = False
    for address, prefixlen in sorted(wanted - set(present)):
        try:
            await netlink.addr("add", index=link.index, address=address, prefixlen=prefixlen)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise OSError(error.code, f"address {address}/{prefixlen} on {file.name}: {error}") from error
        changed = True
    # Added first, deleted then: the interface is never without an address that it has before and after.
    for address, prefixlen in sorted(set(present) - listed):
        await netlink.addr("delete", index=link.index, address=address, prefixlen=prefixlen)
        changed = True
    if any(":" in address for address, _ in wanted):
        await _wait_detection(netlink, link, {address for address, _ in wanted})
    return changed


async def _wait_detection(netlink: AsyncIPRoute, link: Link, addresses: set[str]) -> None:
    """Until duplicate address detection is through (RFC 4862 section 5.4), or for DETECTION_LIMIT_S seconds."""
    deadline = asyncio.get_running_loop().time() + DETECTION_LIMIT_S
    while True:
        tentative = []
        async for message in await netlink.get_addr(family=socket.AF_INET6, index=link.index):
            if message["index"] != link.index or message.get("address") not in addresses:
                continue
            flags = message.get("flags") or message["flags"]
            if flags & FAILED_DETECTION:
                raise OSError(
                    errno.EADDRINUSE, f"address {message.get('address')}: another machine of the network has it"
                )
            if flags & TENTATIVE:
                tentative.append(message.get("address"))
        if not tentative or asyncio.get_running_loop().time() > deadline:
            return
        await asyncio.sleep(0.05)


async def _routes(netlink: AsyncIPRoute, link: Link, file: InterfaceFile) -> bool:
    wanted = {_route_key(route): route for route in file.routes}
    present: set[_Key] = set()
    for family, version in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
        async for message in await netlink.get_routes(family=family):
            if message.get("oif") != link.index or message["proto"] != STATIC:
                continue
            destination = message.get("dst")
            dst = f"{destination}/{message['dst_len']}" if destination else NULL_ADDRESSES[version]
            table = message.get("table") or message["table"]
            present.add(_Key(dst, message.get("gateway"), message.get("prefsrc"), table))
    changed = False
    # A route through a gateway comes after the one that leads to the gateway.
    for key in sorted(set(wanted) - present, key=lambda key: (key.gateway is not None, str(key))):
        changed |= await _add_route(netlink, link, wanted[key], key)
    for key in sorted(present - set(wanted), key=str):
        await _delete_route(netlink, link, key)
        changed = True
    return changed


def _route_key(route: Route) -> _Key:
    dst = str(ipaddress.ip_network(route.dst, strict=False))
    return _Key(dst, _normal(route.gateway), _normal(route.prefsrc), route.table or MAIN_TABLE)


def _arguments(link: Link, key: _Key) -> dict[str, Any]:
    arguments: dict[str, Any] = {"oif": link.index, "dst": key.dst, "table": key.table, "proto": STATIC}
    arguments["family"] = socket.AF_INET6 if ":" in key.dst else socket.AF_INET
    if key.gateway:
        arguments["gateway"] = key.gateway
    if key.prefsrc:
        arguments["prefsrc"] = key.prefsrc
    return arguments


async def _add_route(netlink: AsyncIPRoute, link: Link, route: Route, key: _Key) -> bool:
    arguments = _arguments(link, key)
    if route.scope == "link":
        arguments["scope"] = LINK_SCOPE
    if "onlink" in route.flags:
        arguments["flags"] = ONLINK
    for attempt in range(RETRIES):
        try:
            await netlink.route("add", **arguments)
        except NetlinkError as error:
            if error.code == errno.EEXIST:
                return False
            if error.code == errno.EINVAL and key.prefsrc and attempt + 1 < RETRIES:
                await asyncio.sleep(PAUSE_S)
                continue
            log.warning("route refused interface=%s route=%s reason=%s", link.name, key, error)
            return False
        else:
            return True
    return False


async def _delete_route(netlink: AsyncIPRoute, link: Link, key: _Key) -> None:
    try:
        await netlink.route("delete", **_arguments(link, key))
    except NetlinkError as error:
        if error.code != errno.ESRCH:
            log.warning("route stays interface=%s route=%s reason=%s", link.name, key, error)


async def _rules(netlink: AsyncIPRoute, file: InterfaceFile, *, keep_others: bool) -> bool:
    wanted = {(str(ipaddress.ip_address(rule.src)), rule.src_len, rule.table) for rule in file.rules}
    present = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        async for message in await netlink.get_rules(family=family):
            source = message.get("src")
            if source is None or message.get("protocol") in (KERNEL, KEEPALIVED):
                continue
            present.add((source, message["src_len"], message.get("table") or message["table"]))
    for source, length, table in sorted(wanted - present):
        await netlink.rule("add", **_rule(source, length, table))
    unwanted = set() if keep_others else present - wanted
    for source, length, table in sorted(unwanted):
        await netlink.rule("delete", **_rule(source, length, table))
    return bool(wanted - present or unwanted)


def _rule(source: str, length: int, table: int) -> dict[str, Any]:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    return {"src": source, "src_len": length, "table": table, "family": family, "action": 1, "protocol": STATIC}


def _normal(address: str | None) -> str | None:
    return str(ipaddress.ip_address(address)) if address else None


def _plain(address: str, prefixlen: int | None) -> tuple[str, int]:
    found = ipaddress.ip_address(address)
    return str(found), found.max_prefixlen if prefixlen is None else prefixlen
