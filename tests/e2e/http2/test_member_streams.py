"""Streams to members that choose HTTP/2: flow control, and what a failing member or client leads to."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.support.http2_client import Http2Client
from tests.support.http2_end import frame
from tests.support.http2_member_rig import (
    CALM,
    CANCEL,
    INITIAL_WINDOW,
    NO_ERROR,
    REFUSED,
    proxies,
    read_either,
    serve,
)
from tests.support.http_peers import Client, get, post

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.http2_member import Http2Peer, PlayedHttp2Member

pytestmark = [pytest.mark.timeout(60)]


@proxies
def test_large_bodies_pass_in_both_directions(proxy: str, tmp_path: Path, member: PlayedHttp2Member) -> None:
    upload, download = b"u" * 1_000_000, b"d" * 1_000_000
    with serve(proxy, tmp_path, [member.port]) as port, Http2Client(port) as client:
        client.h2.increment_flow_control_window(2_000_000)
        stream = client.ask("POST", "/", [("content-length", str(len(upload)))], ended=False)
        peer = member.accept()
        asked = peer.wait_request(ended=False)
        left = upload
        while not asked.has_ended:
            room = min(client.h2.local_flow_control_window(stream), 16384)
            if left and room:
                client.data(stream, left[:room], ended=len(left) <= room)
                left = left[room:]
            else:
                read_either(client, peer)
        assert asked.body == upload
        peer.headers(asked.stream, 200, [("content-length", str(len(download)))])
        left = download
        while not client.streams[stream].has_ended:
            room = min(peer.h2.local_flow_control_window(asked.stream), 16384)
            if left and room:
                peer.data(asked.stream, left[:room], ended=len(left) <= room)
                left = left[room:]
            else:
                read_either(client, peer)
        assert client.answer(stream).body == download


def test_a_slow_client_holds_up_its_own_stream_only(tmp_path: Path, member: PlayedHttp2Member) -> None:
    with serve("amphorad", tmp_path, [member.port]) as port, Http2Client(port) as client:
        first = client.ask("GET", "/first")
        peer = member.accept()
        peer.respond(peer.wait_request().stream, 200)
        client.answer(first)
        client.acknowledges = False
        client.ask("GET", "/slow")
        slow = peer.wait_request()
        peer.headers(slow.stream, 200)
        sent = 0
        while (room := min(peer.h2.local_flow_control_window(slow.stream), 16384)) > 0:
            peer.data(slow.stream, b"s" * room)
            sent += room
            assert sent < 1_000_000, "the window of a stream that nobody reads keeps growing"
        client.ask("GET", "/quick")
        quick = peer.wait_request()
        with Client(port) as other:
            other.send(get("/other"))
            peer.respond(peer.wait_request().stream, 200, body=b"other")
            assert other.read_message().body == b"other"
        peer.respond(quick.stream, 200)


def test_a_member_without_window_gets_no_more_of_a_request(tmp_path: Path, member: PlayedHttp2Member) -> None:
    with serve("amphorad", tmp_path, [member.port]) as port, Http2Client(port) as client:
        stream = client.ask("POST", "/", ended=False)
        peer = member.accept(settings={INITIAL_WINDOW: 1000}, acknowledges=False)
        asked = peer.wait_request(ended=False)
        client.data(stream, b"u" * 60000)
        peer.wait(lambda: len(asked.body) >= 1000)
        peer.h2.ping(b"12345678")
        peer.flush()
        peer.wait(lambda: bool(peer.pings))
        assert len(asked.body) == 1000
        peer.h2.increment_flow_control_window(100_000, asked.stream)
        peer.flush()
        peer.wait(lambda: len(asked.body) == 60000)
        client.data(stream, b"", ended=True)
        peer.wait(lambda: asked.has_ended)
        peer.respond(asked.stream, 200, body=b"ok")
        assert client.answer(stream).body == b"ok"


def test_a_connection_on_which_nothing_comes_any_more_is_replaced(tmp_path: Path, member: PlayedHttp2Member) -> None:
    """Its host may have vanished: further requests must not wait for `timeout server` one after the other."""
    with serve("amphorad", tmp_path, [member.port], server_ms=1500) as port:
        with Client(port) as client:
            client.send(get("/1"))
            peer = member.accept()
            peer.respond(peer.wait_request().stream, 200, body=b"1")
            assert client.read_message().body == b"1"
        with Client(port) as client:
            client.send(get("/2"))
            assert client.read_message().status == 504
        with Client(port) as client:
            client.send(get("/3"))
            again = member.accept()
            again.respond(again.wait_request().stream, 200, body=b"3")
            assert client.read_message().body == b"3"


def test_a_slow_response_does_not_cost_the_others_their_connection(tmp_path: Path, member: PlayedHttp2Member) -> None:
    with serve("amphorad", tmp_path, [member.port], server_ms=1500) as port:
        with Client(port) as slow, Client(port) as client:
            client.send(get("/1"))
            peer = member.accept()
            peer.respond(peer.wait_request().stream, 200, body=b"1")
            assert client.read_message().body == b"1"
            slow.send(get("/2"))
            peer.wait_request()
            client.send(get("/3"))  # answered while the other one waits
            peer.respond(peer.wait_request().stream, 200, body=b"3")
            assert client.read_message().body == b"3"
            assert slow.read_message().status == 504
        with Client(port) as client:
            client.send(get("/4"))
            peer.respond(peer.wait_request().stream, 200, body=b"4")
            assert client.read_message().body == b"4"


@proxies
def test_a_client_that_resets_its_stream_cancels_it_at_the_member(
    proxy: str, tmp_path: Path, member: PlayedHttp2Member
) -> None:
    with serve(proxy, tmp_path, [member.port]) as port, Http2Client(port) as client:
        stream = client.ask("GET", "/")
        peer = member.accept()
        asked = peer.wait_request()
        client.h2.reset_stream(stream, CANCEL)
        client.flush()
        peer.wait(lambda: asked.reset is not None)
        assert asked.reset == CANCEL


def test_an_early_response_with_a_reset_lets_the_client_go(tmp_path: Path, member: PlayedHttp2Member) -> None:
    with serve("amphorad", tmp_path, [member.port]) as port, Http2Client(port) as client:
        stream = client.ask("POST", "/", ended=False)
        peer = member.accept()
        asked = peer.wait_request(ended=False)
        peer.respond(asked.stream, 403, body=b"no")
        peer.reset(asked.stream, NO_ERROR)
        answered = client.answer(stream)
        assert (answered.status, answered.body) == (403, b"no")


@pytest.mark.parametrize("how", ["refused", "goaway"])
def test_a_request_that_the_member_has_not_looked_at_is_sent_again(
    tmp_path: Path, member: PlayedHttp2Member, how: str
) -> None:
    with serve("amphorad", tmp_path, [member.port]) as port, Client(port) as client:
        client.send(post(b"hello"))
        peer = member.accept()
        asked = peer.wait_request()
        if how == "refused":
            peer.reset(asked.stream, REFUSED)
        else:
            peer.say_goaway(0)
        again = member.accept()
        asked = again.wait_request()
        assert (asked.get(":method"), asked.body) == (b"POST", b"hello")
        again.respond(asked.stream, 200, body=b"ok")
        assert client.read_message().body == b"ok"


def test_a_member_that_refuses_for_ever_is_given_up(tmp_path: Path, member: PlayedHttp2Member) -> None:
    with serve("amphorad", tmp_path, [member.port], retries=2) as port, Client(port) as client:
        client.send(get())
        for _ in range(3):
            peer = member.accept()
            peer.reset(peer.wait_request().stream, REFUSED)
        assert client.read_message().status == 502


def test_streams_below_the_last_of_a_goaway_are_served(tmp_path: Path, member: PlayedHttp2Member) -> None:
    with serve("amphorad", tmp_path, [member.port]) as port, Client(port) as client:
        client.send(get())
        peer = member.accept()
        asked = peer.wait_request()
        peer.say_goaway(asked.stream)
        peer.respond(asked.stream, 200, body=b"ok")
        assert client.read_message().body == b"ok"
        client.send(get())
        other = member.accept()
        other.respond(other.wait_request().stream, 200, body=b"other")
        assert client.read_message().body == b"other"


def _leave(peer: Http2Peer, stream: int) -> None:
    peer.say_goaway(stream, 2)
    peer.close()


MISDEEDS: dict[str, Callable[[Http2Peer, int], object]] = {
    "reset": lambda peer, stream: peer.reset(stream, 2),
    "closed": lambda peer, _stream: peer.close(),
    "aborted": lambda peer, _stream: peer.abort(),
    "goaway and closed": lambda peer, stream: _leave(peer, stream),
    "no status": lambda peer, stream: peer.headers_raw(stream, [(b"x", b"y")], ended=True),
    "status of letters": lambda peer, stream: peer.headers_raw(stream, [(b":status", b"abc")], ended=True),
    "upper case name": lambda peer, stream: peer.headers_raw(
        stream, [(b":status", b"200"), (b"X-Y", b"z")], ended=True
    ),
    "line feed": lambda peer, stream: peer.headers_raw(stream, [(b":status", b"200"), (b"x", b"a\nb")], ended=True),
    "connection field": lambda peer, stream: peer.headers_raw(
        stream, [(b":status", b"200"), (b"connection", b"close")], ended=True
    ),
    "transfer-encoding": lambda peer, stream: peer.headers_raw(
        stream, [(b":status", b"200"), (b"transfer-encoding", b"chunked")], ended=True
    ),
    "two lengths": lambda peer, stream: peer.headers_raw(
        stream, [(b":status", b"200"), (b"content-length", b"1"), (b"content-length", b"2")]
    ),
    "length without content": lambda peer, stream: peer.headers_raw(
        stream, [(b":status", b"200"), (b"content-length", b"5")], ended=True
    ),
    "switching protocols": lambda peer, stream: peer.headers_raw(stream, [(b":status", b"101")]),
    "request fields": lambda peer, stream: peer.headers_raw(
        stream, [(b":status", b"200"), (b":path", b"/")], ended=True
    ),
    "data first": lambda peer, stream: peer.raw(frame(0, 1, stream, b"x")),
    "broken frame": lambda peer, stream: peer.raw(frame(8, 0, 0, b"")),
    "push": lambda peer, stream: peer.raw(frame(5, 4, stream, (2).to_bytes(4))),
    "garbage": lambda peer, stream: peer.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
}


# HAProxy passes on a response without the content that it announces, and waits for the header section behind the data
@pytest.mark.parametrize(
    ("proxy", "misdeed"),
    [
        *(("amphorad", misdeed) for misdeed in MISDEEDS),
        *(
            pytest.param("haproxy", misdeed, marks=pytest.mark.haproxy)
            for misdeed in MISDEEDS
            if misdeed not in ("length without content", "data first")
        ),
    ],
)
def test_without_a_response_the_client_gets_a_502(
    proxy: str, tmp_path: Path, member: PlayedHttp2Member, misdeed: str
) -> None:
    with serve(proxy, tmp_path, [member.port]) as port, Client(port) as client:
        client.send(get())
        peer = member.accept()
        asked = peer.wait_request()
        MISDEEDS[misdeed](peer, asked.stream)
        assert client.read_message().status == 502


@pytest.mark.parametrize(
    ("how", "length"),
    [(how, length) for how in ("reset", "closed", "aborted", "too long") for length in (b"10", None)][:-1],
)
def test_a_response_that_breaks_off_is_seen_to_be_incomplete(
    tmp_path: Path, member: PlayedHttp2Member, how: str, length: bytes | None
) -> None:
    """Not compared with HAProxy 2.6, which ends the client's stream as if the response were complete."""
    with serve("amphorad", tmp_path, [member.port]) as port, Http2Client(port) as client:
        stream = client.ask("GET", "/")
        peer = member.accept()
        asked = peer.wait_request()
        peer.headers_raw(asked.stream, [(b":status", b"200"), *([(b"content-length", length)] if length else [])])
        peer.raw(frame(0, 0, asked.stream, b"hello"))
        client.wait(lambda: client.streams[stream].body == b"hello")
        if how == "reset":
            peer.raw(frame(3, 0, asked.stream, (2).to_bytes(4)))
        elif how == "closed":
            peer.close()
        elif how == "aborted":
            peer.abort()
        else:
            peer.raw(frame(0, 1, asked.stream, b"hello world"))
        answered = client.answer(stream)
    assert answered.reset is not None
    assert not answered.has_ended


@pytest.mark.parametrize(
    "flood",
    [
        frame(6, 0, 0, b"12345678"),
        frame(4, 0, 0),
        frame(0, 0, 1),
        frame(2, 0, 1, b"\0\0\0\0\0"),
    ],
    ids=["ping", "settings", "empty data", "priority"],
)
def test_a_member_that_only_keeps_us_busy_loses_its_connection(
    tmp_path: Path, member: PlayedHttp2Member, flood: bytes
) -> None:
    with serve("amphorad", tmp_path, [member.port]) as port, Client(port) as client:
        client.send(get())
        peer = member.accept()
        peer.wait_request()
        peer.headers(1, 200)
        with contextlib.suppress(OSError):
            for _ in range(2000):
                peer.raw(flood * 100)
        client.read_head()
        assert not client.read_to_end().endswith(b"0\r\n\r\n")
        assert peer.wait_end() in (CALM, None)
    with serve("amphorad", tmp_path, [member.port]) as port, Client(port) as client:
        client.send(get())
        peer = member.accept()
        peer.respond(peer.wait_request().stream, 200, body=b"fine")
        assert client.read_message().body == b"fine"
