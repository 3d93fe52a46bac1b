"""HTTP/2 requests and what the member gets of them: amphorad and HAProxy, with prior knowledge on a plain listener."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.http2_client import Http2Client
from tests.support.http_peers import OK, chunked, response

if TYPE_CHECKING:
    from tests.support.http_rig import Rig


def _client(rig: Rig, listener: str = "web") -> Http2Client:
    return Http2Client(rig.ports[listener])


def test_a_request_and_its_response(rig: Rig) -> None:
    with _client(rig) as client:
        stream = client.ask("GET", "/some?thing", [("accept", "x/y"), ("x-own", "1")])
        member = rig.accept()
        request = member.read_message()
        member.send(response(b"hello", "X-Member: yes", "Connection: keep-alive", "Keep-Alive: timeout=5"))
        answered = client.answer(stream)

    assert request.start_line == b"GET /some?thing HTTP/1.1"
    assert request.get("host") == client.authority.encode()
    assert request.get("accept") == b"x/y"
    assert request.get("x-own") == b"1"
    assert request.get("transfer-encoding") is None
    assert answered.status == 200
    assert answered.body == b"hello"
    assert answered.get("x-member") == b"yes"
    assert answered.get("connection") is None
    assert answered.get("keep-alive") is None


def test_the_member_sees_who_the_client_is(rig: Rig) -> None:
    with _client(rig, "forwarding") as client:
        stream = client.ask("GET", "/", [("x-forwarded-proto", "forged")])
        member = rig.accept()
        request = member.read_message()
        member.send(OK)
        assert client.answer(stream).status == 200

    assert request.get("x-forwarded-for") == b"127.0.0.1"
    assert request.get("x-forwarded-proto") == b"http"
    assert request.get("x-forwarded-port") == str(rig.ports["forwarding"]).encode()


def test_streams_are_answered_in_any_order(rig: Rig) -> None:
    with _client(rig) as client:
        streams = [client.ask("GET", f"/{number}") for number in range(8)]
        members = {}
        for _ in streams:
            member = rig.accept()
            members[member.read_message().target] = member
        for number in reversed(range(8)):
            members[b"/%d" % number].send(response(b"answer %d" % number))
        bodies = [client.answer(stream).body for stream in streams]

    assert bodies == [b"answer %d" % number for number in range(8)]


def test_many_requests_one_after_the_other(rig: Rig) -> None:
    with _client(rig) as client:
        member = None
        for number in range(50):
            stream = client.ask("GET", f"/{number}")
            member = member or rig.accept()
            assert member.read_message().target == b"/%d" % number
            member.send(OK)
            assert client.answer(stream).body == b"hello"


def test_a_body_of_announced_length(rig: Rig) -> None:
    body = bytes(range(256)) * 1000
    with _client(rig) as client:
        stream = client.ask("POST", "/", [("content-length", str(len(body)))], ended=False)
        member = rig.accept()
        head = member.read_head()
        client.h2.increment_flow_control_window(1000000)
        received = b""
        while body:
            client.data(stream, body[:32000], ended=len(body) <= 32000)
            received += member.read_exactly(len(body[:32000]))
            body = body[32000:]
        member.send(OK)
        assert client.answer(stream).body == b"hello"

    assert head.get("content-length") == b"256000"
    assert received == bytes(range(256)) * 1000


def test_a_body_without_a_length_becomes_chunked(rig: Rig) -> None:
    with _client(rig) as client:
        stream = client.ask("POST", "/", ended=False)
        client.data(stream, b"first ")
        client.data(stream, b"second", ended=True)
        member = rig.accept()
        request = member.read_message()
        member.send(OK)
        assert client.answer(stream).status == 200

    assert request.get("transfer-encoding") == b"chunked"
    assert request.body == b"first second"


def test_trailers_of_a_request(rig: Rig) -> None:
    with _client(rig) as client:
        stream = client.ask("POST", "/", [("te", "trailers")], ended=False)
        client.data(stream, b"body")
        client.trailers(stream, [("x-sum", "1234"), ("x-other", "")])
        member = rig.accept()
        request = member.read_message()
        member.send(OK)
        assert client.answer(stream).status == 200

    assert request.body == b"body"
    if rig.is_amphorad:  # HAProxy 2.6 leaves them out
        assert request.trailers == [(b"x-sum", b"1234"), (b"x-other", b"")]


def test_trailers_of_a_response(rig: Rig) -> None:
    with _client(rig) as client:
        stream = client.ask("GET", "/")
        member = rig.accept()
        member.read_message()
        member.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status\r\n\r\n"
            + chunked(b"one", b"two", trailers=["Grpc-Status: 0", "grpc-message:  fine "])
        )
        answered = client.answer(stream)

    assert answered.body == b"onetwo"
    assert answered.trailers == [(b"grpc-status", b"0"), (b"grpc-message", b"fine")]
    assert answered.get("transfer-encoding") is None


def test_a_response_that_ends_with_its_connection(rig: Rig) -> None:
    with _client(rig) as client:
        stream = client.ask("GET", "/")
        member = rig.accept()
        member.read_message()
        member.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"to the ", b"end")
        member.close()
        answered = client.answer(stream)

    assert answered.has_ended
    assert answered.body == b"to the end"


def test_a_response_cut_short_resets_the_stream(amphorad_rig: Rig) -> None:
    """HAProxy 2.6 ends it as if it were complete."""
    rig = amphorad_rig
    with _client(rig) as client:
        stream = client.ask("GET", "/")
        member = rig.accept()
        member.read_message()
        member.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        client.wait(lambda: client.streams[stream].body == b"abc")
        member.close()
        answered = client.answer(stream)
        following = client.ask("GET", "/2")
        member = rig.accept()
        member.read_message()
        member.send(OK)
        assert client.answer(following).body == b"hello"

    assert answered.reset is not None
    assert not answered.has_ended


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_responses_without_a_body(rig: Rig, status: str) -> None:
    with _client(rig) as client:
        stream = client.ask("GET", "/")
        member = rig.accept()
        member.read_message()
        member.send(f"HTTP/1.1 {status}\r\nX-A: b\r\n\r\n".encode())
        answered = client.answer(stream)

    assert answered.status == int(status[:3])
    assert answered.has_ended
    assert answered.body == b""


def test_the_response_to_head(rig: Rig) -> None:
    with _client(rig) as client:
        stream = client.ask("HEAD", "/")
        member = rig.accept()
        assert member.read_message().start_line == b"HEAD / HTTP/1.1"
        member.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        answered = client.answer(stream)

    assert answered.get("content-length") == b"100"
    assert answered.has_ended


def test_interim_responses_pass(rig: Rig) -> None:
    with _client(rig) as client:
        stream = client.ask("PUT", "/", [("expect", "100-continue")], ended=False)
        member = rig.accept()
        member.read_head()
        member.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.wait(lambda: bool(client.streams[stream].interim))
        client.data(stream, b"body", ended=True)
        member.read_until(b"0\r\n\r\n")
        member.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", OK)
        answered = client.answer(stream)

    assert [dict(one)[b":status"] for one in answered.interim] == [b"100", b"103"]
    assert answered.body == b"hello"


def test_cookies_are_joined(rig: Rig) -> None:
    with _client(rig) as client:
        stream = client.ask("GET", "/", [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")])
        member = rig.accept()
        request = member.read_message()
        member.send(OK)
        assert client.answer(stream).status == 200

    assert request.get("cookie") == b"a=1; b=2; c=3"


def test_without_a_pool_the_answer_is_503(rig: Rig) -> None:
    with _client(rig, "poolless") as client:
        answered = client.answer(client.ask("GET", "/"))
        assert answered.status == 503
        assert answered.body.startswith(b"<html>")
        assert client.answer(client.ask("POST", "/", ended=False)).status == 503


def test_a_member_that_refuses_is_503_after_its_retries(rig: Rig) -> None:
    with _client(rig, "refused") as client:
        assert client.answer(client.ask("GET", "/")).status == 503


def test_a_refused_request_goes_to_another_member(rig: Rig) -> None:
    with _client(rig, "redispatch") as client:
        stream = client.ask("GET", "/")
        member = rig.accept()
        member.read_message()
        member.send(OK)
        assert client.answer(stream).body == b"hello"


def test_a_silent_member_is_504(rig: Rig) -> None:
    with _client(rig, "quick") as client:
        stream = client.ask("GET", "/")
        member = rig.accept()
        member.read_message()
        assert client.answer(stream).status == 504


def test_an_idle_connection_ends(rig: Rig) -> None:
    with _client(rig, "quick") as client:
        assert client.wait_end() == 0


def test_a_client_that_gives_up_frees_the_member(rig: Rig) -> None:
    with _client(rig) as client:
        stream = client.ask("GET", "/")
        member = rig.accept()
        member.read_message()
        client.h2.reset_stream(stream, 8)
        client.flush()
        if rig.is_amphorad:  # HAProxy waits for the response
            assert member.ended()
        other = client.ask("GET", "/2")
        member = rig.accept()
        member.read_message()
        member.send(OK)
        assert client.answer(other).body == b"hello"


def test_a_large_response_keeps_to_the_window(rig: Rig) -> None:
    body = bytes(range(256)) * 2000
    with Http2Client(rig.ports["web"], acknowledges=False) as client:
        stream = client.ask("GET", "/")
        member = rig.accept()
        member.read_message()
        member.socket.setblocking(True)
        member.send(response(body[:400000]))
        client.wait(lambda: len(client.streams[stream].body) == 65535)
        client.acknowledges = True
        client.h2.acknowledge_received_data(65535, stream)
        client.flush()
        answered = client.answer(stream)

    assert answered.body == body[:400000]


def test_a_member_that_stops_reading_stops_the_client(amphorad_rig: Rig) -> None:
    """The window closes: what one stream sends is bounded, and another one is not held up by it."""
    rig = amphorad_rig
    with _client(rig) as client:
        stuck = client.ask("POST", "/stuck", ended=False)
        member = rig.accept()
        member.read_head()
        client.wait(lambda: bool(client.settings))
        sent = 0
        while client.h2.local_flow_control_window(stuck) > 0 and sent < 30_000_000:
            size = min(client.h2.local_flow_control_window(stuck), 16000)
            client.data(stuck, b"x" * size)
            sent += size
            other = client.ask("GET", "/other") if sent > 20_000_000 else 0
            if other:
                break
            if client.h2.local_flow_control_window(stuck) <= 0:
                client.socket.settimeout(0.5)
                try:
                    client.read()
                except TimeoutError:
                    break
                finally:
                    client.socket.settimeout(10.0)
        stream = client.ask("GET", "/other")
        second = rig.accept()
        second.read_message()
        second.send(OK)
        assert client.answer(stream).body == b"hello"
        received = member.read_until(b"\r\n")
        assert received
    assert 65535 <= sent < 20_000_000
