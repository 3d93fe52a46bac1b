"""Random and mutated HTTP/1 messages against the laws of the parser.

    python -m tests.fuzz.fuzz_http1 --seconds 60 --seed 1

Laws: no crash (run it under the address sanitizer too); offsets in bounds and in order; a result does not depend on how
the bytes were split; a refused prefix stays refused with the same status; a written head parses again with equal framing
and is written the same again; h11 reads an accepted request with the same body length.
"""

from __future__ import annotations

import random
import re
import time
from typing import TYPE_CHECKING, Any

import h11

from amphorad.proxy.wire.chunks import ChunkBody
from amphorad.proxy.wire.http1 import ParsedHead, parse_request_head, parse_response_head
from tests.fuzz.command import fuzz_as_command
from tests.support.http1_heads import check_chunks_against_h11

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = [
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /a?b=c HTTP/1.1\r\nHost: www.example.com:8080\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
    b"POST http://h/a HTTP/1.1\r\nHost: h:80\r\nTransfer-Encoding: chunked\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\n",
    b"\r\nGET /chat HTTP/1.1\r\nHost: [2001:db8::1]:80\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nCookie: a=b; c=d\r\n\r\n",
    b"OPTIONS * HTTP/1.0\r\nExpect: 100-continue\r\nX-Long: "
    + b"v" * 70
    + b"\r\nTE: trailers\r\nKeep-Alive: 5\r\n\r\n",
    b"GET http://192.0.2.1?x HTTP/1.1\r\nHost: 192.0.2.1\r\nAuthorization: NTLM abc\r\nAccept: */*\t \r\nEmpty:\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\nSet-Cookie: a=b\r\n\r\nhello",
    b"HTTP/1.0 404\r\nConnection: keep-alive\r\nContent-Length: 0\r\nWWW-Authenticate: Basic, NTLM\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\nDate: x\r\n\r\n",
]
CHUNK_SEEDS = [
    b"5\r\nhello\r\n0\r\n\r\n",
    b'a;b=c;d="e\\"f"\r\n0123456789\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\nGrpc-Status: 0\r\n\r\nGET',
    b"0000000000000010\r\n0123456789abcdef\r\n00;x\r\nX_Y: z\r\n\r\n",
]
WORDS = [
    b"\r\n", b"\r", b"\n", b" ", b"\t", b":", b"\x00", b"\x0b", b"\x7f", b"\x80", b"\xff", b",", b";", b"=", b'"', b"#", b"*", b"@",
    b"[", b"]", b"%41", b"%", b"0", b"5", b"0x5", b"+5", b"ffffffffffffffff", b"HTTP/1.1", b"HTTP/1.0", b"http://", b"https://",
    b"Host: h\r\n", b"Host:", b"Content-Length: 5\r\n", b"Content-Length:", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding:",
    b"chunked", b"Connection: close\r\n", b"Connection: Host\r\n", b"Connection: cookie, a\r\n", b"Connection:", b"Upgrade: h2c\r\n",
    b"content_length: 1\r\n", b"A: b\r\n", b"a" * 16, b"a" * 33, b"v" * 300, b"X:\r\n" * 130, b"\r\n\r\n", b"Te: x\r\n", b"x-forwarded-",
]  # fmt: skip


def mutate(rng: random.Random, seeds: list[bytes]) -> bytes:
    """One seed, or two joined, with up to six small changes."""
    data = bytearray(rng.choice(seeds))
    if rng.random() < 0.1:
        other = rng.choice(seeds)
        data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other) + 1) :]
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 6))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            data[at:at] = rng.choice(WORDS)
        elif kind == 1:
            data[at : at + rng.randrange(1, 9)] = b""
        elif kind == 2 and at < len(data):
            data[at] = rng.randrange(256)
        elif kind == 3 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 4:
            start = rng.randrange(len(data) + 1)
            data[at:at] = data[start : start + rng.randrange(1, 40)]
        else:
            data[at : at + rng.randrange(4)] = rng.choice(WORDS)
    return bytes(data)


def summary(head: ParsedHead) -> tuple[Any, ...]:
    if head.result != 0:
        return (head.result,)
    framing = (head.body, head.content_length, head.flags, head.length, head.skipped, head.host)
    return (0, head.fields, head.field_ids, *framing, head.write(b"extra: line\r\n"))


def parse_split(rng: random.Random, parse: Callable[..., ParsedHead], data: bytes, **kwargs: Any) -> ParsedHead:
    largest = rng.choice((1, 3, 20, 100))
    head = parse(b"", **kwargs)
    end = 0
    while head.result == 1 and end < len(data):
        end = min(len(data), end + rng.randint(1, largest))
        head = parse(head.data + data[len(head.data) : end], scanned=head.scanned, **kwargs)
    return head


def check_head(rng: random.Random, data: bytes, is_request: bool) -> None:
    parse: Callable[..., ParsedHead] = parse_request_head if is_request else parse_response_head
    kwargs: dict[str, Any] = {"limit": rng.choice((65535, 65535, 65535, 400, 120, 60, 20))}
    if not is_request:
        kwargs["method"] = rng.choice(("GET", "HEAD", "POST"))
    whole = parse(data, **kwargs)
    assert whole.result in (0, 1, -400, -414, -431, -501)
    early = parse_split(rng, parse, data, **kwargs)
    if early.result == 1 and whole.result < 0:
        # what is wrong with an unfinished line shows at its end when it came in pieces
        early = parse(early.data + b"\n\n", scanned=early.scanned, **kwargs)
    assert summary(early) == summary(whole)
    if whole.result != 0:
        return
    whole.check_offsets()
    # the engine adds these
    upgrade = b"connection: upgrade\r\n" if "upgrade" in whole.flags else b""
    extra = upgrade
    if is_request and whole.host is None:
        absolute = re.match(rb"(?i)https?://([^/?]*)", whole.target)
        extra = b"host: " + (absolute[1] if absolute else b"") + b"\r\n" + upgrade
    written = whole.write(extra)
    assert written is not None
    assert whole.write(extra, len(written) - 1) is None
    again = parse(written, **{**kwargs, "limit": 65535})
    assert again.result == 0
    again.check_offsets()
    assert again.write(upgrade) == written
    assert (again.body, again.content_length, again.status) == (whole.body, whole.content_length, whole.status)
    assert (again.target, again.path) == (whole.target, whole.path)
    if is_request:
        check_with_h11(written, whole)


def check_with_h11(written: bytes, head: ParsedHead) -> None:
    """h11 must agree about where the body ends. Requests that it refuses are no danger."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    body = {"none": b"", "length": b"z" * min(head.content_length, 1000), "chunked": b"1\r\nz\r\n0\r\n\r\n"}[head.body]
    connection.receive_data(written + body + b"NEXT")
    try:
        assert isinstance(connection.next_event(), h11.Request)
    except h11.RemoteProtocolError:
        return
    if head.body == "length" and head.content_length > 1000:
        return
    while isinstance(part := connection.next_event(), h11.Data):
        pass
    assert isinstance(part, h11.EndOfMessage)
    assert connection.trailing_data[0] == b"NEXT"


def feed_split(rng: random.Random, data: bytes) -> tuple[int, bool]:
    body = ChunkBody()
    largest = rng.choice((1, 2, 7, 50))
    total = 0
    while total < len(data) and not body.done:
        piece = data[total : total + rng.randint(1, largest)]
        used = body.feed(piece)
        if used < 0:
            return -1, False
        assert used == len(piece) or body.done
        total += used
    return total, body.done


def check_chunks(rng: random.Random, data: bytes) -> None:
    body = ChunkBody()
    used = body.feed(data)
    assert -1 <= used <= len(data)
    assert body.done or used in (-1, len(data))
    assert feed_split(rng, data) == (used, body.done)
    if body.done:
        check_chunks_against_h11(data, used)


def run(seconds: float, seed: int) -> int:
    """Executions done in `seconds`. A broken law raises, with the input in the message."""
    rng = random.Random(seed)
    stop = time.monotonic() + seconds
    executions = 0
    while time.monotonic() < stop:
        is_chunks = rng.random() < 0.3
        data = mutate(rng, CHUNK_SEEDS if is_chunks else SEEDS)
        try:
            if is_chunks:
                check_chunks(rng, data)
            else:
                check_head(
                    rng, data, is_request=not data.startswith(b"HTTP") if rng.random() < 0.95 else rng.random() < 0.5
                )
        except AssertionError as error:
            raise AssertionError(f"seed={seed} execution={executions} input={data!r}") from error
        executions += 1
    return executions


if __name__ == "__main__":
    fuzz_as_command(__doc__, lambda seconds, seed: f"executions={run(seconds, seed)}")
