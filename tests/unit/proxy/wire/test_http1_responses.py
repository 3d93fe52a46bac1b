"""Response heads: status line and limits. Field lines share the code of requests (test_http1.py)."""

from __future__ import annotations

import pytest

from amphorad.proxy.wire.http1 import parse_response_head
from tests.support.http1_heads import BAD, COMPLETE, NEED_MORE, TOO_LARGE, parse_response_ok, response


@pytest.mark.parametrize(
    ("start", "status", "minor"),
    [
        ("HTTP/1.1 200 OK", 200, 1),
        ("HTTP/1.0 404 Not Found", 404, 0),
        ("HTTP/1.1 200 ", 200, 1),
        ("HTTP/1.1 200", 200, 1),
        ("HTTP/1.1 100 Continue", 100, 1),
        ("HTTP/1.1 599 x", 599, 1),
        ("HTTP/1.1 200 a\tb  \xe9\xff ", 200, 1),
        ("HTTP/1.1 200  OK", 200, 1),
    ],
)
def test_parse_response_valid_status_line_is_complete(start: str, status: int, minor: int) -> None:
    head = parse_response_ok(response("Content-Length: 0", start=start))

    assert (head.status, head.minor, head.start_line) == (status, minor, start.encode("latin-1") + b"\r\n")


@pytest.mark.parametrize(
    "start",
    [
        "HTTP/1.1", "HTTP/1.1 ", "HTTP/1.1 20", "HTTP/1.1 2000", "HTTP/1.1 200x", "HTTP/1.1  200 OK", "HTTP/1.1\t200 OK",
        "HTTP/1.1 200\tOK", "HTTP/1.1 099 x", "HTTP/1.1 000 x", "HTTP/1.1 600 x", "HTTP/1.1 999 x", "HTTP/1.1 -20 x",
        "HTTP/1.1 +20 x", "HTTP/1.1 2 0 x", "HTTP/1.2 200 OK", "HTTP/2.0 200 OK", "HTTP/2 200", "HTTP/1.1x200 OK", "http/1.1 200 OK",
        " HTTP/1.1 200 OK", "ICY 200 OK", "200 OK", "", "HTTP/1.1 200 O\x00K", "HTTP/1.1 200 O\x0bK", "HTTP/1.1 200 O\x7fK",
        "HTTP/1.1 200 O\rK", "HTTP/1.1 200 O\nK", "HTTP/1.1 200\r", "HTTP/1.1 200\n", "<html>", "\x15\x03\x01\x00\x02",
    ],
)  # fmt: skip
def test_parse_response_bad_status_line_is_refused(start: str) -> None:
    assert parse_response_head(response("A: b", start=start)).result == BAD


@pytest.mark.parametrize(
    "line",
    ["A : b", " A: b", "\tA: b", ": b", "A", "A: b\x00", "A: b\n", "A: b\rc", "A: b\r\n c", "\xe9: b", "A: b\x7f"],
)
def test_parse_response_bad_field_line_is_refused(line: str) -> None:
    assert parse_response_head(response("B: c", line)).result == BAD
    assert parse_response_head(response(line, "B: c")).result == BAD


def test_parse_response_every_proper_prefix_needs_more() -> None:
    data = response("Content-Length: 5", "Connection: a, b", "Set-Cookie: a=b")

    assert [parse_response_head(data[:n]).result for n in range(len(data))] == [NEED_MORE] * len(data)


def test_parse_response_beyond_limit_is_refused() -> None:
    data = response("A: " + "b" * 50)

    assert parse_response_head(data, limit=len(data)).result == COMPLETE
    assert parse_response_head(data, limit=len(data) - 1).result == TOO_LARGE
    assert parse_response_head(b"HTTP/1.1 200 " + b"a" * 50, limit=50).result == TOO_LARGE


def test_parse_response_fields_are_not_host_checked() -> None:
    assert parse_response_ok(response("Host: a b", "Host: c", "Content-Length: 0")).body == "none"


def test_parse_response_early_garbage_is_refused_at_once() -> None:
    assert parse_response_head(b"SSH-2.0-OpenSSH").result == BAD
    assert parse_response_head(b"HTTP/1.1 2x").result == BAD
