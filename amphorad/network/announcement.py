"""Telling the neighbours where an address is now: gratuitous ARP for IPv4, unsolicited neighbour advertisement for IPv6.

Source: Octavia contract section 6.5; RFC 826, RFC 5227 section 3, RFC 4861 section 4.4.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["frame", "send"]

ETH_ARP = 0x0806
ETH_IPV6 = 0x86DD
BROADCAST = b"\xff" * 6
ALL_NODES = ipaddress.IPv6Address("ff02::1").packed
ALL_NODES_MAC = b"\x33\x33\x00\x00\x00\x01"
NEIGHBOUR_ADVERTISEMENT = 136
ROUTER_AND_OVERRIDE = 0xA0000000
TARGET_LINK_LAYER_ADDRESS = 2
HOP_LIMIT = 255


def frame(address: str, mac: str) -> bytes:
    """The Ethernet frame that says that `address` is at `mac`."""
    found = ipaddress.ip_address(address)
    own = bytes.fromhex(mac.replace(":", ""))
    return _arp(found.packed, own) if found.version == 4 else _advertisement(found.packed, own)


def send(interface: str, frames: Iterable[bytes]) -> None:
    """Sends them on an interface of the calling thread's namespace.

    Raises:
        OSError: it is gone or down, or the right is missing.
    """
    with contextlib.closing(socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as packets:
        packets.bind((interface, 0))
        for content in frames:
            packets.send(content)


def _arp(address: bytes, mac: bytes) -> bytes:
    """A broadcast request for the own address: sender and target are the same."""
    header = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    return BROADCAST + mac + struct.pack("!H", ETH_ARP) + header + mac + address + BROADCAST + address


def _advertisement(address: bytes, mac: bytes) -> bytes:
    option = struct.pack("!BB", TARGET_LINK_LAYER_ADDRESS, 1) + mac
    body = struct.pack("!BBHI", NEIGHBOUR_ADVERTISEMENT, 0, 0, ROUTER_AND_OVERRIDE) + address + option
    pseudo = address + ALL_NODES + struct.pack("!II", len(body), socket.IPPROTO_ICMPV6)
    body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), socket.IPPROTO_ICMPV6, HOP_LIMIT) + address + ALL_NODES
    return ALL_NODES_MAC + mac + struct.pack("!H", ETH_IPV6) + header + body


def _checksum(content: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(content) // 2}H", content))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
