"""Laws and oracles: any split ends the same, what we accept and write is read alike by h11 and httptools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h11
import httptools
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from amphorad.proxy.wire.chunks import ChunkBody
from amphorad.proxy.wire.http1 import ParsedHead, parse_request_head, parse_response_head
from tests.support.http1_heads import COMPLETE, NEED_MORE, check_chunks_against_h11, join_lines

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_!#$%&'*+.^`|~", min_size=1, max_size=14).map(str.encode)
VALUE = st.binary(max_size=40).map(lambda raw: bytes(c for c in raw if c >= 0x20 and c != 0x7F).strip(b" \t"))
LINES = st.one_of(
    st.tuples(TOKEN, VALUE).map(b": ".join),
    st.sampled_from(
        [
            b"Host: h", b"Host: other:8080", b"Content-Length: 5", b"Content-Length: 0", b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: gzip", b"Connection: close", b"Connection: keep-alive, x", b"Connection: upgrade", b"Upgrade: websocket",
            b"Expect: 100-continue", b"X: y", b"x : y", b" folded", b"A: b\nB: c", b"A: b\rB: c", b"Cookie: a=b", b"TE: trailers",
            b"Content-Length: 5, 5", b"content_length: 7", b"Keep-Alive: 5", b"A: \x00", b"Proxy-Connection: x",
        ]
    ),
)  # fmt: skip
STARTS = st.sampled_from(
    [
        b"GET / HTTP/1.1", b"POST /a?b=c HTTP/1.1", b"PUT /a HTTP/1.0", b"GET http://h/a HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET  / HTTP/1.1",
        b"CONNECT h:1 HTTP/1.1", b"GET /# HTTP/1.1", b"X / HTTP/1.1",
    ]
)  # fmt: skip
STATUSES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 204 x",
        b"HTTP/1.1 304 ",
        b"HTTP/1.1 404",
        b"HTTP/1.1 700 x",
        b"HTTP/1.1 101 x",
    ]
)
REQUESTS = st.builds(lambda start, lines: join_lines([start, b"Host: h", *lines]), STARTS, st.lists(LINES, max_size=6))
RESPONSES = st.builds(lambda start, lines: join_lines([start, *lines]), STATUSES, st.lists(LINES, max_size=6))
# Mostly acceptable messages, for the laws about what we accept.
FRAMINGS = st.sampled_from([[], [b"Content-Length: 5"], [b"CONTENT-LENGTH: 0"], [b"Transfer-Encoding: Chunked"]])
GOOD_LINES = st.one_of(
    st.tuples(st.just(b"X-"), TOKEN, st.just(b": "), VALUE).map(b"".join),
    st.sampled_from(
        [
            b"Connection: close", b"connection: keep-alive, x", b"Connection: upgrade", b"Upgrade: websocket", b"Cookie: a=b", b"X: y",
            b"TE: trailers", b"Keep-Alive: 5", b"Proxy-Connection: x", b"Expect: x", b"Empty:", b"Tab:\ta\t b\t", b"Content-Type: a/b",
        ]
    ),
)  # fmt: skip


def good_heads(starts: list[str], first: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda start, before, framing, after: join_lines([start, *first, *before, *framing, *after]),
        st.sampled_from(starts), st.lists(GOOD_LINES, max_size=4), FRAMINGS, st.lists(GOOD_LINES, max_size=4),
    )  # fmt: skip


GOOD_REQUESTS = good_heads(
    [
        "GET / HTTP/1.1",
        "POST /a?b=c HTTP/1.1",
        "PUT /a HTTP/1.1",
        "GET http://h/a HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "X / HTTP/1.1",
    ],
    [b"Host: h"],
)
GOOD_RESPONSES = good_heads(
    ["HTTP/1.1 200 OK", "HTTP/1.1 204 x", "HTTP/1.1 304 ", "HTTP/1.1 404", "HTTP/1.1 599 a\tb", "HTTP/1.1 206 \xe9"], []
)
CUTS = st.lists(st.integers(1, 60), max_size=20)


def summary(head: ParsedHead) -> tuple[Any, ...]:
    if head.result != COMPLETE:
        return (head.result,)
    return (0, head.fields, head.body, head.content_length, head.flags, head.length, head.skipped, head.write())


def parse_in_pieces(parse: Callable[..., ParsedHead], data: bytes, steps: list[int], **kwargs: Any) -> ParsedHead:
    head = parse(b"", **kwargs)
    end = 0
    steps = [*steps, len(data)]
    seen = data
    for step in steps:
        end = min(end + step, len(data))
        head = parse(seen[:end], scanned=head.scanned, **kwargs)
        seen = head.data + data[end:]  # names are lower-cased in place, as in the engine's buffer
        if head.result != NEED_MORE or end == len(data):
            break
    return head


@given(REQUESTS, CUTS, st.sampled_from([b"", b"\r\n", b"\r\n\r\n"]), st.sampled_from([65535, 150, 90, 40]))
def test_request_any_split_gives_the_same_outcome(data: bytes, steps: list[int], before: bytes, limit: int) -> None:
    whole = parse_request_head(before + data, limit=limit)
    pieces = parse_in_pieces(parse_request_head, before + data, steps, limit=limit)

    # a whole head shows more at once: its summary has more bytes behind the head, nothing else
    assert summary(pieces) == summary(whole)


@given(RESPONSES, CUTS, st.sampled_from(["GET", "HEAD"]), st.sampled_from([65535, 150, 90, 40]))
def test_response_any_split_gives_the_same_outcome(data: bytes, steps: list[int], method: str, limit: int) -> None:
    whole = parse_response_head(data, method, limit=limit)
    pieces = parse_in_pieces(parse_response_head, data, steps, method=method, limit=limit)

    assert summary(pieces) == summary(whole)


def test_request_byte_by_byte_is_the_same_as_whole() -> None:
    """`scanned` takes every value once; the search for the end goes on where it stopped."""
    data = join_lines(["GET / HTTP/1.1", "Host: h", "A: " + "b" * 3000])

    head = parse_in_pieces(parse_request_head, data, [1] * len(data))

    assert summary(head) == summary(parse_request_head(data))


@given(GOOD_REQUESTS)
def test_written_request_parses_to_the_same_message(data: bytes) -> None:
    head = parse_request_head(data)
    assume(head.result == COMPLETE)
    extra = b"connection: upgrade\r\n" if "upgrade" in head.flags else b""  # as the engine does
    written = head.write(extra)
    assert written is not None
    again = parse_request_head(written)

    assert again.result == COMPLETE
    assert again.write(extra) == written
    assert (again.body, again.content_length, again.host) == (head.body, head.content_length, head.host)
    assert [f[:2] for f in again.fields if not f[2]] == [f[:2] for f in head.fields if not f[2]]


def h11_body(data: bytes, body: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    """(method, headers, body) as h11's server side reads them."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data + body)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    received = b""
    while isinstance(part := connection.next_event(), h11.Data):
        received += bytes(part.data)
    assert isinstance(part, h11.EndOfMessage)
    return event.method, list(event.headers), received


class Collector:
    """Callbacks of httptools' parser."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


BODIES = {"none": b"", "length": b"hello", "chunked": b"5\r\nhello\r\n0\r\n\r\n"}


def normal(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value.strip(b" \t")) for name, value in fields]


@given(GOOD_REQUESTS)
def test_accepted_request_is_read_alike_by_h11(data: bytes) -> None:
    """On what we forward, h11 must see the same fields and the same body."""
    head = parse_request_head(data)
    assume(head.result == COMPLETE)
    written = head.write()
    assert written is not None
    method, fields, body = h11_body(written, BODIES[head.body])

    assert method == head.method
    assert normal(fields) == [f[:2] for f in head.fields if not f[2]]
    assert body == (b"" if head.body == "none" else b"hello")


@given(GOOD_REQUESTS)
def test_accepted_request_is_read_alike_by_httptools(data: bytes) -> None:
    """Left out: methods that httptools does not know."""
    head = parse_request_head(data)
    assume(head.result == COMPLETE and head.method_id and head.flags.isdisjoint({"upgrade"}))
    written = head.write()
    assert written is not None
    collector = Collector()
    httptools.HttpRequestParser(collector).feed_data(written + BODIES[head.body])

    assert collector.complete
    assert normal(collector.fields) == [f[:2] for f in head.fields if not f[2]]
    assert collector.body == (b"" if head.body == "none" else b"hello")


@given(GOOD_RESPONSES, st.sampled_from(["GET", "HEAD"]))
def test_accepted_response_is_read_alike_by_h11(data: bytes, method: str) -> None:
    """101 is left out: h11 reads no more HTTP after it."""
    head = parse_response_head(data, method)
    assert head.result == COMPLETE
    written = head.write()
    assert written is not None
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    connection.send(h11.EndOfMessage())
    body = b"hello" if head.body == "until-close" else BODIES[head.body]
    connection.receive_data(written + body)
    if head.body == "until-close":
        connection.receive_data(b"")
    event = connection.next_event()

    assert isinstance(event, h11.Response)
    assert event.status_code == head.status
    assert normal(list(event.headers)) == [f[:2] for f in head.fields if not f[2]]
    received = b""
    while isinstance(part := connection.next_event(), h11.Data):
        received += bytes(part.data)
    assert isinstance(part, h11.EndOfMessage)
    assert received == (b"" if head.body == "none" else b"hello")


CHUNK_PARTS = st.sampled_from(
    [
        b"5\r\nhello\r\n", b"1\r\nx\r\n", b"0\r\n", b"\r\n", b"a;b=c\r\n0123456789\r\n", b'1;q="z"\r\ny\r\n', b"X-A: b\r\n", b"0\r\n\r\n",
        b"5", b" ", b"\n", b";", b"00", b"Te: x\r\n",
    ]
)  # fmt: skip


@given(st.lists(CHUNK_PARTS, max_size=7))
def test_accepted_chunked_body_is_read_alike_by_h11(parts: list[bytes]) -> None:
    """On bodies that we refuse there is nothing to compare."""
    data = b"".join(parts) + b"0\r\n\r\n"
    body = ChunkBody()
    used = body.feed(data)
    if body.done:
        check_chunks_against_h11(data, used)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "comma in Host"),
        (b"GET /# HTTP/1.1\r\nHost: h\r\n\r\n", "fragment"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "equal lengths"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5\r\n\r\n", "list of equal lengths"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 005\r\n\r\n", "leading zeros"),
        (b"GET / HTTP/1.1\nHost: h\n\n", "bare LF"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", "folding"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent_Length: 5\r\n\r\n", "underscore"),
    ],
)
def test_deliberate_difference_h11_accepts_we_refuse(data: bytes, why: str) -> None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)

    assert isinstance(connection.next_event(), h11.Request), why
    assert parse_request_head(data).result == -400, why
