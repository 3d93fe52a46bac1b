"""Frames for streams that are over or never were, which libnghttp2 alone would ignore (RFC 9113 section 5.1)."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest
from hpack import Encoder

from tests.support.http2_client import PREFACE, Http2Client
from tests.support.http2_end import frame
from tests.support.http_peers import OK

if TYPE_CHECKING:
    from tests.support.http_rig import Rig

PROTOCOL_ERROR, STREAM_CLOSED = 1, 5
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 2, 3, 4, 6, 7
END_STREAM, END_HEADERS = 1, 4
CANCEL = struct.pack(">I", 8)
BLOCK = Encoder().encode([(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", "/")])
LATE = {"DATA": frame(DATA, 0, 1, b"late"), "HEADERS": frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK)}


def _client(rig: Rig) -> Http2Client:
    return Http2Client(rig.ports["web"])


def _send(client: Http2Client, data: bytes, *, piecewise: bool) -> None:
    """`piecewise`: every byte in a segment of its own."""
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in [data[at : at + 1] for at in range(len(data))] if piecewise else [data]:
        try:
            client.socket.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            return  # it has heard enough


def _answer(rig: Rig, client: Http2Client, stream: int) -> None:
    member = rig.accept()
    member.read_message()
    member.send(OK)
    assert client.answer(stream).status == 200


@pytest.mark.parametrize("piecewise", [False, True])
@pytest.mark.parametrize("late", LATE)
def test_after_an_answered_request(amphorad_rig: Rig, late: str, piecewise: bool) -> None:
    with _client(amphorad_rig) as client:
        _answer(amphorad_rig, client, client.ask("GET", "/"))

        _send(client, LATE[late], piecewise=piecewise)

        assert client.wait_end() == STREAM_CLOSED


@pytest.mark.parametrize("piecewise", [False, True])
@pytest.mark.parametrize("late", LATE)
def test_after_the_clients_own_reset(amphorad_rig: Rig, late: str, piecewise: bool) -> None:
    with _client(amphorad_rig) as client:
        opening = frame(HEADERS, END_HEADERS, 1, BLOCK) + frame(RST_STREAM, 0, 1, CANCEL)

        _send(client, opening + LATE[late], piecewise=piecewise)

        assert client.wait_end() == STREAM_CLOSED


@pytest.mark.parametrize("late", LATE)
def test_after_the_end_of_a_request_that_is_still_answered(amphorad_rig: Rig, late: str) -> None:
    with _client(amphorad_rig) as client:
        stream = client.ask("GET", "/")
        amphorad_rig.accept().read_message()

        _send(client, LATE[late], piecewise=False)

        client.wait(lambda: client.streams[stream].reset is not None or client.goaway is not None)
        assert STREAM_CLOSED in (client.streams[stream].reset, client.goaway)


@pytest.mark.parametrize("piecewise", [False, True])
@pytest.mark.parametrize("late", LATE)
def test_stream_that_a_later_one_has_closed_is_refused(amphorad_rig: Rig, late: str, piecewise: bool) -> None:
    """Section 5.1.1."""
    with _client(amphorad_rig) as client:
        opening = frame(HEADERS, END_HEADERS | END_STREAM, 5, BLOCK)

        _send(client, opening + LATE[late], piecewise=piecewise)

        assert client.wait_end() == PROTOCOL_ERROR


@pytest.mark.parametrize("piecewise", [False, True])
@pytest.mark.parametrize("exclusive", [0, 0x80000000])
def test_stream_that_depends_on_itself_is_refused(amphorad_rig: Rig, exclusive: int, piecewise: bool) -> None:
    """RFC 7540 section 5.3.1."""
    with _client(amphorad_rig) as client:
        one = frame(PRIORITY, 0, 0x010305, struct.pack(">IB", exclusive | 0x010305, 16))

        _send(client, one, piecewise=piecewise)

        assert client.wait_end() == PROTOCOL_ERROR


@pytest.mark.parametrize("other", [0, 1, 0x010304, 0x020305, 0x7F010305])
def test_other_dependencies_are_ignored(amphorad_rig: Rig, other: int) -> None:
    with _client(amphorad_rig) as client:
        _send(client, frame(PRIORITY, 0, 0x010305, struct.pack(">IB", other, 16)), piecewise=True)

        _answer(amphorad_rig, client, client.ask("GET", "/"))
        assert not client.has_ended


def test_what_was_under_way_when_the_proxy_reset_the_stream_is_ignored(amphorad_rig: Rig) -> None:
    with _client(amphorad_rig) as client:
        stream = client.ask_raw([(":method", "GET"), (":path", "/"), ("x y", "malformed")], ended=False)
        assert client.answer(stream).reset == PROTOCOL_ERROR

        _send(client, frame(DATA, 0, 1, b"under way") * 3 + frame(DATA, END_STREAM, 1, b"end"), piecewise=True)

        _answer(amphorad_rig, client, client.ask("GET", "/next"))
        assert not client.has_ended


def test_frames_on_streams_too_old_to_be_remembered_are_ignored(amphorad_rig: Rig) -> None:
    with amphorad_rig.client() as client:
        client.send(PREFACE + frame(SETTINGS) + frame(HEADERS, END_HEADERS | END_STREAM, 1001, BLOCK))
        amphorad_rig.accept().read_message()

        client.send(frame(DATA, 0, 1001 - 2 * 128, b"x") + frame(PING, 0, 0, b"question"))

        kind = -1
        while kind != PING:
            head = client.read_exactly(9)
            kind = head[3]
            client.read_exactly(int.from_bytes(head[:3]))
            assert kind != GOAWAY
