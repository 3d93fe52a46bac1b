"""Request heads: start line, targets, Host, field lines, limits."""

from __future__ import annotations

import pytest

from amphorad.proxy.wire.http1 import FIELDS_LIMIT, parse_request_head
from tests.support.http1_heads import BAD, COMPLETE, NEED_MORE, NOT_IMPLEMENTED, TOO_LARGE, TOO_LONG, parse_ok, request


def test_parse_request_plain_fills_offsets() -> None:
    head = parse_ok(b"GET /a/b?c=/d HTTP/1.1\r\nHost: Example.com:80\r\nX-Two:  two words\t \r\nEmpty:\r\n\r\nrest")

    assert (head.method, head.target, head.path, head.minor) == (b"GET", b"/a/b?c=/d", b"/a/b", 1)
    assert head.fields == [(b"host", b"Example.com:80", False), (b"x-two", b"two words", False), (b"empty", b"", False)]
    assert head.host == b"Example.com:80"
    assert (head.body, head.content_length, head.flags) == ("none", 0, frozenset())
    assert head.length == len(head.data) - len(b"rest")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_parse_request_known_method_has_its_id(method: str) -> None:
    names = ["", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT"]

    assert names[parse_ok(request(start=f"{method} / HTTP/1.1")).method_id] == method


@pytest.mark.parametrize("method", ["get", "PROPFIND", "M-SEARCH", "X" * 32, "GETT", "GE", "!#$%&'*+-.^_`|~"])
def test_parse_request_other_method_is_forwarded_without_id(method: str) -> None:
    head = parse_ok(request(start=f"{method} / HTTP/1.1"))

    assert (head.method, head.method_id) == (method.encode(), 0)


@pytest.mark.parametrize(
    "start",
    [
        " GET / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET / HTTP/1.1\t",
        "GET /",
        "GET",
        "GET  HTTP/1.1",
        "GET / HTTP/1.2",
        "GET / HTTP/1.9",
        "GET / HTTP/2.0",
        "GET / HTTP/0.9",
        "GET / HTTP/1.10",
        "GET / HTTP/1.",
        "GET / HTTP/1",
        "GET / http/1.1",
        "GET / HTTP/01.1",
        "GET / HTTP/1,1",
        "GET / HTTPS/1.1",
        "G@T / HTTP/1.1",
        "G(T / HTTP/1.1",
        "GÉT / HTTP/1.1",
        "X" * 33 + " / HTTP/1.1",
        "PRI * HTTP/2.0",
        "\x16\x03\x01\x02\x00\x01\x00\x01",
        "GET /a b HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET /# HTTP/1.1",
        "GET # HTTP/1.1",
        "GET /\xe9 HTTP/1.1",
        "GET /\x00 HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET /\x0b HTTP/1.1",
        "GET /long-enough-for-the-vector-loop-\x01-of-the-scan HTTP/1.1",
        "GET /long-enough-for-the-vector-loop-#-of-the-scan HTTP/1.1",
        "GET /long-enough-for-the-vector-loop-\x80-of-the-scan HTTP/1.1",
        "GET index.html HTTP/1.1",
        "GET ?a HTTP/1.1",
        "GET * HTTP/1.1",
        "POST * HTTP/1.1",
        "OPTIONS ** HTTP/1.1",
        "OPTIONS *?a HTTP/1.1",
        "GET h:80 HTTP/1.1",
        "GET ftp://h/ HTTP/1.1",
        "GET http:/h/ HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET http:/// HTTP/1.1",
        "GET http://?a HTTP/1.1",
        "GET http://:80/ HTTP/1.1",
        "GET http://user@h/ HTTP/1.1",
        "GET http://user:pw@h/ HTTP/1.1",
        "GET http://h\\@evil/ HTTP/1.1",
        "GET http://h:x/ HTTP/1.1",
        "GET //h HTTP/1.1 HTTP/1.1",
    ],
)
def test_parse_request_bad_start_line_is_400(start: str) -> None:
    assert parse_request_head(request(start=start)).result == BAD


def test_parse_request_connect_is_501() -> None:
    assert parse_request_head(request(start="CONNECT h:443 HTTP/1.1")).result == NOT_IMPLEMENTED


def test_parse_request_asterisk_with_options_has_path_asterisk() -> None:
    assert parse_ok(request(start="OPTIONS * HTTP/1.1")).path == b"*"


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        ("http://h", "h", b"/"),
        ("http://h/", "h", b"/"),
        ("http://h?q=/x", "h", b"/"),
        ("HTTP://H/a?b", "h", b"/a"),
        ("https://h/a", "H", b"/a"),
        ("http://h:80/a", "h", b"/a"),
        ("http://h/a", "h:80", b"/a"),
        ("https://h:443/a", "h", b"/a"),
        ("http://h:/a", "h", b"/a"),
        ("http://h:8080/a", "h:8080", b"/a"),
        ("http://[::1]:81/a", "[::1]:81", b"/a"),
    ],
)
def test_parse_request_absolute_form_agreeing_with_host_is_complete(target: str, host: str, path: bytes) -> None:
    head = parse_ok(request(start=f"GET {target} HTTP/1.1", host=host))

    assert (head.target, head.path) == (target.encode(), path)


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("http://h/", "g"),
        ("http://h/", ""),
        ("http://h:81/", "h"),
        ("http://h/", "h:443"),
        ("https://h/", "h:80"),
        ("https://h/", "h:8443"),
        ("http://h.evil/", "h"),
        ("http://h/", "h.evil"),
        ("http://h/", None),
    ],
)
def test_parse_request_absolute_form_against_host_is_400(target: str, host: str | None) -> None:
    """RFC 9112 3.2.2; refused where the RFC lets a proxy choose."""
    assert parse_request_head(request(start=f"GET {target} HTTP/1.1", host=host)).result == BAD


def test_parse_request_absolute_form_http_1_0_needs_no_host() -> None:
    assert parse_ok(request(start="GET http://h/a HTTP/1.0", host=None)).host is None


@pytest.mark.parametrize(
    "host",
    [
        "", "h", "H.example.", "a-b_c.example:8080", "h:", "h:0", "h:65535", "192.0.2.1", "192.0.2.1:80", "[::]", "[::1]:80",
        "[2001:db8::1]", "[1:2:3:4:5:6:7:8]", "[::ffff:192.0.2.1]", "[1::]", "[1:2:3:4:5:6:7::]", "[::2:3:4:5:6:7:8]",
        "[1:2:3:4:5:6:1.2.3.4]", "%41.example", "h~!$&'()*+;=",
    ],
)  # fmt: skip
def test_parse_request_valid_host_is_complete(host: str) -> None:
    assert parse_ok(request(host=host)).host == host.encode()


@pytest.mark.parametrize(
    "host",
    [
        "a b", "a,b", "a, b", "user@h", "h/", "h/a", "h?", "h#", "h\\", "http://h", "h:65536", "h:99999", "h:100000", "h:000080",
        "h:-1", "h:+1", "h:8o", "h: 80", "h :80", "h:80:80", ":80", ":", "[", "]", "[]", "[:]", "[::1", "::1", "[::1]x", "[::1]80",
        "[:1]", "[1:]", "[1:2]", "[1::2::3]", "[:::]", "[12345::]", "[1:2:3:4:5:6:7:8:9]", "[1:2:3:4:5:6:7:8::]", "[g::]",
        "[fe80::1%25eth0]", "[v1.a]", "[::1.2.3]", "[::1.2.3.4.5]", "[::256.1.1.1]", "[::01.1.1.1]", "[1.2.3.4]", "[::1.2.3.4:1]",
        "%", "%4", "%4g", "%zz", "h<", "h>", "h\"", "h^", "h`", "h{", "h|", "h}", "h\xe9", "h\tg",
    ],
)  # fmt: skip
def test_parse_request_invalid_host_is_400(host: str) -> None:
    """RFC 9112 3.2."""
    assert parse_request_head(request(host=host)).result == BAD


def test_parse_request_host_is_needed_in_http_1_1_only() -> None:
    assert parse_request_head(request(host=None)).result == BAD
    assert parse_ok(request(host=None, start="GET / HTTP/1.0")).host is None


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("second", ["Host: h", "HOST: h", "host: g", "Host:"])
def test_parse_request_two_hosts_are_400(version: str, second: str) -> None:
    assert parse_request_head(request(second, start=f"GET / HTTP/{version}")).result == BAD


@pytest.mark.parametrize(
    "line",
    [
        b"A : b", b"A\t: b", b" A: b", b"\tA: b", b": b", b":", b"A", b"A b: c", b"A\x00: b", b"A\x0b: b", b"\x0bA: b", b"A\x80: b",
        b"\xc3\xa9: b", b"A(: b", b"A[: b", b"A\"b: c", b"A@b: c", b"A/b: c", b"A,b: c", b"A=b: c", b"A;b: c", b"A\\: c", b"{A}: c",
        b"A: b\x00", b"A: \x00b", b"A: b\x01c", b"A: b\x0bc", b"A: b\x0cc", b"A: b\x1f", b"A: b\x7f", b"A: b\rc", b"A: b\nc",
        b"A: b\r", b"A: b\n", b"A: \r\r\n", b"A: b\r\r", b"A\r: b", b"A\n: b", b"A: b\r\n c", b"A: b\r\n\tc", b"A: b\r\n ", b"\r",
        b"\n", b"\rA: b", b"\nA: b", b"A:\r\n b", b"A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\x00cccccccccccccccccccccccc",
        b"A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\x7fcccccccccccccccccccccccc",
        b"A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\x1fcccccccccccccccccccccccc",
        b"A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\ncccccccccccccccccccccccc",
        b"A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\rcccccccccccccccccccccccc",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_parse_request_bad_field_line_is_400(line: bytes, place: str) -> None:
    """RFC 9112 2.2, 5.1, 5.2; RFC 9110 5.5."""
    others = {"first": ([], ["Host: h"]), "middle": (["Host: h"], ["Z: z"]), "last": (["Host: h"], [])}
    before, after = others[place]

    assert parse_request_head(request(*before, line, *after, host=None)).result == BAD


@pytest.mark.parametrize("value", [b"\x80\xff\xe9", b"a\tb", b'"q\\""', b"a:b:c", b"=?%#", b"~" * 100, b"\x80" * 33])
def test_parse_request_allowed_bytes_in_value_are_kept(value: bytes) -> None:
    assert parse_ok(request(b"A: " + value)).fields[1] == (b"a", value, False)


@pytest.mark.parametrize("line", [b"A:b", b"A: b", b"A:\tb\t", b"A:    b", b"A: b \t \t"])
def test_parse_request_blanks_around_value_are_not_part_of_it(line: bytes) -> None:
    assert parse_ok(request(line)).fields[1] == (b"a", b"b", False)


@pytest.mark.parametrize("byte", [*range(0x09), *range(0x0A, 0x20), 0x7F])
@pytest.mark.parametrize("length", [0, 7, 15, 16, 40])
def test_parse_request_control_character_in_value_is_400(byte: int, length: int) -> None:
    value = b"x" * length + bytes([byte]) + b"y" * 20

    assert parse_request_head(request(b"A: " + value)).result == BAD


def test_parse_request_name_bytes_are_exactly_the_token_characters() -> None:
    """RFC 9110 5.6.2."""
    tokens = set(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")

    accepted = {c for c in range(256) if parse_request_head(request(b"n" + bytes([c]) + b"n: v")).result == COMPLETE}

    assert accepted == tokens | {ord(":")}  # "n:n: v" is the field n with the value "n: v"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: h\r\n\r\n", b"GET / HTTP/1.1\r\nHost: h\n\r\n", b"GET / HTTP/1.1\r\nHost: h\r\n\n",
        b"GET / HTTP/1.1\nHost: h\n\n", b"GET / HTTP/1.1\rHost: h\r\r", b"GET / HTTP/1.1\r\nHost: h\r\r\n",
        b"GET / HTTP/1.1\r\r\nHost: h\r\n\r\n", b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", b"\r\rGET / HTTP/1.1\r\n",
        b" \r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
    ],
)  # fmt: skip
def test_parse_request_bare_cr_or_lf_is_400(data: bytes) -> None:
    assert parse_request_head(data).result == BAD


@pytest.mark.parametrize("count", [1, 2, 4])
def test_parse_request_empty_lines_before_it_are_skipped(count: int) -> None:
    """RFC 9112 2.2."""
    head = parse_ok(b"\r\n" * count + request("A: b"))

    assert (head.skipped, head.method, head.length) == (2 * count, b"GET", len(request("A: b")))
    assert head.write() == b"GET / HTTP/1.1\r\nhost: h\r\na: b\r\n\r\n"


def test_parse_request_too_many_empty_lines_are_400() -> None:
    assert parse_request_head(b"\r\n" * 5 + request()).result == BAD
    assert parse_request_head(b"\r\n" * 5).result == BAD
    assert parse_request_head(b"\r\n" * 4).result == NEED_MORE


@pytest.mark.parametrize(
    "start", [b"\x16", b"\x00", b" ", b"\n", b"(", b"\xff", b"GET /a\x00", b"GET /#", b"GET / X", b"GET / HTTP/2"]
)
def test_parse_request_certainly_bad_beginning_is_refused_early(start: bytes) -> None:
    assert parse_request_head(start).result == BAD


def test_parse_request_every_proper_prefix_needs_more() -> None:
    data = b"\r\n" + request("Content-Length: 5", "Connection: a, b", start="POST http://h/a?b HTTP/1.1")

    assert [parse_request_head(data[:n]).result for n in range(len(data))] == [NEED_MORE] * len(data)


def test_parse_request_start_line_beyond_limit_is_414() -> None:
    assert parse_request_head(b"GET /" + b"a" * 200, limit=100).result == TOO_LONG
    assert parse_request_head(b"GET /" + b"a" * 94, limit=100).result == NEED_MORE
    assert parse_request_head(request(start="GET /" + "a" * 100 + " HTTP/1.1"), limit=100).result == TOO_LONG


def test_parse_request_head_beyond_limit_is_431() -> None:
    data = request("A: " + "b" * 50)

    assert parse_request_head(data, limit=len(data)).result == COMPLETE
    assert parse_request_head(data, limit=len(data) - 1).result == TOO_LARGE
    assert parse_request_head(data[:-1], limit=len(data) - 1).result == TOO_LARGE
    assert parse_request_head(b"\r\n\r\n" + data, limit=len(data)).result == COMPLETE


def test_parse_request_offsets_reach_the_limit() -> None:
    frame = len(request("A: "))

    head = parse_ok(request("A: " + "b" * (65535 - frame)))

    assert head.length == 65535
    assert parse_request_head(request("A: " + "b" * (65536 - frame)), limit=1 << 20).result == TOO_LARGE


def test_parse_request_field_count_is_limited() -> None:
    lines = [f"A{n}: b" for n in range(FIELDS_LIMIT - 1)]

    assert len(parse_ok(request(*lines)).fields) == FIELDS_LIMIT
    assert parse_request_head(request(*lines, "One: more")).result == TOO_LARGE


def test_parse_request_known_names_have_ids_in_any_letter_case() -> None:
    names = [
        "host", "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "content-length",
        "upgrade", "expect", "x-forwarded-for", "x-forwarded-port", "x-forwarded-proto", "cookie", "set-cookie",
        "www-authenticate", "proxy-authenticate", "authorization", "date", "server", "cache-control", "location",
    ]  # fmt: skip
    values = {"host": "h", "transfer-encoding": "chunked", "content-length": "1"}

    for number, name in enumerate(names, 1):
        for spelling in (name, name.upper(), name.title()):
            head = parse_ok(request(f"{spelling}: {values.get(name, 'x')}", host="h" if name != "host" else None))
            assert head.field_ids[-1] == number
            assert head.fields[-1][0] == name.encode()


@pytest.mark.parametrize(
    "name", ["hosts", "hos", "tee", "tx", "cookie2", "x-forwarded-fox", "content-lengt", "dat", "upgrades"]
)
def test_parse_request_similar_name_has_no_id(name: str) -> None:
    assert parse_ok(request(f"{name}: x")).field_ids[-1] == 0


def test_parse_request_expect_continue_is_flagged() -> None:
    """RFC 9110 10.1.1."""
    assert "continue" in parse_ok(request("Expect: 100-Continue")).flags
    assert "continue" not in parse_ok(request("Expect: 100-continue", start="GET / HTTP/1.0")).flags
    assert "continue" not in parse_ok(request("Expect: something")).flags
    assert parse_ok(request("Expect: something")).fields[1] == (b"expect", b"something", False)


@pytest.mark.parametrize(
    "line", ["Authorization: NTLM abc", "Authorization: Negotiate abc", "Proxy-Authorization: ntlm a"]
)
def test_parse_request_connection_bound_credentials_are_flagged(line: str) -> None:
    assert "binds" in parse_ok(request(line)).flags
    assert "binds" not in parse_ok(request("Authorization: Basic bnRsbQ==")).flags
