"""The built-in answers, byte for byte (Octavia contract section 4.12), and what the connection does after them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.http_peers import OK, exchange, get, post, response

if TYPE_CHECKING:
    from tests.support.http_rig import Rig

TEXTS = {
    400: ("Bad request", "Your browser sent an invalid request."),
    408: ("Request Time-out", "Your browser didn't send a complete request in time."),
    501: ("Not Implemented", "The server does not support the functionality required to fulfill the request."),
    502: ("Bad Gateway", "The server returned an invalid or incomplete response."),
    503: ("Service Unavailable", "No server is available to handle this request."),
    504: ("Gateway Time-out", "The server didn't respond in time."),
}


def built_in(status: int, *, close: bool = False, body: bool = True) -> bytes:
    reason, text = TEXTS[status]
    page = f"<html><body><h1>{status} {reason}</h1>\n{text}\n</body></html>\n"
    if status in (400, 408):
        head = f"Content-length: {len(page)}\r\nCache-Control: no-cache\r\nConnection: close\r\nContent-Type: text/html\r\n"
    else:
        head = f"content-length: {len(page)}\r\ncache-control: no-cache\r\ncontent-type: text/html\r\n"
        head += "connection: close\r\n" if close else ""
    return f"HTTP/1.1 {status} {reason}\r\n{head}\r\n{page if body else ''}".encode()


GARBAGE = {
    "no HTTP at all": b"hello there\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
    "blank before colon": b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
    "empty name": b"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n",
    "two different hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "bare carriage return": b"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
    "head too large": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Filler: " + b"y" * 17000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("bytes_sent", [pytest.param(value, id=key) for key, value in GARBAGE.items()])
def test_garbage_is_answered_400_and_the_connection_closed(rig: Rig, bytes_sent: bytes) -> None:
    with rig.client() as client:
        client.send(bytes_sent)
        answer = client.read_to_end()

    if rig.is_amphorad and len(bytes_sent) > 16000:  # as newer HAProxy does: contract 4.12, "newer versions"
        assert answer.startswith(b"HTTP/1.1 431 ")
    else:
        assert answer == built_in(400)
    assert rig.member.is_left_alone()


def test_request_head_unfinished_is_answered_408(rig: Rig) -> None:
    with rig.client("quick") as client:
        client.send(b"GET / HTTP/1.1\r\nHos")
        answer = client.read_to_end()

    assert answer == built_in(408)


def test_new_connection_that_says_nothing_is_answered_408(rig: Rig) -> None:
    with rig.client("quick") as client:
        answer = client.read_to_end()

    assert answer == built_in(408)


def test_idle_connection_is_closed_without_a_word(rig: Rig) -> None:
    with rig.client("quick") as client:
        assert exchange(client, get("/"), rig.accept, OK).body == b"hello"

        assert client.ended()


def test_member_too_slow_is_answered_504_and_the_client_may_go_on(rig: Rig) -> None:
    with rig.client("quick") as client:
        client.send(get("/1"))
        member = rig.accept()
        member.read_message()
        answer = client.read_exactly(len(built_in(504)))
        assert member.ended()

        second = exchange(client, get("/2"), rig.accept, OK)

    assert answer == built_in(504)
    assert second.body == b"hello"


def test_no_pool_is_answered_503_and_the_client_may_go_on(rig: Rig) -> None:
    with rig.client("poolless") as client:
        for _ in range(3):
            client.send(get("/"))
            assert client.read_exactly(len(built_in(503))) == built_in(503)


def test_answer_says_close_when_the_client_asked_for_it(rig: Rig) -> None:
    with rig.client("poolless") as client:
        client.send(get("/", "Connection: close"))

        assert client.read_to_end() == built_in(503, close=True)


def test_answer_to_http_1_0_closes(rig: Rig) -> None:
    with rig.client("poolless") as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")

        assert client.read_to_end() == built_in(503, close=True)


def test_answer_to_head_has_no_body(rig: Rig) -> None:
    with rig.client("poolless") as client:
        client.send(get("/", "Connection: close", method="HEAD"))
        answer = client.read_to_end()

    assert answer == built_in(503, close=True, body=False)


def test_member_that_refuses_is_answered_503_and_the_client_may_go_on(rig: Rig) -> None:
    with rig.client("refused") as client:
        for _ in range(2):
            client.send(get("/"))
            assert client.read_exactly(len(built_in(503))) == built_in(503)


def test_pipelined_requests_are_all_answered_503(rig: Rig) -> None:
    with rig.client("poolless") as client:
        client.send(get("/1") + get("/2") + get("/3"))

        assert client.read_exactly(3 * len(built_in(503))) == 3 * built_in(503)


def test_post_with_complete_body_keeps_the_connection_after_503(rig: Rig) -> None:
    with rig.client("poolless") as client:
        for _ in range(2):
            client.send(post(b"x" * 100))
            answer = client.read_exactly(len(built_in(503)))
            assert answer == built_in(503)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"what?\r\n\r\n", id="no HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 0\r\n\r\n", id="blank before colon"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", id="two lengths"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", id="length is no number"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", id="negative length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: y\r\n" + b"X-Filler: " + b"y" * 20000 + b"\r\n\r\n", id="head too large"),
    ],
)
def test_member_garbage_is_answered_502(rig: Rig, answer: bytes) -> None:
    with rig.client() as client:
        client.send(get("/"))
        member = rig.accept()
        member.read_message()
        member.send(answer)

        assert client.read_message().raw in (built_in(502), built_in(502, close=True))
        assert member.ended()


def test_client_may_go_on_after_502(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/"))
        member = rig.accept()
        member.read_message()
        member.send(b"what?\r\n\r\n")
        assert client.read_exactly(len(built_in(502))) == built_in(502)

        assert exchange(client, get("/2"), rig.accept, OK).body == b"hello"


def test_connect_is_refused(rig: Rig) -> None:
    """HAProxy 2.6 would pass CONNECT on and tunnel."""
    if not rig.is_amphorad:
        pytest.skip("HAProxy 2.6 tunnels")
    with rig.client() as client:
        client.send(b"CONNECT test:80 HTTP/1.1\r\nHost: test:80\r\n\r\n")

        assert client.read_to_end() == built_in(501, close=True)
    assert rig.member.is_left_alone()


def test_response_of_a_member_with_error_status_is_not_ours_to_change(rig: Rig) -> None:
    with rig.client() as client:
        message = exchange(client, get("/"), rig.accept, response(b"mine", status="503 Busy"))

    assert message.start_line == b"HTTP/1.1 503 Busy"
    assert message.body == b"mine"
