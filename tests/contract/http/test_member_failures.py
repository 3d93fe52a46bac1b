"""A member that ends its connection at each step of a response, refuses, or sends what it should not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.http.test_answers import built_in
from tests.support.http_peers import OK, chunked, exchange, get, post

if TYPE_CHECKING:
    from tests.support.http_peers import Peer
    from tests.support.http_rig import Rig

ENDS = ("close", "finish", "reset")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"


def end(peer: Peer, how: str) -> None:
    getattr(peer, how)()


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 100 Continue\r\n\r\n"],
    ids=["before the head", "in the status line", "in the head", "after an interim response"],
)  # fmt: skip
def test_member_ends_before_its_head_is_complete_502(rig: Rig, how: str, sent: bytes) -> None:
    with rig.client() as client:
        client.send(get("/"))
        member = rig.accept()
        member.read_message()
        if sent:
            member.send(sent)
        end(member, how)
        answer = client.read_head()
        if answer.status == 100:
            answer = client.read_head()

    # a reset may also take the part of the head with it
    assert answer.status == 502
    assert answer.raw == built_in(502, body=False)


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize(
    "sent",
    [LENGTH + b"hello", CHUNKED, CHUNKED + b"5", CHUNKED + b"5\r\nhel", CHUNKED + b"5\r\nhello", CHUNKED + b"5\r\nhello\r\n",
     CHUNKED + b"5\r\nhello\r\n0\r\n", CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n"],
    ids=["in the body", "before a chunk", "in a size", "in a chunk", "behind a chunk", "between chunks",
         "before the trailers", "in the trailers"],
)  # fmt: skip
def test_member_ends_inside_its_body_ends_the_client(rig: Rig, how: str, sent: bytes) -> None:
    with rig.client() as client:
        client.send(get("/"))
        member = rig.accept()
        member.read_message()
        member.send(sent)
        head = client.read_head()
        end(member, how)
        rest = client.read_to_end()

    assert head.status == 200
    body = sent.partition(b"\r\n\r\n")[2]
    if rig.is_amphorad:
        assert body.startswith(rest)
    assert not rest.endswith(b"0\r\n\r\n")
    assert len(rest) < 10 or head.get("content-length") is None


def test_member_that_resets_a_body_without_length_does_not_look_complete(amphorad_rig: Rig) -> None:
    with amphorad_rig.client() as client:
        client.send(get("/"))
        member = amphorad_rig.accept()
        member.read_message()
        member.send(b"HTTP/1.1 200 OK\r\n\r\npart")
        client.read_until(b"part")
        member.reset()

        assert client.was_reset()


def test_member_sends_a_broken_chunk_ends_the_client(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/"))
        member = rig.accept()
        member.read_message()
        member.send(CHUNKED + b"5\r\nhello\r\n")
        client.read_until(b"hello\r\n")
        member.send(b"xyz\r\nwhat\r\n0\r\n\r\n")

        rest = client.read_to_end()

    assert b"0\r\n\r\n" not in rest
    assert member.ended()


def test_member_sends_more_than_its_length_and_is_not_used_again(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/1"))
        first = rig.accept()
        first.read_message()
        first.send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        assert client.read_message().body == b"hello"

        assert exchange(client, get("/2"), rig.accept, OK).body == b"hello"
        assert first.ended()


def test_member_says_something_on_an_idle_connection_and_is_not_used_again(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/1"))
        first = rig.accept()
        first.read_message()
        first.send(OK)
        assert client.read_message().body == b"hello"
        first.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        assert first.ended()

        assert exchange(client, get("/2"), rig.accept, OK).body == b"hello"


@pytest.mark.parametrize("body", [b"", b"body"], ids=["GET", "POST"])
def test_refusing_members_are_left_for_the_one_that_answers(rig: Rig, body: bytes) -> None:
    """`retries 3` and `option redispatch` (Octavia contract section 4.4)."""
    for _ in range(3):  # round robin begins with another one each time
        with rig.client("redispatch") as client:
            client.send(post(body) if body else get("/"))
            member = rig.accept()
            assert member.read_message().body == body
            member.send(OK)

            assert client.read_message().body == b"hello"


def test_member_that_does_not_read_is_answered_504(rig: Rig) -> None:
    with rig.client("quick") as client:
        client.send(post(b"x" * 200_000))
        member = rig.accept()

        assert client.read_head().raw == built_in(504, body=False)
    assert member.read_to_end()


def test_member_that_stops_inside_its_body_is_cut_off(rig: Rig) -> None:
    with rig.client("quick") as client:
        client.send(get("/"))
        member = rig.accept()
        member.read_message()
        member.send(LENGTH + b"hello")

        assert client.read_until(b"hello")
        assert client.ended()
        assert member.ended()


@pytest.mark.parametrize("is_split", [False, True])
def test_trailers_of_a_member_that_would_change_framing_do_not_pass(amphorad_rig: Rig, is_split: bool) -> None:
    with amphorad_rig.client() as client:
        client.send(get("/"))
        member = amphorad_rig.accept()
        member.read_message()
        member.send(CHUNKED)
        if is_split:
            assert client.read_head().status == 200
        member.send(chunked(b"hello", trailers=["Content-Length: 3"]))
        assert member.ended()

        if is_split or (head := client.read_head()).status == 200:
            assert b"0\r\n" not in client.read_to_end()
        else:  # it came as one: nothing was sent yet
            assert head.status == 502
