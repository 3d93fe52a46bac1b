"""The HTTP/2 check: frames in and findings out. The oracle of requests and header blocks is the h2 package."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.health.probes.http import status_matcher
from amphorad.health.probes.http2 import FRAMES, Http2Conversation, request_frames, status_of
from amphorad.health.target import HttpCheck
from amphorad.health.verdict import CheckStatus, Finding

SETTINGS = bytes.fromhex("000000040000000000")
CHECK = HttpCheck(method="GET", path="/health?a=" + "b" * 200, version="1.1", host=None, expected="200")


def headers(block: bytes, flags: int = 0x5) -> bytes:
    return len(block).to_bytes(3, "big") + bytes((1, flags)) + (1).to_bytes(4, "big") + block


def feed(*pieces: bytes, expected: str = "200") -> Finding | None:
    conversation = Http2Conversation(b"request", status_matcher(expected))
    for piece in pieces:
        finding = conversation.received(piece)
        if finding is not None:
            return finding
    return None


@pytest.mark.parametrize(
    ("block", "status"),
    [
        ("88", 200),
        ("89", 204),
        ("8d", 404),
        ("8e", 500),
        ("4803333032", 302),  # literal with indexing, plain digits
        ("0803353033", 503),  # literal without indexing
        ("4803323031", 201),
        ("00073a73746174757303343034", 404),  # new name, plain
        ("2088", 200),  # table size update before
        ("3fe11f88", 200),  # a longer one
        ("48826402", 302),  # RFC 7541 appendix C.6.1: Huffman
        ("4883640eff", 307),  # RFC 7541 appendix C.6.2
    ],
)
def test_status_is_read_from_the_start_of_a_header_block(block: str, status: int) -> None:
    assert status_of(bytes.fromhex(block)) == status


@pytest.mark.parametrize(
    "block", ["", "20", "82", "be", "48", "4803", "480332", "48023230", "480432303030", "0803616263", "08ff", "3fff"]
)
def test_header_block_without_a_status_gives_none(block: str) -> None:
    assert status_of(bytes.fromhex(block)) is None


@given(st.binary(max_size=40))
def test_any_header_block_is_survived(block: bytes) -> None:
    status = status_of(block)

    assert status is None or 0 <= status <= 999


def test_answer_passes_after_settings() -> None:
    assert feed(SETTINGS, headers(b"\x88")) == (CheckStatus.L7OK, 200, "")


def test_answer_a_byte_at_a_time_is_the_same() -> None:
    assert feed(*(bytes((byte,)) for byte in SETTINGS + headers(b"\x8e"))) == (CheckStatus.L7STS, 500, "")


def test_padded_answer_with_priority_is_read() -> None:
    assert feed(SETTINGS, headers(b"\x02" + bytes(5) + b"\x88" + bytes(2), 0x2D)) == (CheckStatus.L7OK, 200, "")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        headers(b"\x88"),  # no settings first
        SETTINGS + b"\xff\xff\xff\x01\x05\0\0\0\x01",
        SETTINGS + headers(b"\x82"),
        SETTINGS + bytes.fromhex("00000403000000000100000001"),  # RST_STREAM
        SETTINGS + bytes.fromhex("0000080700000000000000000000000001"),  # GOAWAY
        SETTINGS * (FRAMES + 1),
    ],
)
def test_anything_else_is_an_invalid_answer(answer: bytes) -> None:
    finding = feed(answer)

    assert finding is not None
    assert finding.status is CheckStatus.L7RSP


def test_settings_and_pings_are_acknowledged() -> None:
    conversation = Http2Conversation(b"", status_matcher("200"))
    conversation.received(SETTINGS + bytes.fromhex("000008060000000000") + b"12345678")

    assert conversation.outgoing == bytes.fromhex("000000040100000000" + "000008060100000000") + b"12345678"


def test_request_is_what_an_http2_server_understands() -> None:
    config = pytest.importorskip("h2.config")
    connection = pytest.importorskip("h2.connection")
    events = pytest.importorskip("h2.events")
    server = connection.H2Connection(config=config.H2Configuration(client_side=False, header_encoding="utf-8"))
    server.initiate_connection()

    received = server.receive_data(request_frames(CHECK, "10.0.0.1"))
    (request,) = [event for event in received if isinstance(event, events.RequestReceived)]
    server.send_headers(request.stream_id, [(":status", "503"), ("server", "x")], end_stream=True)

    assert dict(request.headers) == {
        ":method": "GET",
        ":scheme": "https",
        ":path": CHECK.path,
        ":authority": "10.0.0.1",
    }
    assert any(isinstance(event, events.StreamEnded) for event in received)
    assert feed(server.data_to_send(), expected="503") == (CheckStatus.L7OK, 503, "")
