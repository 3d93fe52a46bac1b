"""What belongs to one hop: Connection, Upgrade, persistence, connection-bound authentication; both directions."""

from __future__ import annotations

import pytest

from amphorad.proxy.wire.http1 import parse_request_head, parse_response_head
from tests.support.http1_heads import BAD, COMPLETE, kept, parse_ok, parse_response_ok, request, response


@pytest.mark.parametrize(
    ("version", "values", "expected"),
    [
        ("1.1", [], set()),
        ("1.1", ["close"], {"close"}),
        ("1.1", ["Close"], {"close"}),
        ("1.1", ["keep-alive"], {"keep-alive"}),
        ("1.1", ["Keep-Alive, close"], {"keep-alive", "close"}),
        ("1.1", ["keep-alive", "close"], {"keep-alive", "close"}),
        ("1.1", [",, ,\tclose ,"], {"close"}),
        ("1.1", ["closed"], set()),
        ("1.1", [""], set()),
        ("1.0", [], {"close"}),
        ("1.0", ["close"], {"close"}),
        ("1.0", ["keep-alive"], {"keep-alive"}),
        ("1.0", ["a, KEEP-ALIVE"], {"keep-alive"}),
        ("1.0", ["keep-alive, close"], {"keep-alive", "close"}),
        ("1.0", ["x"], {"close"}),
    ],
)
def test_connection_options_become_flags(version: str, values: list[str], expected: set[str]) -> None:
    """RFC 9112 9.3."""
    lines = [f"Connection: {value}" for value in values]

    assert parse_ok(request(*lines, start=f"GET / HTTP/{version}")).flags == expected
    assert parse_response_ok(response("Content-Length: 5", *lines, start=f"HTTP/{version} 200 OK")).flags == expected


@pytest.mark.parametrize(
    "value", ["a b", "close keep-alive", "a;b", "a=b", '"close"', "(close)", "a/b", "close\x80", "a, @"]
)
def test_connection_that_is_no_token_list_is_400(value: str) -> None:
    assert parse_request_head(request(f"Connection: {value}")).result == BAD
    assert parse_response_head(response(f"Connection: {value}")).result == BAD


def test_connection_option_count_is_limited() -> None:
    assert parse_request_head(request("Connection: " + ",".join("a" * 64))).result == COMPLETE
    assert parse_request_head(request("Connection: " + ",".join("a" * 65))).result == BAD
    assert parse_request_head(request("Connection: " + "," * 64)).result == BAD
    assert parse_request_head(request(*["Connection: a"] * 65)).result == BAD


def test_hop_by_hop_fields_are_dropped_by_name() -> None:
    """RFC 9110 7.6.1."""
    lines = [
        "Keep-Alive: 5",
        "Proxy-Connection: close",
        "TE: trailers",
        "Upgrade: x",
        "Connection: x",
        "Trailer: X-Sum",
        "A: b",
    ]

    assert kept(parse_ok(request(*lines))) == [b"host", b"trailer", b"a"]
    assert kept(parse_response_ok(response(*lines))) == [b"trailer", b"a"]


def test_proxy_connection_has_no_effect() -> None:
    assert parse_ok(request("Proxy-Connection: close")).flags == set()
    assert "close" in parse_ok(request("Proxy-Connection: keep-alive", start="GET / HTTP/1.0")).flags


@pytest.mark.parametrize("position", ["before", "after"])
def test_nominated_fields_are_dropped(position: str) -> None:
    nominations = ["Connection: close, X-Hop", "connection: ,x-two ,"]
    fields = ["X-Hop: 1", "x-HOP: 2", "X-Two: 3", "X-Three: 4", "X-Hops: 5"]
    lines = nominations + fields if position == "before" else fields + nominations

    assert kept(parse_ok(request(*lines))) == [b"host", b"x-three", b"x-hops"]
    assert kept(parse_response_ok(response(*lines))) == [b"x-three", b"x-hops"]


@pytest.mark.parametrize(
    "name", ["Host", "HOST", "content-length", "Content-Length", "transfer-encoding", "Transfer-Encoding"]
)
def test_nominating_what_frames_or_routes_is_400_in_requests(name: str) -> None:
    assert parse_request_head(request(f"Connection: close, {name}")).result == BAD
    assert parse_request_head(request("Connection: close", f"Connection: {name}", "Content-Length: 1")).result == BAD


def test_nominating_framing_in_responses_has_no_effect() -> None:
    """Some servers, after RFC 2616 13.5.1, do write it."""
    head = parse_response_ok(response("Connection: Transfer-Encoding, keep-alive", "Transfer-Encoding: chunked"))

    assert (head.body, kept(head)) == ("chunked", [b"transfer-encoding"])


@pytest.mark.parametrize(
    "name",
    [
        "Cookie", "Set-Cookie", "Authorization", "Proxy-Authorization", "X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto",
        "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Cache-Control", "Content-Type", "Content-Encoding", "Expect", "Trailer",
        "Location", "WWW-Authenticate", "X-SSL-Client-Verify", "Date", "Server",
    ],
)  # fmt: skip
def test_nominating_a_field_meant_for_the_recipient_does_not_drop_it(name: str) -> None:
    """RFC 9110 7.6.1 forbids senders to; taking a proxy's own fields away is the hop-by-hop header abuse."""
    lines = [f"Connection: {name}", f"{name}: x"]

    assert kept(parse_ok(request(*lines))) == [b"host", name.lower().encode()]
    assert kept(parse_response_ok(response(*lines))) == [name.lower().encode()]


def test_upgrade_of_bodiless_http_1_1_request_is_flagged_and_kept() -> None:
    head = parse_ok(request("Connection: keep-alive, Upgrade", "Upgrade: websocket"))

    assert head.flags == {"upgrade", "keep-alive"}
    assert head.fields[1:] == [(b"connection", b"keep-alive, Upgrade", True), (b"upgrade", b"websocket", False)]


@pytest.mark.parametrize(
    ("lines", "start"),
    [
        (["Upgrade: websocket"], "GET / HTTP/1.1"),
        (["Connection: upgrade"], "GET / HTTP/1.1"),
        (["Connection: upgrade", "Upgrade: websocket"], "GET / HTTP/1.0"),
        (["Connection: upgrade", "Upgrade:"], "GET / HTTP/1.1"),
        (["Connection: upgrade", "Upgrade: h2c"], "GET / HTTP/1.1"),
        (["Connection: upgrade", "Upgrade: websocket, H2C"], "GET / HTTP/1.1"),
        (["Connection: upgrade", "Upgrade: websocket", "Upgrade: h2c"], "GET / HTTP/1.1"),
        (["Connection: upgrade", "Upgrade: websocket", "Content-Length: 5"], "POST / HTTP/1.1"),
        (["Connection: upgrade", "Upgrade: websocket", "Transfer-Encoding: chunked"], "POST / HTTP/1.1"),
    ],
)
def test_upgrade_that_we_do_not_pass_is_dropped(lines: list[str], start: str) -> None:
    head = parse_ok(request(*lines, start=start))

    assert "upgrade" not in head.flags
    assert b"upgrade" not in kept(head)


def test_upgrade_with_empty_body_is_passed() -> None:
    assert "upgrade" in parse_ok(request("Connection: upgrade", "Upgrade: a/1", "Content-Length: 0")).flags


def test_h2c_settings_are_dropped_with_the_upgrade() -> None:
    lines = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"]

    assert kept(parse_ok(request(*lines))) == [b"host"]


def test_response_101_with_upgrade_is_flagged_and_keeps_it() -> None:
    head = parse_response_ok(response("Connection: upgrade", "Upgrade: websocket", start="HTTP/1.1 101 Switching"))

    assert (head.flags, kept(head), head.body) == ({"upgrade"}, [b"upgrade"], "none")


@pytest.mark.parametrize(
    "start", ["HTTP/1.1 200 OK", "HTTP/1.1 426 Upgrade Required", "HTTP/1.0 101 x", "HTTP/1.1 100 x"]
)
def test_response_other_than_101_does_not_upgrade(start: str) -> None:
    head = parse_response_ok(response("Connection: upgrade", "Upgrade: websocket", start=start))

    assert "upgrade" not in head.flags
    assert kept(head) == []


def test_response_101_without_upgrade_is_not_flagged() -> None:
    assert "upgrade" not in parse_response_ok(response("Connection: upgrade", start="HTTP/1.1 101 x")).flags


@pytest.mark.parametrize("name", ["WWW-Authenticate", "Proxy-Authenticate"])
@pytest.mark.parametrize(
    "value", ["NTLM", "ntlm TlRM", "Negotiate", "NEGOTIATE abc", "Basic realm=x, NTLM", "Basic,Negotiate"]
)
def test_response_connection_bound_authentication_is_flagged(name: str, value: str) -> None:
    """RFC 4559 section 6."""
    assert "binds" in parse_response_ok(response(f"{name}: {value}")).flags


@pytest.mark.parametrize("value", ["Basic realm=ntlmx", "Digest a=b", "NTLMv9x", "Bearer"])
def test_response_other_authentication_is_not_flagged(value: str) -> None:
    assert "binds" not in parse_response_ok(response(f"WWW-Authenticate: {value}")).flags
