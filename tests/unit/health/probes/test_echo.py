"""ICMP echo packets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from amphorad.health.probes.echo import V4_REPLY, V4_REQUEST, V6_REPLY, echo_request, parse_reply


def test_request_has_the_checksum_of_the_standard() -> None:
    """A packet as ping sends it: type 8, identifier 1, sequence 2, payload "abc"."""
    packet = echo_request(V4_REQUEST, 1, 2, b"abc")

    words = [int.from_bytes((packet + b"\0")[at : at + 2], "big") for at in range(0, len(packet) + 1, 2)]
    total = sum(words)
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(max_size=40))
def test_reply_gives_back_what_was_sent(identifier: int, sequence: int, payload: bytes) -> None:
    packet = echo_request(V4_REPLY, identifier, sequence, payload)

    assert parse_reply(packet, V4_REPLY, has_ip_header=False) == (identifier, sequence, payload)
    header = b"\x46" + bytes(23)  # with four bytes of IP options
    assert parse_reply(header + packet, V4_REPLY, has_ip_header=True) == (identifier, sequence, payload)


@given(st.binary(max_size=60), st.booleans())
def test_any_packet_is_survived(packet: bytes, has_ip_header: bool) -> None:
    parse_reply(packet, V6_REPLY, has_ip_header=has_ip_header)


def test_request_is_no_reply() -> None:
    assert parse_reply(echo_request(V4_REQUEST, 1, 2, b""), V4_REPLY, has_ip_header=False) is None
