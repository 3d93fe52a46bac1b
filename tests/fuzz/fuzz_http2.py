"""Random header sections and chunked bodies against the laws of the HTTP/2 translation.

    python -m tests.fuzz.fuzz_http2 --seconds 60 --seed 1

Laws: no crash (run it under the address sanitizer too); a head that the translation writes is one head for the HTTP/1 parser,
or refused by it, and never two; when it is accepted, its method, target, Host and fields are those of the section and none
besides; the framing is the one that the section announces. A chunked body gives the same payload and trailers however it is
cut, and they are the ones that went in.
"""

from __future__ import annotations

import random
import time

from amphorad.proxy.http2.draft import request_head
from amphorad.proxy.http2.reader import chunked_body
from amphorad.proxy.wire.http1 import parse_request_head
from tests.fuzz.command import fuzz_as_command

PSEUDO = (b":method", b":scheme", b":authority", b":path")
NAMES = [
    *PSEUDO, b":status", b":protocol", b":", b"", b"host", b"cookie", b"content-length", b"transfer-encoding", b"connection",
    b"te", b"expect", b"x", b"x-a", b"X", b"x y", b"x:", b"x\r\ny", b"x\0", b"content_length", b"upgrade", b"\xff",
]  # fmt: skip
VALUES = [
    b"GET", b"POST", b"CONNECT", b"OPTIONS", b"G ET", b"http", b"https", b"h", b"H", b"other", b"h:80", b"a@h", b"/", b"*", b"/a?b=c",
    b"/ HTTP/1.1\r\nx: y", b"/\r\n\r\nGET / HTTP/1.1", b"http://o/", b"", b"0", b"5", b"05", b"-1", b"99999999999999999999",
    b"chunked", b"a=1", b"a\r\nb: c", b"a\nb", b"a\0b", b" a", b"a ", b"\t", b"v" * 300, b"w" * 9000, b"p" * 15300, b"\x80\xff",
    b"trailers", b"100-continue", b"\r\n\r\n",
]  # fmt: skip
LIMIT_BYTES = 15360


def make_section(chance: random.Random) -> list[tuple[bytes, bytes]]:
    """Mostly a request, with something wrong in it more often than not."""
    section = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"h"), (b":path", b"/")]
    for _ in range(chance.randrange(6)):
        section.insert(chance.randrange(4, len(section) + 1), (chance.choice(NAMES), chance.choice(VALUES)))
    for _ in range(chance.choice((0, 0, 1, 2))):
        at = chance.randrange(len(section))
        kind = chance.randrange(4)
        name, value = section[at]
        if kind == 0:
            del section[at]
        elif kind == 1:
            section[at] = (name, chance.choice(VALUES))
        elif kind == 2:
            section.append((name, value))
        else:
            mutated = bytearray(value or b"x")
            mutated[chance.randrange(len(mutated))] = chance.randrange(256)
            section[at] = (name, bytes(mutated))
        if not section:
            section.append((b"x", b"y"))
    chance.random() < 0.1 and chance.shuffle(section)
    return section


def check_section(section: list[tuple[bytes, bytes]], ended: bool) -> bool:
    """Whether it was accepted by both; AssertionError when a law is broken."""
    made = request_head(section, ended)
    if made is None:
        return False
    head, line = made
    assert b"\r" not in line, line
    assert b"\n" not in line, line
    assert line.endswith(b" HTTP/2.0"), line
    parsed = parse_request_head(head, LIMIT_BYTES)
    if parsed.result != 0:
        assert parsed.result < 0, (section, head)
        return False
    assert parsed.length == len(head), (section, head)
    pseudo = {name: value for name, value in section if name in PSEUDO}
    assert parsed.method == pseudo[b":method"], (section, head)
    assert parsed.target == pseudo[b":path"], (section, head)
    host = pseudo.get(b":authority", dict(section).get(b"host"))
    assert host is not None, (section, head)
    assert parsed.host == host.strip(b" \t"), (section, head)
    wanted = [(name, value) for name, value in section if name not in PSEUDO and name not in (b"host", b"cookie")]
    cookies = [value for name, value in section if name == b"cookie"]
    while cookies and not cookies[0]:  # an empty one says nothing, so nothing stands in front of the first that does
        del cookies[0]
    fields = [(name, value) for name, value, _dropped in parsed.fields if name not in (b"host", b"cookie")]
    lengths = [value for name, value in section if name == b"content-length"]
    if not ended and not lengths:
        assert parsed.body == "chunked", (section, head)
        assert fields.pop() == (b"transfer-encoding", b"chunked"), (section, head)
    else:
        assert parsed.body == ("length" if lengths and int(lengths[0]) else "none"), (section, head)
    assert fields == [(name, value.strip(b" \t")) for name, value in wanted], (section, head)
    joined = [value for name, value, _dropped in parsed.fields if name == b"cookie"]
    assert joined == ([b"; ".join(cookies).strip(b" \t")] if any(cookies) else []), (section, head)
    return True


def check_chunks(chance: random.Random) -> None:
    """What goes in comes out, however it is cut."""
    chunks = [chance.randbytes(chance.choice((1, 2, 15, 16, 17, 300, 5000))) for _ in range(chance.randrange(5))]
    trailers = b"".join(b"x-%d: %d\r\n" % (number, chance.randrange(1000)) for number in range(chance.randrange(4)))
    extension = chance.choice((b"", b";a", b';a="b"'))
    wire = (
        b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"
    )
    pieces = []
    left = wire
    while left:
        size = chance.choice((1, 1, 2, 3, 7, 100, 10000))
        pieces.append(left[:size])
        left = left[size:]
    assert chunked_body(pieces) == (b"".join(chunks), trailers, True), (wire, pieces)
    cut = chunked_body([wire[: chance.randrange(len(wire))]])
    assert cut is not None, wire
    assert not cut[2], wire
    mutated = bytearray(wire)
    mutated[chance.randrange(len(mutated))] = chance.randrange(256)
    chunked_body([bytes(mutated)])


def run(seconds: float, seed: int) -> int:
    """How many sections were accepted."""
    chance = random.Random(seed)
    accepted = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for _ in range(50):
            accepted += check_section(make_section(chance), chance.random() < 0.5)
        check_chunks(chance)
    return accepted


if __name__ == "__main__":
    fuzz_as_command(__doc__, lambda seconds, seed: f"accepted={run(seconds, seed)}")
