"""PROXY headers: an independent decoder reads them as they were meant, and the bytes of the specification's examples."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxyprotocol.detect import ProxyProtocolDetect
from proxyprotocol.result import ProxyResultIPv4, ProxyResultIPv6, is_local, is_unknown

from amphorad.proxy.wire.proxy_protocol import HEADER_LIMIT, header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PORTS = st.integers(0, 65535)
ADDRESSES = st.ip_addresses()
VERSIONS = st.sampled_from((1, 2))


def packed(address: str) -> bytes:
    return ip_address(address).packed


def wide(address: IPv4Address | IPv6Address) -> IPv6Address:
    return address if isinstance(address, IPv6Address) else IPv6Address(bytes(10) + b"\xff\xff" + address.packed)


def test_header_v1_of_ipv4() -> None:
    text = header(1, (packed("192.168.0.1"), 56324), (packed("192.168.0.11"), 443))

    assert text == b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"


def test_header_v1_of_ipv6() -> None:
    text = header(1, (packed("2001:db8::1"), 1), (packed("fd00::a:0:0:2"), 65535))

    assert text == b"PROXY TCP6 2001:db8::1 fd00::a:0:0:2 1 65535\r\n"


def test_header_v2_of_ipv4() -> None:
    expected = SIGNATURE + b"\x21\x11\x00\x0c" + b"\x0a\x00\x00\x01\x0a\x00\x00\x02\x30\x39\x00\x50"

    assert header(2, (packed("10.0.0.1"), 12345), (packed("10.0.0.2"), 80)) == expected


def test_header_v2_of_ipv6() -> None:
    ends = packed("fd00::1") + packed("fd00::2")

    assert header(2, (packed("fd00::1"), 258), (packed("fd00::2"), 772)) == (
        SIGNATURE + b"\x21\x21\x00\x24" + ends + b"\x01\x02\x03\x04"
    )


def test_header_v1_of_two_families_maps_the_ipv4_one() -> None:
    """As HAProxy 2.6 does it: seen from `send-proxy` after `set-src` to an IPv6 address."""
    text = header(1, (packed("2001:db8::1"), 49448), (packed("127.0.0.1"), 33281))

    assert text == b"PROXY TCP6 2001:db8::1 ::ffff:127.0.0.1 49448 33281\r\n"


def test_header_v1_of_a_mapped_address_keeps_it() -> None:
    """As HAProxy 2.6 on `bind :::80 v4v6`."""
    mapped = packed("::ffff:127.0.0.1")

    assert header(1, (mapped, 5), (mapped, 6)) == b"PROXY TCP6 ::ffff:127.0.0.1 ::ffff:127.0.0.1 5 6\r\n"


@pytest.mark.parametrize("known", [(True, False), (False, True), (False, False)])
def test_header_of_an_unknown_end_says_so(known: tuple[bool, bool]) -> None:
    ends = [(packed("10.0.0.1"), 1) if one else None for one in known]

    assert is_unknown(ProxyProtocolDetect().unpack(header(1, *ends)))
    assert is_local(ProxyProtocolDetect().unpack(header(2, *ends)))


@given(version=VERSIONS, source=ADDRESSES, source_port=PORTS, destination=ADDRESSES, destination_port=PORTS)
def test_header_is_read_as_it_was_meant(
    version: int,
    source: IPv4Address | IPv6Address,
    source_port: int,
    destination: IPv4Address | IPv6Address,
    destination_port: int,
) -> None:
    text = header(version, (source.packed, source_port), (destination.packed, destination_port))
    result = ProxyProtocolDetect().unpack(text)

    assert len(text) < HEADER_LIMIT
    assert isinstance(result, ProxyResultIPv4 if source.version == destination.version == 4 else ProxyResultIPv6)
    if isinstance(result, ProxyResultIPv4):
        assert (result.source, result.dest) == ((source, source_port), (destination, destination_port))
    else:
        assert (result.source, result.dest) == ((wide(source), source_port), (wide(destination), destination_port))
    assert not len(result.tlv)


@pytest.mark.parametrize("version", [0, 4])
def test_header_of_no_such_version_is_refused(version: int) -> None:
    with pytest.raises(ValueError, match="version"):
        header(version, None, None)


def test_header_of_a_strange_address_is_refused() -> None:
    with pytest.raises(ValueError, match="4 or 16"):
        header(1, (b"abc", 1), None)


def tlvs(text: bytes) -> list[tuple[int, bytes]]:
    found = []
    while text:
        length = int.from_bytes(text[1:3])
        found.append((text[0], text[3 : 3 + length]))
        text = text[3 + length :]
    return found


@given(
    version=st.sampled_from([2, 3]),
    alpn=st.binary(max_size=300),
    client=st.integers(0, 7),
    verify=st.integers(0, 2**32 - 1),
    tls_version=st.none() | st.sampled_from([b"TLSv1.2", b"TLSv1.3", b"x" * 17]),
    common_name=st.binary(max_size=1100),
    known=st.booleans(),
)
def test_header_tells_of_the_clients_tls(
    version: int,
    alpn: bytes,
    client: int,
    verify: int,
    tls_version: bytes | None,
    common_name: bytes,
    known: bool,
) -> None:
    """Values that are too long are left out; version 2 tells only of the agreed protocol."""
    end = (packed("10.0.0.1"), 1) if known else None
    facts = {"alpn": alpn, "client": client, "verify": verify, "tls_version": tls_version, "common_name": common_name}
    text = header(version, end, end, **facts)  # type: ignore[arg-type]

    assert len(text) <= HEADER_LIMIT
    assert int.from_bytes(text[14:16]) == len(text) - 16
    expected = [(1, alpn)] if 0 < len(alpn) <= 255 else []
    found = tlvs(text[28 if known else 16 :])
    if version == 3:
        kind, value = found.pop()
        inner = [(0x21, tls_version)] if tls_version is not None and len(tls_version) <= 16 else []
        inner += [(0x22, common_name)] if 0 < len(common_name) <= 1024 else []
        assert kind == 0x20
        assert value[:5] == bytes([client]) + verify.to_bytes(4)
        assert tlvs(value[5:]) == inner
    assert found == expected
