"""The bytes of announcements."""

from __future__ import annotations

import ipaddress
import struct

from amphorad.network.announcement import frame

MAC = "02:00:00:00:00:0a"


def test_gratuitous_arp_asks_everyone_for_the_own_address() -> None:
    assert frame("203.0.113.7", MAC).hex() == (
        "ffffffffffff" "02000000000a" "0806" "0001" "0800" "06" "04" "0001"
        "02000000000a" "cb007107" "ffffffffffff" "cb007107"
    )  # fmt: skip


def test_neighbour_advertisement_is_one_that_receivers_take() -> None:
    content = frame("2001:db8::7", MAC)
    address, all_nodes = (ipaddress.IPv6Address(text).packed for text in ("2001:db8::7", "ff02::1"))
    assert content[:14].hex() == "33330000000102000000000a86dd"
    ipv6, body = content[14:54], content[54:]
    assert ipv6 == struct.pack("!IHBB", 0x60000000, len(body), 58, 255) + address + all_nodes
    assert body[:2] == bytes((136, 0))
    assert body[4:] == bytes.fromhex("a0000000") + address + bytes.fromhex("020102000000000a")
    pseudo = address + all_nodes + struct.pack("!II", len(body), 58)
    words = struct.unpack(f"!{len(pseudo + body) // 2}H", pseudo + body)
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF  # RFC 1071: right, checksum included
