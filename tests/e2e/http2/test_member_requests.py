"""Requests to members that choose HTTP/2, and their responses: what is translated how."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.http2_client import Http2Client
from tests.support.http2_member_rig import (
    proxies,
    serve,
)
from tests.support.http_peers import Client, get, post

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.http2_member import PlayedHttp2Member

pytestmark = [pytest.mark.timeout(60)]


@proxies
def test_an_http1_request_becomes_a_header_section(proxy: str, tmp_path: Path, member: PlayedHttp2Member) -> None:
    with serve(proxy, tmp_path, [member.port]) as port, Client(port) as client:
        client.send(get("/a?b=c", "X-One: 1", "X-Two: 2", "Connection: x-two, keep-alive", "Keep-Alive: 5"))
        peer = member.accept()
        asked = peer.wait_request()
        assert (asked.get(":method"), asked.get(":scheme"), asked.get(":path")) == (b"GET", b"https", b"/a?b=c")
        # HAProxy sends a Host field where the client has named no scheme; RFC 9113 section 8.3.1 asks for the pseudo field
        assert asked.get_all(":authority" if proxy == "amphorad" else "host") == [b"test"]
        assert asked.get("x-one") == b"1"
        assert not {b"connection", b"keep-alive", b"transfer-encoding"} & {name for name, _value in asked.fields}
        peer.respond(asked.stream, 200, [("x-answer", "yes")], b"hello")
        message = client.read_message()
    assert (message.status, message.body) == (200, b"hello")
    assert message.get("x-answer") == b"yes"


@proxies
def test_an_http2_request_reaches_the_member_as_one(proxy: str, tmp_path: Path, member: PlayedHttp2Member) -> None:
    with serve(proxy, tmp_path, [member.port]) as port, Http2Client(port) as client:
        stream = client.ask("POST", "/x", [("te", "trailers"), ("x-one", "1")], ended=False)
        client.data(stream, b"abc")
        peer = member.accept()
        asked = peer.wait_request(ended=False)
        assert (asked.get(":method"), asked.get(":path"), asked.get("te")) == (b"POST", b"/x", b"trailers")
        assert asked.get("content-length") is None
        client.data(stream, b"def", ended=True)
        peer.wait(lambda: asked.has_ended)
        assert asked.body == b"abcdef"
        peer.respond(asked.stream, 201, body=b"hello")
        answered = client.answer(stream)
    assert (answered.status, answered.body, answered.has_ended) == (201, b"hello", True)


@proxies
def test_bodies_of_known_length_keep_it_and_chunked_ones_end_with_their_stream(
    proxy: str, tmp_path: Path, member: PlayedHttp2Member
) -> None:
    with serve(proxy, tmp_path, [member.port]) as port, Client(port) as client:
        client.send(post(b"hello"))
        peer = member.accept()
        asked = peer.wait_request()
        assert (asked.body, asked.get("content-length")) == (b"hello", b"5")
        peer.respond(asked.stream, 200, body=b"1")
        assert client.read_message().body == b"1"
        client.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
        )
        asked = peer.wait_request()
        assert (asked.body, asked.get("content-length")) == (b"abcde", None)
        peer.respond(asked.stream, 200, body=b"2")
        assert client.read_message().body == b"2"


@pytest.mark.parametrize("proxy", ["amphorad"])
def test_trailers_pass_in_both_directions(proxy: str, tmp_path: Path, member: PlayedHttp2Member) -> None:
    with serve(proxy, tmp_path, [member.port]) as port, Http2Client(port) as client:
        stream = client.ask("POST", "/x", [("te", "trailers")], ended=False)
        client.data(stream, b"abc")
        client.trailers(stream, [("x-sum", "6"), ("x-more", "a b")])
        peer = member.accept()
        asked = peer.wait_request()
        assert asked.trailers == [(b"x-sum", b"6"), (b"x-more", b"a b")]
        peer.headers(asked.stream, 200, [("content-type", "application/grpc")])
        peer.data(asked.stream, b"one")
        client.wait(lambda: client.streams[stream].body == b"one")
        peer.data(asked.stream, b"two")
        peer.trailers(asked.stream, [("grpc-status", "0"), ("grpc-message", "")])
        answered = client.answer(stream)
    assert answered.body == b"onetwo"
    assert answered.trailers == [(b"grpc-status", b"0"), (b"grpc-message", b"")]


@proxies
def test_responses_pass_while_the_request_is_open(proxy: str, tmp_path: Path, member: PlayedHttp2Member) -> None:
    with serve(proxy, tmp_path, [member.port]) as port, Http2Client(port) as client:
        stream = client.ask("POST", "/x", ended=False)
        peer = member.accept()
        asked = peer.wait_request(ended=False)
        peer.headers(asked.stream, 200)
        for turn in range(5):
            client.data(stream, b"%d" % turn)
            while len(asked.body) <= turn:
                peer.read()
            peer.data(asked.stream, b"%d" % turn)
            while len(client.streams[stream].body) <= turn:
                client.read()
        client.data(stream, b"", ended=True)
        peer.wait(lambda: asked.has_ended)
        peer.data(asked.stream, b"end", ended=True)
        assert client.answer(stream).body == b"01234end"


@proxies
@pytest.mark.parametrize(
    ("method", "status", "extra"),
    [
        ("HEAD", 200, [("content-length", "5")]),
        ("HEAD", 200, []),
        ("GET", 204, []),
        ("GET", 304, [("content-length", "5")]),
        ("GET", 200, [("content-length", "0")]),
        ("GET", 200, []),
    ],
)
def test_responses_without_content_leave_the_client_connection_usable(
    proxy: str, tmp_path: Path, member: PlayedHttp2Member, method: str, status: int, extra: list[tuple[str, str]]
) -> None:
    with serve(proxy, tmp_path, [member.port]) as port, Client(port) as client:
        client.send(get(method=method))
        peer = member.accept()
        asked = peer.wait_request()
        peer.headers(asked.stream, status, extra, ended=True)
        message = client.read_message(method)
        assert (message.status, message.body) == (status, b"")
        if proxy == "amphorad":  # HAProxy sends an empty chunked body where there is no length
            assert message.get("transfer-encoding") is None
        client.send(get("/next"))
        asked = peer.wait_request()
        peer.respond(asked.stream, 200, body=b"next")
        assert client.read_message().body == b"next"


@proxies
def test_interim_responses_pass(proxy: str, tmp_path: Path, member: PlayedHttp2Member) -> None:
    with serve(proxy, tmp_path, [member.port]) as port, Client(port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        peer = member.accept()
        asked = peer.wait_request(ended=False)
        peer.headers(asked.stream, 100)
        assert client.read_head().status == 100
        client.send(b"abc")
        peer.wait(lambda: asked.has_ended)
        peer.headers(asked.stream, 103, [("link", "</a>; rel=preload")])
        assert client.read_head().status == 103
        peer.respond(asked.stream, 200, body=b"ok")
        assert client.read_message().body == b"ok"
