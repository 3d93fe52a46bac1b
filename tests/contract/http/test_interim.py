"""1xx responses, Expect, Upgrade, and responses that come before the request is complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.http_peers import OK, chunked, exchange, get, post, pump, response

if TYPE_CHECKING:
    from tests.support.http_rig import Rig

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # HAProxy refuses shorter ones
UPGRADE = get("/ws", "Connection: keep-alive, Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}")
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: y\r\n\r\n"
)


def test_continue_passes_and_the_body_follows(rig: Rig) -> None:
    with rig.client() as client:
        client.send(b"PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        member = rig.accept()
        assert member.read_head().get("expect") == b"100-continue"
        member.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert client.read_message().start_line == b"HTTP/1.1 100 Continue"
        client.send(b"there")
        assert member.read_exactly(5) == b"there"
        member.send(OK)

        assert client.read_message().body == b"hello"
        assert exchange(client, get("/2"), lambda: member, OK).body == b"hello"


def test_continue_passes_and_the_chunked_body_follows(rig: Rig) -> None:
    with rig.client() as client:
        client.send(b"PUT / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        member = rig.accept()
        head = member.read_head()
        member.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert client.read_message().status == 100
        client.send(chunked(b"there"))
        assert member.read_until(b"0\r\n\r\n") == chunked(b"there")
        member.send(OK)

        assert client.read_message().body == b"hello"
    assert head.get("transfer-encoding") == b"chunked"


def test_expectation_refused_by_the_member_ends_without_the_body(rig: Rig) -> None:
    with rig.client() as client:
        client.send(b"PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        member = rig.accept()
        member.read_head()
        member.send(response(b"too large", "Connection: close", status="413 Payload Too Large"))
        member.close()

        message = client.read_message()

    assert message.status == 413
    assert message.body == b"too large"


def test_expectation_fulfilled_by_the_client_without_waiting(rig: Rig) -> None:
    with rig.client() as client:
        client.send(post(b"there", "Expect: 100-continue"))
        member = rig.accept()
        assert member.read_message().body == b"there"
        member.send(b"HTTP/1.1 100 Continue\r\n\r\n", OK)

        assert [client.read_message().status, client.read_message().status] == [100, 200]


def test_interim_responses_pass_before_the_final_one(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/"))
        member = rig.accept()
        member.read_message()
        member.send(
            b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\nHTTP/1.1 1",
            b"03 Early Hints\r\nLink: </b>\r\n\r\n" + OK,
        )
        messages = [client.read_message() for _ in range(4)]

        assert exchange(client, get("/2"), lambda: member, OK).body == b"hello"
    assert [message.status for message in messages] == [102, 103, 103, 200]
    assert messages[1].get("link") == b"</style.css>"


def test_interim_response_with_a_length_has_no_body(amphorad_rig: Rig) -> None:
    with amphorad_rig.client() as client:
        client.send(get("/"))
        member = amphorad_rig.accept()
        member.read_message()
        member.send(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + OK)
        interim, final = client.read_head(), client.read_message()

    assert interim.get("content-length") is None
    assert final.body == b"hello"


def test_early_response_is_delivered_although_the_body_is_not_read(rig: Rig) -> None:
    with rig.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\nfirst part")
        member = rig.accept()
        member.read_until(b"first part")
        member.send(response(b"no", "Connection: close", status="413 Payload Too Large"))

        message = client.read_message()

    assert message.status == 413
    assert message.body == b"no"
    if rig.is_amphorad:
        assert message.get("connection") == b"close"


def test_early_response_is_delivered_although_the_member_closed_and_the_client_goes_on(rig: Rig) -> None:
    with rig.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\nfirst part")
        member = rig.accept()
        member.read_until(b"first part")
        member.send(response(b"no", "Connection: close", status="413 Payload Too Large"))
        member.close()
        message = client.read_message()
        client.send(b"x" * 10)  # nobody resets the client before it could read the answer

    assert message.body == b"no"


def test_upgrade_switches_both_directions(rig: Rig) -> None:
    with rig.client() as client:
        client.send(UPGRADE)
        member = rig.accept()
        request = member.read_message()
        member.send(SWITCHING + b"first of member")
        answer = client.read_head()
        assert client.read_exactly(15) == b"first of member"
        client.send(b"\x00\r\n\r\n of client")
        assert member.read_exactly(15) == b"\x00\r\n\r\n of client"
        member.send(b"more")
        assert client.read_exactly(4) == b"more"
        client.finish()
        assert member.ended()

    assert request.get("upgrade") == b"websocket"
    assert (request.get("connection") or b"").lower() == b"upgrade"
    assert request.get("sec-websocket-key") == KEY.encode()
    assert answer.start_line == b"HTTP/1.1 101 Switching Protocols"
    assert answer.get("upgrade") == b"websocket"
    assert (answer.get("connection") or b"").lower() == b"upgrade"


def test_upgrade_ended_by_the_member_ends_the_client(rig: Rig) -> None:
    with rig.client() as client:
        client.send(UPGRADE)
        member = rig.accept()
        member.read_message()
        member.send(SWITCHING + b"bye")
        client.read_head()
        member.close()

        assert client.read_to_end() == b"bye"


def test_upgrade_forwards_nothing_before_the_member_agrees(rig: Rig) -> None:
    with rig.client() as client:
        client.send(UPGRADE + b"early bytes")
        member = rig.accept()
        member.read_message()

        assert member.is_silent()
        member.send(SWITCHING)
        assert client.read_head().status == 101
        assert member.read_exactly(11) == b"early bytes"


def test_upgrade_refused_by_the_member_is_an_ordinary_exchange(rig: Rig) -> None:
    with rig.client() as client:
        client.send(UPGRADE + get("/next"))
        member = rig.accept()
        assert member.read_message().target == b"/ws"
        member.send(response(b"no", status="426 Upgrade Required"))
        message = client.read_message()
        if not rig.is_amphorad and member.is_silent():
            member = rig.accept()
        assert member.read_message().target == b"/next"
        member.send(OK)

        assert client.read_message().body == b"hello"
    assert message.status == 426
    assert message.body == b"no"


def test_switch_nobody_asked_for_is_answered_502(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/"))
        member = rig.accept()
        member.read_message()
        member.send(SWITCHING + b"smuggled")
        message = client.read_message()

    if rig.is_amphorad:  # HAProxy 2.6 follows the member
        assert message.status == 502
        assert b"smuggled" not in message.raw
        assert member.ended()


def test_upgrade_to_cleartext_http_2_is_not_offered_to_the_member(amphorad_rig: Rig) -> None:
    """It would tunnel requests past the rules (RFC 9113 section 3.1 no longer has it)."""
    with amphorad_rig.client() as client:
        client.send(
            get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
        )
        member = amphorad_rig.accept()
        request = member.read_message()
        member.send(OK)
        assert client.read_message().body == b"hello"

    assert request.get("upgrade") is None
    assert request.get("http2-settings") is None
    assert request.get("connection") is None


def test_upgrade_carries_much_both_ways(amphorad_rig: Rig) -> None:
    amount = 5_000_000
    there, back = b"a" * amount, b"b" * amount
    with amphorad_rig.client() as client:
        client.send(UPGRADE)
        member = amphorad_rig.accept()
        member.read_message()
        member.send(SWITCHING)
        client.read_head()

        got_there, got_back = pump([(client, there), (member, back)], [(member, amount), (client, amount)])

    assert got_there == there
    assert got_back == back
