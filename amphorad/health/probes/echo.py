"""ICMP echo packets (RFC 792, RFC 4443 section 4). Pure."""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["V4_REPLY", "V4_REQUEST", "V6_REPLY", "V6_REQUEST", "echo_request", "parse_reply"]

V4_REQUEST: Final = 8
V4_REPLY: Final = 0
V6_REQUEST: Final = 128
V6_REPLY: Final = 129

_HEAD: Final = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence


def _checksum(packet: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    if len(packet) % 2:
        packet += b"\0"
    total: int = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def echo_request(kind: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    """A request. The kernel replaces the checksum of a v6 packet, and the identifier on a datagram socket."""
    head = _HEAD.pack(kind, 0, 0, identifier, sequence)
    return _HEAD.pack(kind, 0, _checksum(head + payload), identifier, sequence) + payload


def parse_reply(packet: bytes, kind: int, *, has_ip_header: bool) -> tuple[int, int, bytes] | None:
    """Identifier, sequence and payload of a reply; None for anything else.

    Args:
        kind: V4_REPLY or V6_REPLY.
        has_ip_header: as raw v4 sockets deliver packets (raw(7)).
    """
    if has_ip_header:
        if not packet:
            return None
        packet = packet[(packet[0] & 0x0F) * 4 :]
    if len(packet) < _HEAD.size:
        return None
    found, code, _checksum_found, identifier, sequence = _HEAD.unpack_from(packet)
    if (found, code) != (kind, 0):
        return None
    return identifier, sequence, packet[_HEAD.size :]
