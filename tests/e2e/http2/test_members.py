"""HTTP/2 to members that choose it: translation of requests and responses, flow control, and what a failing member leads to."""

from __future__ import annotations

import contextlib
import select
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Authority
from tests.support.http2_client import Http2Client
from tests.support.http2_end import frame
from tests.support.http2_member import Http2Peer, PlayedHttp2Member
from tests.support.http_peers import Client, chunked, get, post
from tests.support.http_rig import BOTH
from tests.support.served import Served, free_port
from tests.support.tls_members import TlsMember, member_context, pool_text, run_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.timeout(60)]
proxies = pytest.mark.parametrize("proxy", BOTH)
ALPN = "ssl verify none alpn h2,http/1.1,http/1.0"
NO_ERROR, PROTOCOL_ERROR, REFUSED, CANCEL, CALM, HTTP_1_REQUIRED = 0, 1, 7, 8, 11, 13
HEADER_TABLE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW = 1, 2, 3, 4


@pytest.fixture
def member(tmp_path: Path) -> Iterator[PlayedHttp2Member]:
    with PlayedHttp2Member(member_context(Authority().issue("m"), tmp_path)) as played:
        yield played


@contextlib.contextmanager
def serve(proxy: str, directory: Path, members: list[int], options: str = ALPN, **more: object) -> Iterator[int]:
    """The listener's port."""
    port = free_port()
    text = pool_text(port, [f"127.0.0.1:{one} weight 1 {options}" for one in members], **more)  # type: ignore[arg-type]
    # connections to members belong to a thread; with one of them it is known which may be shared
    with run_pool(proxy, directory, text, "--threads", "1"):
        yield port


def read_either(client: Http2Client, peer: Http2Peer) -> None:
    """Waits for bytes from either side of the proxy and takes them."""
    ready = [peer.socket] if peer.socket.pending() else select.select([client.socket, peer.socket], [], [], 10.0)[0]
    assert ready, "neither side of the proxy has anything to say"
    (client if ready[0] is client.socket else peer).read()


# --- requests ---


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


# --- connections ---


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


# --- flow control ---


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


# --- the end of a stream ---


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
