"""The bytes of the peers protocol, against captured ones and against themselves."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.proxy.peers import wire
from amphorad.proxy.peers.wire import Definition, Dictionary, PeerError, Update
from tests.support import octavia_render as render


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (0, "00"),
        (239, "ef"),
        (240, "f000"),
        (2287, "ff7f"),
        (2288, "f08000"),
        (264431, "ffff7f"),
        (264432, "f0808000"),
        (33818864, "f080808000"),
        (0x80001, "f1f1fe00"),
    ],
)
def test_integer_has_the_documented_bytes(value: int, data: str) -> None:
    """HAProxy, doc/peers-v2.0.txt, encoded integers."""
    assert wire.encode_integer(value).hex() == data
    assert wire.decode_integer(bytes.fromhex(data), 0) == (value, len(data) // 2)


@given(st.integers(0, (1 << 64) - 1), st.binary(max_size=3))
def test_integer_comes_back_and_says_where_it_ends(value: int, after: bytes) -> None:
    data = wire.encode_integer(value)

    assert wire.decode_integer(data + after, 0) == (value, len(data))
    for length in range(len(data)):
        with pytest.raises(PeerError):
            wire.decode_integer(data[:length], 0)


@pytest.mark.timeout(120)  # the controller takes its time to import
def test_peer_name_is_what_the_controller_renders() -> None:
    """Octavia contract section 1.5, route 7."""
    render.require_octavia()
    pool = render.make_pool("TCP", persistence="SOURCE_IP")
    text = render.render_load_balancer([render.make_listener("TCP", 80, default_pool=pool)], topology="ACTIVE_STANDBY")
    ids = [render.make_id("amphora", number) for number in (0, 1)]

    assert {wire.peer_name(each) for each in ids} == set(re.findall(r"peer (\S+) ", text))
    names = {wire.peer_name(str(number)) for number in range(300)}
    assert not any(name.startswith("-") or "=" in name or "+" in name or "/" in name for name in names)
    assert any(name.startswith("x") for name in names)


_TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)


@given(st.lists(_TEXTS, max_size=400))
def test_dictionary_gives_back_every_text(texts: list[str]) -> None:
    sender, receiver = Dictionary(), Dictionary()
    for text in texts:
        data = sender.encode(text)
        assert receiver.decode(data, 0) == (text, len(data))


@given(
    st.integers(0, 0xFFFFFFFF),
    st.binary(min_size=16, max_size=16) | st.binary(max_size=64),
    st.integers(0, 5000),
    _TEXTS,
)
def test_update_comes_back(number: int, key: bytes, server_id: int, name: str) -> None:
    is_text = len(key) != 16
    definition = Definition(
        1, "p:l", wire.TYPE_STRING if is_text else wire.TYPE_IPV6, 65 if is_text else 16, wire.DATA_TYPES
    )
    update = Update(number, key, server_id, name)

    data = wire.encode_update(update, definition.key_type, Dictionary())

    cut = wire.cut_message(data + b"rest")
    assert cut is not None
    assert (cut[0], cut[1], cut[3]) == (wire.CLASS_TABLES, wire.UPDATE, len(data))
    assert wire.decode_update(cut[1], cut[2], definition, Dictionary()) == update
    assert all(wire.cut_message(data[:length]) is None for length in range(len(data)))


def test_definition_of_haproxy_is_understood() -> None:
    """Captured from HAProxy 2.6.12 with `type string len 64` and `stick store-response`."""
    definition = Definition(1, "p:l", wire.TYPE_STRING, 65, 0x80001)

    data = wire.encode_definition(definition, 0)

    assert data.hex() == "0a820c" + "01" + "03" + b"p:l".hex() + "06" + "41" + "f1f1fe00" + "00"
    cut = wire.cut_message(data)
    assert cut is not None
    assert wire.decode_definition(cut[2]) == definition


def test_update_with_counters_of_other_uses_keeps_the_member() -> None:
    bits = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 19
    definition = Definition(1, "p:l", wire.TYPE_IPV6, 16, bits)
    values = b"\x07" + b"\x09" + b"\x01\x02\x03" + b"\x04\x01\x02m1"

    update = wire.decode_update(wire.UPDATE_TIMED, bytes(8) + b"k" * 16 + values, definition, Dictionary())

    assert (update.server_id, update.server_key) == (7, "m1")
    assert wire.is_readable(bits)
    assert not wire.is_readable(1 << 22)
