"""Builds HTTP/1 heads for the parser tests, and names the parser's results."""

from __future__ import annotations

import h11

from amphorad.proxy.wire.http1 import ParsedHead, parse_request_head, parse_response_head

COMPLETE, NEED_MORE = 0, 1
BAD, TOO_LONG, TOO_LARGE, NOT_IMPLEMENTED = -400, -414, -431, -501


def join_lines(lines: list[str | bytes]) -> bytes:
    return b"\r\n".join(line if isinstance(line, bytes) else line.encode("latin-1") for line in [*lines, "", ""])


def request(*lines: str | bytes, start: str = "GET / HTTP/1.1", host: str | None = "h") -> bytes:
    """A head with `lines` as its fields, after a Host field unless `host` is None."""
    return join_lines([start, *([] if host is None else [f"Host: {host}"]), *lines])


def response(*lines: str | bytes, start: str = "HTTP/1.1 200 OK") -> bytes:
    return join_lines([start, *lines])


def parse_ok(data: bytes) -> ParsedHead:
    head = parse_request_head(data)
    assert head.result == COMPLETE
    head.check_offsets()
    return head


def parse_response_ok(data: bytes, method: str = "GET") -> ParsedHead:
    head = parse_response_head(data, method)
    assert head.result == COMPLETE
    head.check_offsets()
    return head


def kept(head: ParsedHead) -> list[bytes]:
    """Names of the fields that are forwarded."""
    return [name for name, _, dropped in head.fields if not dropped]


def check_chunks_against_h11(data: bytes, used: int) -> None:
    """h11 reads a chunked body that ends after the first `used` bytes of `data`."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    assert isinstance(connection.next_event(), h11.Request)
    while isinstance(part := connection.next_event(), h11.Data):
        pass
    assert isinstance(part, h11.EndOfMessage)
    assert connection.trailing_data[0] == data[used:]
