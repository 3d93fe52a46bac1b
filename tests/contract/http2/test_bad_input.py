"""What a client may not do in HTTP/2: malformed requests cost the stream, broken frames and floods the connection.

The sections are those of RFC 9113. This is no replacement for a whole conformance suite: it holds the cases that concern what
amphorad decides itself, and one of each kind that libnghttp2 decides.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hpack import Encoder

from tests.support.http2_client import Http2Client
from tests.support.http2_end import frame
from tests.support.http_peers import OK

if TYPE_CHECKING:
    from tests.support.http_rig import Rig

NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 0, 1, 3, 5, 6
COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 9, 11
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

METHOD, SCHEME, PATH, AUTHORITY = (":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "test")
REQUEST = [METHOD, SCHEME, AUTHORITY, PATH]
BLOCK = Encoder().encode(REQUEST)

# section: fields of the request
MALFORMED = {
    "8.2 name in upper case": [*REQUEST, ("X-Name", "a")],
    "8.2.1 LF in a value": [*REQUEST, ("x", "a\nb: c")],
    "8.2.1 CR in a value": [*REQUEST, ("x", "a\rb")],
    "8.2.1 CRLF in a value": [*REQUEST, ("x", "a\r\nb: c")],
    "8.2.1 NUL in a value": [*REQUEST, ("x", "a\0b")],
    "8.2.1 blank in front of a value": [*REQUEST, ("x", " a")],
    "8.2.1 colon in a name": [*REQUEST, ("x:y", "a")],
    "8.2.1 CRLF in a name": [*REQUEST, ("x: a\r\ny", "a")],
    "8.2.1 blank in a name": [*REQUEST, ("x y", "a")],
    "8.2.1 empty name": [*REQUEST, ("", "a")],
    "8.2.2 connection": [*REQUEST, ("connection", "keep-alive")],
    "8.2.2 keep-alive": [*REQUEST, ("keep-alive", "timeout=5")],
    "8.2.2 proxy-connection": [*REQUEST, ("proxy-connection", "keep-alive")],
    "8.2.2 transfer-encoding": [*REQUEST, ("transfer-encoding", "chunked")],
    "8.2.2 upgrade": [*REQUEST, ("upgrade", "websocket")],
    "8.2.2 te other than trailers": [*REQUEST, ("te", "gzip")],
    "8.3 unknown pseudo field": [*REQUEST, (":extra", "a")],
    "8.3 response pseudo field": [*REQUEST, (":status", "200")],
    "8.3 pseudo field after others": [METHOD, SCHEME, AUTHORITY, ("x", "y"), PATH],
    "8.3.1 no method": [SCHEME, AUTHORITY, PATH],
    "8.3.1 no scheme": [METHOD, AUTHORITY, PATH],
    "8.3.1 no path": [METHOD, SCHEME, AUTHORITY],
    "8.3.1 neither authority nor host": [METHOD, SCHEME, PATH],
    "8.3.1 empty path": [METHOD, SCHEME, AUTHORITY, (":path", "")],
    "8.3.1 two methods": [METHOD, METHOD, SCHEME, AUTHORITY, PATH],
    "8.3.1 two schemes": [METHOD, SCHEME, SCHEME, AUTHORITY, PATH],
    "8.3.1 two paths": [METHOD, SCHEME, AUTHORITY, PATH, PATH],
    "8.3.1 two authorities": [METHOD, SCHEME, AUTHORITY, AUTHORITY, PATH],
    "8.3.1 host differs from authority": [*REQUEST, ("host", "other")],
    "8.3.1 path without a slash": [METHOD, SCHEME, AUTHORITY, (":path", "a/b")],
    "8.3.1 absolute path": [METHOD, SCHEME, AUTHORITY, (":path", "http://other/")],
    "8.3.1 blank in the path": [METHOD, SCHEME, AUTHORITY, (":path", "/ HTTP/1.1\r\nx: y")],
    "8.3.1 blank only in the path": [METHOD, SCHEME, AUTHORITY, (":path", "/a b")],
    "8.3.1 blank in the method": [(":method", "GET / HTTP/1.1"), SCHEME, AUTHORITY, PATH],
    "8.1.1 two lengths": [*REQUEST, ("content-length", "0"), ("content-length", "0")],
    "8.1.1 length that is no number": [*REQUEST, ("content-length", "+1")],
    "8.1.1 length without a body": [*REQUEST, ("content-length", "1")],
    "8.5 CONNECT with a path": [(":method", "CONNECT"), AUTHORITY, PATH],
    "8.5 CONNECT for a protocol": [(":method", "CONNECT"), SCHEME, AUTHORITY, PATH, (":protocol", "websocket")],
}


def _client(rig: Rig, listener: str = "web") -> Http2Client:
    return Http2Client(rig.ports[listener])


def _still_serves(rig: Rig) -> None:
    with _client(rig) as client:
        stream = client.ask("GET", "/after")
        member = rig.accept()
        assert member.read_message().target == b"/after"
        member.send(OK)
        assert client.answer(stream).status == 200


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_never_reach_the_member(amphorad_rig: Rig, name: str) -> None:
    with _client(amphorad_rig) as client:
        answered = client.answer(client.ask_raw(MALFORMED[name]))
        refused = answered.reset == PROTOCOL_ERROR if answered.reset is not None else answered.status == 400
        assert refused, answered
        assert not client.has_ended
        # the connection goes on
        stream = client.ask("GET", "/next")
        member = amphorad_rig.accept()
        assert member.read_message().start_line == b"GET /next HTTP/1.1"
        member.send(OK)
        assert client.answer(stream).status == 200


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        pytest.param([METHOD, SCHEME, (":authority", "a@b"), PATH], 400, id="authority with user information"),
        pytest.param([METHOD, SCHEME, AUTHORITY, (":path", "/a#b")], 400, id="fragment in the path"),
        pytest.param([*REQUEST, ("content_length", "5")], 400, id="look-alike of a framing field"),
        pytest.param([(":method", "CONNECT"), (":authority", "test:80")], 501, id="CONNECT"),
        pytest.param([*REQUEST, ("x", "a" * 15400)], 431, id="one long field"),
        pytest.param([*REQUEST, *[(f"x-{n}", "a" * 100) for n in range(200)]], 431, id="many fields"),
        pytest.param([*REQUEST, ("cookie", "a" * 15400)], 431, id="a long cookie"),
        pytest.param([METHOD, SCHEME, AUTHORITY, (":path", "/" + "a" * 15400)], 414, id="a long path"),
    ],
)
def test_requests_that_are_answered_and_not_forwarded(
    amphorad_rig: Rig, fields: list[tuple[str, str]], status: int
) -> None:
    with _client(amphorad_rig) as client:
        block = Encoder().encode(fields)
        pieces = [block[at : at + 16000] for at in range(0, len(block), 16000)]
        client.ask("GET", "/")  # so that hyper-h2 knows stream 1
        member = amphorad_rig.accept()
        member.read_message()
        member.send(OK)
        assert client.answer(1).status == 200
        stream = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream, client.fields("GET", "/"), end_stream=True)
        client.h2.data_to_send()
        client.streams[stream] = type(client.streams[1])()
        for place, piece in enumerate(pieces):
            last = 4 if place == len(pieces) - 1 else 0
            client.socket.sendall(frame(CONTINUATION if place else HEADERS, last | (0 if place else 1), stream, piece))
        assert client.answer(stream).status == status


def test_host_may_repeat_the_authority(rig: Rig) -> None:
    with _client(rig) as client:
        client.ask_raw([*REQUEST, ("host", "test")])
        member = rig.accept()
        assert member.read_message().get("host") == b"test"
        member.send(OK)
        assert client.answer(1).status == 200


def test_host_may_stand_for_the_authority(rig: Rig) -> None:
    with _client(rig) as client:
        client.ask_raw([METHOD, SCHEME, PATH, ("host", "alone")])
        member = rig.accept()
        assert member.read_message().get("host") == b"alone"
        member.send(OK)
        assert client.answer(1).status == 200


@pytest.mark.parametrize("sent", [b"", b"abc", b"abcdef"])
def test_a_body_of_another_length_than_announced_is_malformed(amphorad_rig: Rig, sent: bytes) -> None:
    """Section 8.1.1. The member sees an incomplete request at most."""
    with _client(amphorad_rig) as client:
        stream = client.ask("POST", "/", [("content-length", "5")], ended=False)
        member = amphorad_rig.accept()
        member.read_head()
        client.socket.sendall(frame(DATA, 1, stream, sent))
        assert client.answer(stream).reset == PROTOCOL_ERROR
        assert len(member.read_to_end()) < 5


def _window(stream: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size))


# section: frames on a new connection, and the codes of GOAWAY that fit
BROKEN = {
    "4.2 frame that is too long": (frame(DATA, 0, 1, b"x" * 16385), (FRAME_SIZE_ERROR,)),
    "4.3 header block that is no HPACK": (frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff"), (COMPRESSION_ERROR,)),
    "5.1 DATA on an idle stream": (frame(DATA, 1, 1, b"x"), (PROTOCOL_ERROR, STREAM_CLOSED)),
    "5.1 RST_STREAM on an idle stream": (frame(RST_STREAM, 0, 1, b"\0\0\0\1"), (PROTOCOL_ERROR,)),
    "5.1 WINDOW_UPDATE on an idle stream": (_window(1, 1), (PROTOCOL_ERROR,)),
    "5.1.1 stream of an even number": (frame(HEADERS, 5, 2, BLOCK), (PROTOCOL_ERROR,)),
    "6.1 DATA on stream 0": (frame(DATA, 0, 0, b"x"), (PROTOCOL_ERROR,)),
    "6.1 padding as long as the frame": (frame(HEADERS, 4, 1, BLOCK) + frame(DATA, 8, 1, b"\5abcd"), (PROTOCOL_ERROR,)),
    "6.2 HEADERS on stream 0": (frame(HEADERS, 5, 0, BLOCK), (PROTOCOL_ERROR,)),
    "6.2 another frame inside a header block": (
        frame(HEADERS, 1, 1, BLOCK[:2]) + frame(PING, 0, 0, b"x" * 8),
        (PROTOCOL_ERROR,),
    ),
    "6.3 PRIORITY on stream 0": (frame(PRIORITY, 0, 0, b"\0\0\0\1\1"), (PROTOCOL_ERROR,)),
    "6.4 RST_STREAM on stream 0": (frame(RST_STREAM, 0, 0, b"\0\0\0\1"), (PROTOCOL_ERROR,)),
    "6.4 RST_STREAM of another length": (
        frame(HEADERS, 4, 1, BLOCK) + frame(RST_STREAM, 0, 1, b"\0\0\0"),
        (FRAME_SIZE_ERROR,),
    ),
    "6.5 SETTINGS on a stream": (frame(SETTINGS, 0, 1), (PROTOCOL_ERROR,)),
    "6.5 acknowledgement with content": (frame(SETTINGS, 1, 0, b"\0\0\0\0\0\0"), (FRAME_SIZE_ERROR,)),
    "6.5 half a setting": (frame(SETTINGS, 0, 0, b"\0\0\0"), (FRAME_SIZE_ERROR,)),
    "6.5.2 ENABLE_PUSH of 2": (frame(SETTINGS, 0, 0, b"\0\2\0\0\0\2"), (PROTOCOL_ERROR,)),
    "6.5.2 window that is too large": (frame(SETTINGS, 0, 0, b"\0\4\x80\0\0\0"), (FLOW_CONTROL_ERROR,)),
    "6.5.2 frame size that is too small": (frame(SETTINGS, 0, 0, b"\0\5\0\0\0\1"), (PROTOCOL_ERROR,)),
    "6.6 PUSH_PROMISE from a client": (
        frame(HEADERS, 4, 1, BLOCK) + frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2" + BLOCK),
        (PROTOCOL_ERROR,),
    ),
    "6.7 PING on a stream": (frame(PING, 0, 1, b"x" * 8), (PROTOCOL_ERROR,)),
    "6.7 PING of another length": (frame(PING, 0, 0, b"x" * 7), (FRAME_SIZE_ERROR,)),
    "6.8 GOAWAY on a stream": (frame(GOAWAY, 0, 1, b"\0" * 8), (PROTOCOL_ERROR,)),
    "6.9 window of nothing more": (_window(0, 0), (PROTOCOL_ERROR,)),
    "6.9.1 window beyond the limit": (_window(0, 0x7FFFFFFF), (FLOW_CONTROL_ERROR,)),
    "6.9 WINDOW_UPDATE of another length": (frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"), (FRAME_SIZE_ERROR,)),
    "6.10 CONTINUATION of nothing": (frame(CONTINUATION, 4, 1, BLOCK), (PROTOCOL_ERROR,)),
    "6.10 CONTINUATION on another stream": (
        frame(HEADERS, 1, 1, BLOCK[:2]) + frame(CONTINUATION, 4, 3, BLOCK[2:]),
        (PROTOCOL_ERROR,),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_frames_end_the_connection_with_a_reason(amphorad_rig: Rig, name: str) -> None:
    frames, codes = BROKEN[name]
    with _client(amphorad_rig) as client:
        client.socket.sendall(frames)
        assert client.wait_end() in codes


def test_unknown_frames_and_flags_are_ignored(amphorad_rig: Rig) -> None:
    """Sections 4.1 and 5.5."""
    with _client(amphorad_rig) as client:
        client.socket.sendall(frame(0x16, 0xFF, 0, b"what") + frame(PING, 0xFE, 0, b"x" * 8))
        stream = client.ask("GET", "/")
        member = amphorad_rig.accept()
        member.read_message()
        member.send(OK)
        assert client.answer(stream).status == 200


FLOODS = {
    "PING": frame(PING, 0, 0, b"x" * 8),
    "SETTINGS": frame(SETTINGS),
    "PRIORITY": frame(PRIORITY, 0, 1, b"\0\0\0\3\1"),
    "RST_STREAM": b"",
    "empty DATA": b"",
    "CONTINUATION": b"",
    "malformed": b"",
}


def _flood(name: str, count: int) -> bytes:
    if name == "RST_STREAM":
        return b"".join(
            frame(HEADERS, 5, number, BLOCK) + frame(RST_STREAM, 0, number, b"\0\0\0\x08")
            for number in range(1, 2 * count, 2)
        )
    if name == "malformed":
        block = Encoder().encode([*REQUEST, ("connection", "close")])
        return b"".join(frame(HEADERS, 5, number, block) for number in range(1, 2 * count, 2))
    if name == "empty DATA":
        return frame(HEADERS, 4, 1, BLOCK) + frame(DATA, 0, 1) * count
    if name == "CONTINUATION":
        return frame(HEADERS, 1, 1, BLOCK) + frame(CONTINUATION, 0, 1) * count
    return FLOODS[name] * count


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_costs_the_connection(amphorad_rig: Rig, name: str) -> None:
    with _client(amphorad_rig) as client:
        try:
            client.socket.sendall(_flood(name, 5000))
        except (BrokenPipeError, ConnectionResetError):
            return
        code = client.wait_end()
    assert code in (ENHANCE_YOUR_CALM, None)
    amphorad_rig.member.hang_up()
    _still_serves(amphorad_rig)


def test_no_more_streams_than_announced(amphorad_rig: Rig) -> None:
    """Section 5.1.2."""
    with _client(amphorad_rig) as client:
        client.wait(lambda: bool(client.settings))
        assert client.settings[3] == 100
        client.flush()
        client.socket.sendall(b"".join(frame(HEADERS, 5, number, BLOCK) for number in range(1, 203, 2)))
        client.h2.get_next_available_stream_id()
        for number in range(1, 201, 2):
            client.h2.send_headers(number, client.fields("GET", "/"), end_stream=True)
        client.h2.data_to_send()
        assert client.wait_end() in (PROTOCOL_ERROR, None)


def test_what_is_no_preface_frame_ends_the_connection(amphorad_rig: Rig) -> None:
    """Section 3.4: the first frame has to be SETTINGS."""
    with amphorad_rig.client() as client:
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(PING, 0, 0, b"x" * 8))
        received = client.read_to_end()
    kinds = []
    while received:
        kinds.append(received[3])
        received = received[9 + int.from_bytes(received[:3]) :]
    assert kinds[-1] == GOAWAY


@pytest.mark.parametrize("cut", [1, 3, 14, 23])
def test_half_a_preface_is_waited_for(amphorad_rig: Rig, cut: int) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    with amphorad_rig.client() as client:
        client.send(preface[:cut])
        assert client.is_silent()
        client.send(preface[cut:] + frame(SETTINGS))
        assert client.read_exactly(9)[3] == SETTINGS


def test_what_begins_like_a_preface_and_is_none_is_answered(amphorad_rig: Rig) -> None:
    with amphorad_rig.client() as client:
        client.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")
        assert client.read_message().status == 400
