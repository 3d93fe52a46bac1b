"""What a request and a response look like on the other side, in amphorad and in HAProxy alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.http_peers import OK, Message, chunked, exchange, get, post, response

if TYPE_CHECKING:
    from tests.support.http_rig import Rig


def forwarded(rig: Rig, request: bytes, listener: str = "web") -> Message:
    """The request as the member gets it."""
    with rig.client(listener) as client:
        client.send(request)
        member = rig.accept()
        message = member.read_message()
        member.send(OK)
        assert client.read_message().body == b"hello"
    return message


def returned(rig: Rig, answer: bytes, request: bytes | None = None, method: str = "GET") -> Message:
    """The response as the client gets it."""
    with rig.client() as client:
        return exchange(client, request or get("/", method=method), rig.accept, answer, method)


def test_request_line_is_kept(rig: Rig) -> None:
    message = forwarded(rig, get("/a//b/../c;d?e=f&g=%20%2F", method="DELETE"))

    assert message.start_line == b"DELETE /a//b/../c;d?e=f&g=%20%2F HTTP/1.1"


def test_request_with_unknown_method_is_passed_on(rig: Rig) -> None:
    assert forwarded(rig, get("/", method="PROPFIND")).start_line == b"PROPFIND / HTTP/1.1"


def test_request_names_become_lower_case_in_the_order_received(rig: Rig) -> None:
    message = forwarded(rig, get("/", "X-B: 1", "ACCEPT: */*", "x-A: Mixed Case", "X-b: 2"))

    assert message.fields == [
        (b"host", b"test"),
        (b"x-b", b"1"),
        (b"accept", b"*/*"),
        (b"x-a", b"Mixed Case"),
        (b"x-b", b"2"),
    ]


def test_response_names_become_lower_case_in_the_order_received(rig: Rig) -> None:
    message = returned(rig, response(b"ok", "X-B: 1", "Set-Cookie: a=b", "SET-COOKIE: c=d", "X-b: 2"))

    assert message.fields[:4] == [(b"x-b", b"1"), (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d"), (b"x-b", b"2")]


def test_blanks_around_values_are_not_part_of_them(rig: Rig) -> None:
    message = forwarded(rig, get("/", "X-A:  \t one  two \t", "X-Empty:", "X-Blank:   "))

    assert message.fields[1:] == [(b"x-a", b"one  two"), (b"x-empty", b""), (b"x-blank", b"")]


def test_octets_above_ascii_in_values_are_kept(rig: Rig) -> None:
    message = forwarded(rig, b"GET / HTTP/1.1\r\nHost: test\r\nX-A: \xc3\xa9\xff\x80\r\n\r\n")

    assert message.get("x-a") == b"\xc3\xa9\xff\x80"


def test_reason_phrase_is_kept(rig: Rig) -> None:
    assert returned(rig, response(b"", status="299 All Is  Well")).start_line == b"HTTP/1.1 299 All Is  Well"


def test_connection_fields_do_not_pass(rig: Rig) -> None:
    """RFC 9110 section 7.6.1."""
    message = forwarded(
        rig, get("/", "Connection: keep-alive", "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive")
    )

    assert message.get("connection") is None
    if rig.is_amphorad:  # HAProxy 2.6 passes these on
        assert message.get("keep-alive") is None
        assert message.get("proxy-connection") is None


def test_forwarding_fields_are_appended_and_replaced(rig: Rig) -> None:
    """Octavia contract section 4.10.3."""
    sent = get("/", "X-Forwarded-For: 9.9.9.9", "X-Forwarded-Port: 1", "X-FORWARDED-PROTO: gopher", "X-Last: 1")

    message = forwarded(rig, sent, "forwarding")

    assert message.fields == [
        (b"host", b"test"),
        (b"x-forwarded-for", b"9.9.9.9"),
        (b"x-last", b"1"),
        (b"x-forwarded-port", str(rig.ports["forwarding"]).encode()),
        (b"x-forwarded-proto", b"http"),
        (b"x-forwarded-for", b"127.0.0.1"),
    ]


def test_forwarding_field_repeated_by_the_client_is_replaced_once(rig: Rig) -> None:
    message = forwarded(rig, get("/", "X-Forwarded-Proto: a", "x-forwarded-proto: b"), "forwarding")

    assert message.get_all("x-forwarded-proto") == [b"http"]


@pytest.mark.parametrize("method", ["POST", "PUT", "GET", "DELETE"])
def test_request_body_with_length_arrives(rig: Rig, method: str) -> None:
    message = forwarded(rig, post(b"a=b&c=d", method=method))

    assert message.body == b"a=b&c=d"
    assert message.get("content-length") == b"7"


def test_request_body_of_length_zero_keeps_its_length(rig: Rig) -> None:
    assert forwarded(rig, post(b"")).get("content-length") == b"0"


def test_request_body_chunked_arrives_chunked_with_its_trailers(rig: Rig) -> None:
    body = chunked(b"abc", b"defgh", trailers=["X-Checksum: 1", "x-more: 2"])

    message = forwarded(rig, get("/", "Transfer-Encoding: chunked", "Trailer: X-Checksum", method="POST") + body)

    assert message.get("transfer-encoding") == b"chunked"
    assert message.get("content-length") is None
    assert message.body == b"abcdefgh"
    assert [(name.lower(), value) for name, value in message.trailers] == [(b"x-checksum", b"1"), (b"x-more", b"2")]


def test_request_chunk_extensions_are_accepted(rig: Rig) -> None:
    body = b'3;name=value;q="a;b"\r\nabc\r\n0;last\r\n\r\n'

    assert forwarded(rig, get("/", "Transfer-Encoding: chunked", method="POST") + body).body == b"abc"


def test_response_chunked_arrives_chunked_with_its_trailers(rig: Rig) -> None:
    body = chunked(b"abc", b"x" * 300, b"z", trailers=["X-Checksum: 1"])

    message = returned(rig, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)

    assert message.get("transfer-encoding") == b"chunked"
    assert message.body == b"abc" + b"x" * 300 + b"z"
    assert [(name.lower(), value) for name, value in message.trailers] == [(b"x-checksum", b"1")]


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_response_without_body_leaves_the_connection_open(rig: Rig, status: str) -> None:
    with rig.client() as client:
        client.send(get("/1"))
        member = rig.accept()
        member.read_message()
        member.send(f"HTTP/1.1 {status}\r\nETag: x\r\n\r\n".encode())
        assert client.read_message().get("etag") == b"x"

        second = exchange(client, get("/2"), lambda: member, OK)

    assert second.body == b"hello"


def test_response_304_keeps_its_length_which_is_no_body(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/1"))
        member = rig.accept()
        member.read_message()
        member.send(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\n\r\n")
        assert client.read_head().get("content-length") == b"5000"

        second = exchange(client, get("/2"), lambda: member, OK)

    assert second.body == b"hello"


def test_response_to_head_has_its_length_and_no_body(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/1", method="HEAD"))
        member = rig.accept()
        assert member.read_message().start_line == b"HEAD /1 HTTP/1.1"
        member.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        assert client.read_message("HEAD").get("content-length") == b"5000"

        second = exchange(client, get("/2"), lambda: member, OK)

    assert second.body == b"hello"


def test_response_to_head_may_be_chunked_without_chunks(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/1", method="HEAD"))
        member = rig.accept()
        member.read_message()
        member.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert client.read_message("HEAD").get("transfer-encoding") == b"chunked"

        second = exchange(client, get("/2"), lambda: member, OK)

    assert second.body == b"hello"


def test_response_without_length_ends_with_the_connection(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/"))
        member = rig.accept()
        member.read_message()
        member.send(b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n", b"part one,", b" part two")
        member.close()
        message = client.read_message()
        assert client.ended()

    assert message.body == b"part one, part two"
    assert message.get("connection") == b"close"


def test_response_of_http_1_0_member_does_not_close_the_client(rig: Rig) -> None:
    message = returned(rig, response(b"old", version="1.0"))

    # the version is the sender's own (RFC 9112 section 2.3); HAProxy 2.6 leaves the member's
    assert message.start_line == (b"HTTP/1.1 200 OK" if rig.is_amphorad else b"HTTP/1.0 200 OK")
    assert message.body == b"old"
    assert message.get("connection") in (None, b"keep-alive")


def test_response_byte_by_byte_arrives_whole(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/"))
        member = rig.accept()
        member.read_message()
        member.send_byte_by_byte(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"slow", b"er"))

        message = client.read_message()

    assert message.body == b"slower"


def test_absolute_form_reaches_the_member_with_its_host(rig: Rig) -> None:
    """RFC 9112 section 3.2.2: Host follows the target."""
    request = b"GET http://test/path?q HTTP/1.1\r\nHost: test\r\n\r\n"

    message = forwarded(rig, request)

    assert message.target in (b"http://test/path?q", b"/path?q")
    assert message.get("host") == b"test"


def test_options_asterisk_is_passed_on(rig: Rig) -> None:
    assert forwarded(rig, get("*", method="OPTIONS")).start_line == b"OPTIONS * HTTP/1.1"


def test_empty_lines_before_a_request_are_skipped(rig: Rig) -> None:
    """RFC 9112 section 2.2."""
    assert forwarded(rig, b"\r\n" + get("/x")).target == b"/x"
