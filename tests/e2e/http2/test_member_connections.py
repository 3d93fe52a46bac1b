"""Connections to members that choose HTTP/2: who shares them, what needs HTTP/1.1, and how they begin and end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Authority
from tests.support.http2_client import Http2Client
from tests.support.http2_member import Http2Peer, PlayedHttp2Member
from tests.support.http2_member_rig import (
    ALPN,
    HTTP_1_REQUIRED,
    MAX_STREAMS,
    NO_ERROR,
    proxies,
    serve,
)
from tests.support.http_peers import Client, chunked, get
from tests.support.served import Served, free_port
from tests.support.tls_members import TlsMember, member_context, pool_text

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.timeout(60)]


@proxies
def test_one_connection_serves_one_client_after_the_other(
    proxy: str, tmp_path: Path, member: PlayedHttp2Member
) -> None:
    with serve(proxy, tmp_path, [member.port]) as port, Client(port) as client:
        client.send(get("/1"))
        peer = member.accept()
        for turn in range(3):
            asked = peer.wait_request()
            assert asked.stream == 1 + 2 * turn
            peer.respond(asked.stream, 200, body=b"x")
            assert client.read_message().status == 200
            if turn < 2:
                client.send(get("/again"))
    assert member.is_left_alone()


def test_streams_share_a_connection_as_far_as_the_member_allows(tmp_path: Path, member: PlayedHttp2Member) -> None:
    with serve("amphorad", tmp_path, [member.port]) as port, Http2Client(port) as client:
        first = client.ask("GET", "/first")
        peer = member.accept(settings={MAX_STREAMS: 3})
        asked = peer.wait_request()
        peer.respond(asked.stream, 200, body=b"first")
        assert client.answer(first).body == b"first"
        streams = [client.ask("GET", f"/{number}") for number in range(4)]
        shared = [peer.wait_request() for _ in range(3)]
        other = member.accept()
        alone = other.wait_request()
        assert {one.get(":path") for one in (*shared, alone)} == {b"/0", b"/1", b"/2", b"/3"}
        for one in reversed(shared):
            peer.respond(one.stream, 200, body=one.get(":path") or b"")
        other.respond(alone.stream, 200, body=alone.get(":path") or b"")
        assert [client.answer(stream).body for stream in streams] == [b"/0", b"/1", b"/2", b"/3"]


def test_a_private_connection_is_used_again_by_its_client(tmp_path: Path, member: PlayedHttp2Member) -> None:
    with serve("amphorad", tmp_path, [member.port], f"send-proxy {ALPN}") as port, Client(port) as client:
        client.send(get("/1"))
        plain, _address = member._listening.accept()
        assert plain.recv(5) == b"PROXY"
        while plain.recv(1) != b"\n":
            pass
        plain.settimeout(10)
        with member._context.wrap_socket(plain, server_side=True) as connection:
            peer = Http2Peer(connection, settings={}, acknowledges=True)
            for turn in range(3):
                asked = peer.wait_request()
                assert asked.stream == 1 + 2 * turn
                peer.respond(asked.stream, 200, body=b"x")
                assert client.read_message().status == 200
                client.send(get("/again"))
            asked = peer.wait_request()
            with Client(port) as other:
                other.send(get("/other"))
                second, _address = member._listening.accept()
                second.close()
            peer.respond(asked.stream, 200, body=b"x")
            assert client.read_message().status == 200


@pytest.mark.parametrize("proxy", ["amphorad"])
def test_an_upgrade_is_asked_for_over_http1(proxy: str, tmp_path: Path, member: PlayedHttp2Member) -> None:
    with serve(proxy, tmp_path, [member.port]) as port, Client(port) as client:
        client.send(
            get(
                "/", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: eA==", "Sec-WebSocket-Version: 13"
            )
        )
        connection = member.accept_tls()
        assert connection.selected_alpn_protocol() == "http/1.1"
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        assert b"upgrade: websocket\r\n" in received.lower()
        connection.sendall(
            b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"
        )
        assert client.read_head().status == 101
        connection.sendall(b"ping")
        assert client.read_exactly(4) == b"ping"


def test_authentication_of_a_connection_goes_over_http1(tmp_path: Path, member: PlayedHttp2Member) -> None:
    with serve("amphorad", tmp_path, [member.port]) as port, Client(port) as client:
        client.send(get())
        peer = member.accept()
        asked = peer.wait_request()
        peer.respond(asked.stream, 401, [("www-authenticate", "NTLM")])
        assert client.read_message().status == 401
        client.send(get("/", "Authorization: NTLM x"))
        assert member.accept_tls().selected_alpn_protocol() == "http/1.1"


def test_what_the_member_wants_over_http1_is_sent_so(tmp_path: Path, member: PlayedHttp2Member) -> None:
    with serve("amphorad", tmp_path, [member.port]) as port, Client(port) as client:
        client.send(get())
        peer = member.accept()
        peer.reset(peer.wait_request().stream, HTTP_1_REQUIRED)
        connection = member.accept_tls()
        assert connection.selected_alpn_protocol() == "http/1.1"
        assert connection.recv(65536).startswith(b"GET / HTTP/1.1\r\n")
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        assert client.read_message().body == b"ok"


@proxies
def test_a_member_that_chooses_http1_is_spoken_to_so(proxy: str, tmp_path: Path) -> None:
    context = member_context(Authority().issue("m"), tmp_path)
    context.set_alpn_protocols(["http/1.1"])
    with TlsMember(context) as member, serve(proxy, tmp_path, [member.port]) as port, Client(port) as client:
        client.send(get())
        assert client.read_message().status == 200
    assert member.visits[0].protocol == "http/1.1"


def test_trailers_of_an_http1_client_reach_the_member(tmp_path: Path, member: PlayedHttp2Member) -> None:
    with serve("amphorad", tmp_path, [member.port]) as port, Client(port) as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        peer = member.accept()
        asked = peer.wait_request(ended=False)
        assert asked.get("te") == b"trailers"
        client.send(chunked(b"abc", trailers=["X-Sum: 6 ", "x-other:7"]))
        peer.wait(lambda: asked.has_ended)
        assert (asked.body, asked.trailers) == (b"abc", [(b"x-sum", b"6"), (b"x-other", b"7")])
        peer.headers(asked.stream, 200)
        peer.data(asked.stream, b"hello")
        peer.trailers(asked.stream, [("x-end", "yes")])
        message = client.read_message()
    assert (message.body, message.trailers) == (b"hello", [(b"x-end", b"yes")])


def test_a_client_of_http_1_0_gets_a_body_that_ends_with_the_connection(
    tmp_path: Path, member: PlayedHttp2Member
) -> None:
    with serve("amphorad", tmp_path, [member.port]) as port, Client(port) as client:
        client.send(get(version="1.0"))
        peer = member.accept()
        asked = peer.wait_request()
        peer.headers(asked.stream, 200)
        peer.data(asked.stream, b"hello")
        peer.trailers(asked.stream, [("x-end", "yes")])
        assert client.read_to_end().endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize("says_goaway", [True, False])
def test_a_connection_that_the_member_ends_while_idle_is_replaced(
    tmp_path: Path, member: PlayedHttp2Member, says_goaway: bool
) -> None:
    with serve("amphorad", tmp_path, [member.port]) as port, Client(port) as client:
        for turn in range(2):
            client.send(get(f"/{turn}"))
            peer = member.accept()
            asked = peer.wait_request()
            peer.respond(asked.stream, 200, body=b"%d" % turn)
            assert client.read_message().body == b"%d" % turn
            if says_goaway:
                peer.say_goaway(asked.stream)
                assert peer.wait_end() == NO_ERROR
            peer.close()


def test_a_request_without_a_body_is_sent_again_when_the_connection_ends_under_it(
    tmp_path: Path, member: PlayedHttp2Member
) -> None:
    with serve("amphorad", tmp_path, [member.port]) as port, Client(port) as client:
        client.send(get("/1"))
        peer = member.accept()
        peer.respond(peer.wait_request().stream, 200, body=b"1")
        assert client.read_message().body == b"1"
        client.send(get("/2"))
        peer.wait_request()
        peer.abort()
        again = member.accept()
        again.respond(again.wait_request().stream, 200, body=b"2")
        assert client.read_message().body == b"2"


def test_a_removed_member_finishes_its_streams_and_hears_goaway(tmp_path: Path, member: PlayedHttp2Member) -> None:
    port = free_port()
    text = pool_text(port, [f"127.0.0.1:{member.port} weight 1 {ALPN}"])
    with Served(tmp_path, text, "--threads", "1") as served, Http2Client(port) as client:
        first = client.ask("GET", "/first")
        peer = member.accept()
        peer.respond(peer.wait_request().stream, 200)
        client.answer(first)
        stream = client.ask("GET", "/")
        asked = peer.wait_request()
        applied = served.apply(pool_text(port, [f"127.0.0.1:{free_port()} weight 1 {ALPN}"]))
        assert applied.returncode == 0
        peer.respond(asked.stream, 200, body=b"last")
        assert client.answer(stream).body == b"last"
        assert peer.wait_end() == NO_ERROR


def test_an_end_in_the_middle_of_streams_is_clean(tmp_path: Path, member: PlayedHttp2Member) -> None:
    port = free_port()
    with Served(tmp_path, pool_text(port, [f"127.0.0.1:{member.port} weight 1 {ALPN}"]), "--threads", "1") as served:
        with Http2Client(port) as client:
            first = client.ask("GET", "/first")
            peer = member.accept()
            peer.respond(peer.wait_request().stream, 200)
            client.answer(first)
            client.ask("GET", "/open")
            client.ask("POST", "/open", ended=False)
            peer.wait_request()
            peer.wait_request(ended=False)
            assert served.end() == 0


def test_clients_share_a_connection_without_a_mixup(tmp_path: Path, member: PlayedHttp2Member) -> None:
    with (
        serve("amphorad", tmp_path, [member.port]) as port,
        Client(port) as one,
        Client(port) as two,
        Http2Client(port) as three,
    ):
        one.send(get("/warm"))
        peer = member.accept()
        peer.respond(peer.wait_request().stream, 200)
        one.read_message()
        for turn in range(20):
            one.send(get(f"/one/{turn}"))
            two.send(get(f"/two/{turn}"))
            stream = three.ask("GET", f"/three/{turn}")
            asked = [peer.wait_request() for _ in range(3)]
            for each in reversed(asked):
                peer.headers(each.stream, 200)
            for each in asked:
                peer.data(each.stream, each.get(":path") or b"", ended=True)
            assert one.read_message().body == b"/one/%d" % turn
            assert two.read_message().body == b"/two/%d" % turn
            assert three.answer(stream).body == b"/three/%d" % turn
