"""Heads as they are forwarded."""

from __future__ import annotations

import pytest

from tests.support.http1_heads import parse_ok, parse_response_ok, request, response


def test_write_request_keeps_order_and_bytes_of_kept_lines() -> None:
    head = parse_ok(request("X-A:  1 ", "Connection: x-b", "X-B: 2", "Keep-Alive: 3", "X-C:\t\xe9", "TE: trailers"))

    assert head.write() == b"GET / HTTP/1.1\r\nhost: h\r\nx-a:  1 \r\nx-c:\t\xe9\r\n\r\n"


def test_write_head_without_fields_is_start_line_and_empty_line() -> None:
    assert parse_ok(request(host=None, start="GET / HTTP/1.0")).write() == b"GET / HTTP/1.1\r\n\r\n"


def test_write_head_sends_chunked_in_lower_case() -> None:
    """Some recipients compare bytes; RFC 9112 section 7 says case-insensitive."""
    expected = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"

    assert parse_response_ok(response("Transfer-Encoding: cHUNked")).write() == expected


def test_write_head_with_all_fields_dropped() -> None:
    assert parse_response_ok(response("Connection: close", "Keep-Alive: 1")).write() == b"HTTP/1.1 200 OK\r\n\r\n"


def test_write_head_puts_extra_lines_last() -> None:
    head = parse_ok(request("A: b", "Connection: close"))

    assert head.write(b"x-forwarded-for: 1.2.3.4\r\n") == (
        b"GET / HTTP/1.1\r\nhost: h\r\na: b\r\nx-forwarded-for: 1.2.3.4\r\n\r\n"
    )


@pytest.mark.parametrize("target", ["http://h/a?b", "HTTPS://h:443", "/a", "//a", "/?"])
def test_write_request_keeps_target_as_received(target: str) -> None:
    assert (
        parse_ok(request(start=f"GET {target} HTTP/1.0")).write()
        == f"GET {target} HTTP/1.1\r\nhost: h\r\n\r\n".encode()
    )


@pytest.mark.parametrize(
    ("start", "written"),
    [
        ("HTTP/1.0 200 OK", b"HTTP/1.1 200 OK\r\n"),
        ("HTTP/1.1 204 ", b"HTTP/1.1 204 \r\n"),
        ("HTTP/1.0 404", b"HTTP/1.1 404 \r\n"),
    ],
)
def test_write_response_sends_own_version_and_the_space_before_the_reason(start: str, written: bytes) -> None:
    """RFC 9112 2.3 and section 4."""
    assert parse_response_ok(response("A: b", start=start)).write() == written + b"a: b\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [response("A: b", start="HTTP/1.1 200"), response("Connection: c", "A: b"), response("A: b", "Connection: c")],
)
def test_write_head_needs_exactly_its_room(data: bytes) -> None:
    head = parse_response_ok(data)
    full = head.write(b"x: y\r\n")
    assert full is not None

    assert head.write(b"x: y\r\n", len(full)) == full
    assert [head.write(b"x: y\r\n", room) for room in range(len(full))] == [None] * len(full)
