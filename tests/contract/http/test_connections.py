"""Life of the client's connection: keep-alive, HTTP/1.0, pipelining, half-close. In amphorad and HAProxy alike."""

from __future__ import annotations

import contextlib
import select
from typing import TYPE_CHECKING

import pytest

from tests.support.http_peers import OK, chunked, exchange, get, post, response

if TYPE_CHECKING:
    from tests.support.http_peers import Peer
    from tests.support.http_rig import Rig

PLAIN_1_0 = b"GET / HTTP/1.0\r\n\r\n"
HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: test\r\nX-A: " + b"y" * 100 + b"\r\nX-"
KEPT_1_0 = b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\nHost: test\r\n\r\n"


def serve_in_turn(rig: Rig, answers: list[bytes]) -> list[bytes]:
    """The member answers each request with the next answer, on whatever connection it comes; returns the targets."""
    targets: list[bytes] = []
    member: Peer | None = None
    for answer in answers:
        if member is None:
            member = rig.accept()
        targets.append(member.read_message().target)
        member.send(answer)
    return targets


def ends_while_it_sends(member: Peer) -> bool:
    """Sends piece by piece until the proxy closes."""
    for _ in range(100):
        if select.select([member.socket], [], [], 0.05)[0]:
            return True
        with contextlib.suppress(OSError):
            member.send(b"more")
    return False


def test_both_sides_are_kept_alive(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/0"))
        member = rig.accept()
        member.read_message()
        member.send(OK)
        assert client.read_message().body == b"hello"
        for turn in range(1, 6):
            client.send(get(f"/{turn}"))
            assert member.read_message().target == f"/{turn}".encode()
            member.send(response(b"%d" % turn))
            assert client.read_message().body == b"%d" % turn

    assert rig.member.is_left_alone()


def test_client_that_asks_for_close_gets_it(rig: Rig) -> None:
    with rig.client() as client:
        message = exchange(client, get("/", "Connection: close"), rig.accept, OK)
        assert client.ended()

    assert message.get("connection") == b"close"


def test_client_that_asks_for_close_does_not_end_the_member_connection_before_its_answer(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/", "Connection: close"))
        member = rig.accept()
        assert member.read_message().target == b"/"
        member.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b"hello", b"world")

        assert client.read_message().body == b"helloworld"


def test_member_that_closes_leaves_the_client_connection(rig: Rig) -> None:
    with rig.client() as client:
        for turn in range(3):
            client.send(get(f"/{turn}"))
            member = rig.accept()
            assert member.read_message().target == f"/{turn}".encode()
            member.send(response(b"ok", "Connection: close"))
            member.close()
            message = client.read_message()
            assert message.body == b"ok"
            assert message.get("connection") is None


def test_http_1_0_client_gets_http_1_1_and_the_end(rig: Rig) -> None:
    with rig.client() as client:
        client.send(PLAIN_1_0)
        member = rig.accept()
        request = member.read_message()
        member.send(OK)
        message = client.read_message()
        assert client.ended()

    assert message.body == b"hello"
    assert message.get("connection") == b"close"
    if rig.is_amphorad:  # HAProxy passes HTTP/1.0 on as it is
        assert request.start_line == b"GET / HTTP/1.1"
        assert request.get("host") == f"127.0.0.1:{rig.ports['web']}".encode()


def test_http_1_0_client_that_asks_for_keep_alive_gets_it(rig: Rig) -> None:
    with rig.client() as client:
        client.send(KEPT_1_0)
        member = rig.accept()
        assert member.read_message().get("host") == b"test"
        member.send(OK)
        first = client.read_message()
        second = exchange(client, KEPT_1_0, lambda: member, OK)

    for message in (first, second):
        assert message.body == b"hello"
        assert (message.get("connection") or b"").lower() == b"keep-alive"


def test_http_1_0_client_gets_a_chunked_response_without_chunks(rig: Rig) -> None:
    """RFC 9112 section 6.1: no Transfer-Encoding to an HTTP/1.0 client. HAProxy 2.6 sends it nevertheless."""
    if not rig.is_amphorad:
        pytest.skip("HAProxy 2.6 passes the chunks on when the member does")
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc", b"def", trailers=["X: y"])
    with rig.client() as client:
        client.send(PLAIN_1_0)
        member = rig.accept()
        member.read_message()
        member.send(answer)
        message = client.read_message()

    assert message.get("transfer-encoding") is None
    assert message.get("connection") == b"close"
    assert message.body == b"abcdef"


@pytest.mark.parametrize("chunk_bytes", [1, 7, 30000])
def test_http_1_0_client_gets_long_chunked_response_without_chunks(amphorad_rig: Rig, chunk_bytes: int) -> None:
    whole = bytes(range(256)) * 256
    if chunk_bytes == 1:
        whole = whole[:3000]
    chunks = [whole[start : start + chunk_bytes] for start in range(0, len(whole), chunk_bytes)]
    with amphorad_rig.client() as client:
        client.send(KEPT_1_0)
        member = amphorad_rig.accept()
        member.read_message()
        text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(*chunks)
        member.send(*(text[start : start + 4099] for start in range(0, len(text), 4099)))
        message = client.read_message()

    assert message.get("transfer-encoding") is None
    assert message.body == whole


def test_http_1_0_client_sees_when_a_chunked_response_breaks_off(amphorad_rig: Rig) -> None:
    """Without chunks an end looks like the end: a reset tells that it is not."""
    with amphorad_rig.client() as client:
        client.send(PLAIN_1_0)
        member = amphorad_rig.accept()
        member.read_message()
        member.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        client.read_until(b"hello")
        member.send(b"xyz\r\n")

        assert client.was_reset()


def test_http_1_0_client_gets_no_interim_response(amphorad_rig: Rig) -> None:
    """RFC 9110 section 15.2."""
    with amphorad_rig.client() as client:
        client.send(PLAIN_1_0)
        member = amphorad_rig.accept()
        member.read_message()
        member.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)

        assert client.read_message().status == 200


@pytest.mark.parametrize("split", ["at once", "byte by byte"])
def test_pipelined_requests_are_answered_in_order(rig: Rig, split: str) -> None:
    requests = get("/1") + post(b"two" * 10, target="/2") + get("/3", "Transfer-Encoding: chunked", method="PUT")
    requests += chunked(b"th", b"ree") + get("/4", method="HEAD") + get("/5", "Connection: close")
    with rig.client() as client:
        if split == "at once":
            client.send(requests)
        else:
            client.send_byte_by_byte(requests)
        targets = serve_in_turn(
            rig, [response(b"1"), response(b"2"), response(b"3"), b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", OK]
        )
        bodies = [client.read_message(method).body for method in ("GET", "POST", "PUT", "HEAD", "GET")]
        assert client.ended()

    assert targets == [b"/1", b"/2", b"/3", b"/4", b"/5"]
    assert bodies == [b"1", b"2", b"3", b"", b"hello"]


def test_pipelined_request_waits_for_the_response_before_it(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/1") + get("/2"))
        member = rig.accept()
        member.read_message()

        assert member.is_silent()
        assert rig.member.is_left_alone()
        member.send(response(b"1"))
        assert member.read_message().target == b"/2"
        member.send(response(b"2"))
        assert [client.read_message().body, client.read_message().body] == [b"1", b"2"]


def test_forty_pipelined_requests_are_all_answered(rig: Rig) -> None:
    with rig.client() as client:
        client.send(b"".join(get(f"/{number}") for number in range(40)))
        targets = serve_in_turn(rig, [response(b"%d" % number) for number in range(40)])
        bodies = [client.read_message().body for _ in range(40)]

    assert targets == [b"/%d" % number for number in range(40)]
    assert bodies == [b"%d" % number for number in range(40)]


def test_pipelined_garbage_is_refused_after_the_responses_before_it(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/1") + b"garbage\r\n\r\n")
        member = rig.accept()
        member.read_message()
        member.send(response(b"1"))
        assert client.read_message().body == b"1"

        assert client.read_to_end().startswith(b"HTTP/1.1 400 Bad request\r\n")


@pytest.mark.parametrize("request_sent", [get("/"), post(b"body")], ids=["GET", "POST"])
def test_client_that_ends_its_direction_gets_its_response(rig: Rig, request_sent: bytes) -> None:
    with rig.client() as client:
        client.send(request_sent)
        client.finish()
        member = rig.accept()
        member.read_message()
        member.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", b"world")

        assert client.read_message().body == b"helloworld"
        assert client.ended()


@pytest.mark.parametrize("parts", [(HALF_A_HEAD,), (HALF_A_HEAD[:40], HALF_A_HEAD[40:])], ids=["in one", "in two"])
def test_client_that_ends_inside_its_head_is_let_go_at_once(rig: Rig, parts: tuple[bytes, ...]) -> None:
    for _ in range(20):  # the end and the bytes before it may come in one event or in two
        with rig.client() as client:
            client.send(*parts)
            client.finish()

            assert client.read_to_end()[:12] in (b"", b"HTTP/1.1 400")


def test_client_that_ends_inside_its_body_ends_the_member_connection(rig: Rig) -> None:
    with rig.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhello")
        member = rig.accept()
        member.read_until(b"hello")
        client.finish()

        assert member.ended()


def test_client_that_leaves_while_the_member_works_costs_no_more_than_the_answer(rig: Rig) -> None:
    """Neither proxy cancels a request at the member (no `option abortonclose`); both end at the first failing send."""
    with rig.client() as client:
        client.send(get("/"))
        member = rig.accept()
        member.read_message()
        client.reset()
        member.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhello")

        assert ends_while_it_sends(member)


def test_client_that_leaves_inside_a_response_ends_the_member_connection(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/"))
        member = rig.accept()
        member.read_message()
        member.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhello")
        client.read_until(b"hello")
        client.reset()

        assert ends_while_it_sends(member)


def test_body_longer_than_its_length_is_the_next_request(rig: Rig) -> None:
    with rig.client() as client:
        client.send(post(b"1234") + b"GARBAGE")
        member = rig.accept()
        assert member.read_message().body == b"1234"
        member.send(OK)
        assert client.read_message().body == b"hello"
        client.send(b"\r\n\r\n")

        assert client.read_to_end().startswith(b"HTTP/1.1 400 ")
        assert member.is_silent() or member.ended()
