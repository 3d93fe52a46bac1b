"""No message that two recipients may read in two ways reaches a member. `smuggling_score.py` compares with other proxies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11
import pytest

from tests.support.http_peers import OK, get, post
from tests.support.smuggling_payloads import PAYLOADS, ambiguities

if TYPE_CHECKING:
    from tests.support.http_rig import Rig

REFUSALS = (b"HTTP/1.1 400 ", b"HTTP/1.1 431 ", b"HTTP/1.1 501 ")
CHUNKED = {name: payload for name, payload in PAYLOADS.items() if name.startswith(("chunk: ", "trailer: "))}


def complete_requests(received: bytes) -> int:
    """As h11 reads them."""
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=65536)
    reader.receive_data(received)
    count = 0
    while True:
        event = reader.next_event()
        if event is h11.NEED_DATA or event is h11.PAUSED:
            return count
        count += isinstance(event, h11.EndOfMessage)


@pytest.mark.parametrize("name", PAYLOADS)
def test_payload_is_refused_and_nothing_reaches_the_member(amphorad_rig: Rig, name: str) -> None:
    with amphorad_rig.client() as client:
        client.send(PAYLOADS[name])
        if b"HTTP/" not in PAYLOADS[name]:
            client.finish()
        answer = client.read_to_end()

    assert answer.startswith(REFUSALS)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert amphorad_rig.member.is_left_alone()


@pytest.mark.parametrize("name", PAYLOADS)
def test_payload_behind_a_good_request_reaches_no_member_either(amphorad_rig: Rig, name: str) -> None:
    good = b"GET /good HTTP/1.1\r\nHost: test\r\n\r\n"
    with amphorad_rig.client() as client:
        client.send(good + PAYLOADS[name])
        member = amphorad_rig.accept()
        assert member.read_message().target == b"/good"
        member.send(OK)
        assert client.read_message().body == b"hello"

        assert client.read_to_end().startswith(REFUSALS)
    assert amphorad_rig.member.is_left_alone()
    assert member.is_silent(0)


@pytest.mark.parametrize("name", CHUNKED)
def test_payload_whose_head_came_first_leaves_an_incomplete_request(amphorad_rig: Rig, name: str) -> None:
    """The head is on its way when the body proves malformed: the member must see that the message is not complete."""
    head, end, body = CHUNKED[name].partition(b"\r\n\r\n")
    with amphorad_rig.client() as client:
        client.send(head + end)
        member = amphorad_rig.accept()
        received = member.read_until(b"\r\n\r\n")
        client.send_byte_by_byte(body[:400])
        received += member.read_to_end()

        assert client.read_to_end().startswith(REFUSALS)
    assert complete_requests(received) == 0
    assert ambiguities(received) == []
    assert b"/smuggled" not in received


@pytest.mark.parametrize("size_line", [b"5;a=" + b"b" * 5000, b"0" * 20 + b"5"], ids=["extension", "digits"])
def test_chunk_beyond_the_limits_is_refused_although_well_formed(amphorad_rig: Rig, size_line: bytes) -> None:
    with amphorad_rig.client() as client:
        client.send(get("/", "Transfer-Encoding: chunked", method="POST") + size_line + b"\r\nhello\r\n0\r\n\r\n")

        assert client.read_to_end().startswith(b"HTTP/1.1 400 ")
    assert amphorad_rig.member.is_left_alone()


@pytest.mark.parametrize("name", PAYLOADS)
def test_judge_calls_the_payload_ambiguous(name: str) -> None:
    assert ambiguities(PAYLOADS[name])


@pytest.mark.parametrize(
    "received", [get("/a?b"), post(b"hello"), get("http://test/"), get("*", method="OPTIONS"), b"GET / HT"]
)
def test_judge_has_nothing_against_clean_requests(received: bytes) -> None:
    assert ambiguities(received) == []
    assert ambiguities(post(b"x") + received) == []
    assert ambiguities(get("/", "Transfer-Encoding: chunked") + b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n" + received) == []
