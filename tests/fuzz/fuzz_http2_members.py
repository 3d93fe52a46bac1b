"""Random header sections of members against the laws of the translation of responses.

    python -m tests.fuzz.fuzz_http2_members --seconds 60 --seed 1

Laws: no crash (run it under the address sanitizer too); a head that the translation writes is one head for the HTTP/1 parser, or
refused by it, and never two; when it is accepted, its status and fields are those of the section and none besides; the framing
is the one that the section announces, and none where there can be no content.
"""

from __future__ import annotations

import random
import time

from amphorad.proxy.http2.reply import response_head
from amphorad.proxy.wire.http1 import parse_response_head
from tests.fuzz.command import fuzz_as_command
from tests.fuzz.fuzz_http2 import NAMES, VALUES

STATUSES = (b"200", b"204", b"304", b"100", b"103", b"199", b"500", b"999", b"404")
BAD_STATUSES = (b"101", b"099", b"20", b"2000", b"2 0", b"+20", b"", b"200 OK\r\nx: y", b"abc", b"\x32\x30\xb0")
LIMIT_BYTES = 16384


def make_section(chance: random.Random) -> list[tuple[bytes, bytes]]:
    """Mostly a response, with something wrong in it more often than not."""
    section = [(b":status", chance.choice(STATUSES))]
    section.extend((chance.choice(NAMES), chance.choice(VALUES)) for _ in range(chance.randrange(6)))
    if chance.random() < 0.3:
        section.append((b"content-length", b"%d" % chance.randrange(1000)))
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        at = chance.randrange(len(section))
        kind = chance.randrange(4)
        name, value = section[at]
        if kind == 0:
            section[at] = (name, chance.choice((*BAD_STATUSES, *VALUES)))
        elif kind == 1:
            section.append((name, value))
        elif kind == 2:
            chance.shuffle(section)
        else:
            mutated = bytearray(value or b"x")
            mutated[chance.randrange(len(mutated))] = chance.randrange(256)
            section[at] = (name, bytes(mutated))
    return section


def check_section(section: list[tuple[bytes, bytes]], ended: bool, to_head: bool) -> bool:
    """Whether it was accepted by both; AssertionError when a law is broken."""
    head = response_head(section, ended, to_head)
    if head is None:
        return False
    parsed = parse_response_head(head, "HEAD" if to_head else "GET", LIMIT_BYTES)
    if parsed.result != 0:
        assert parsed.result < 0, (section, head)
        return False
    assert parsed.length == len(head), (section, head)
    status = int(section[0][1])
    assert section[0][0] == b":status", (section, head)
    assert parsed.status == status, (section, head)
    wanted = [(name, value.strip(b" \t")) for name, value in section[1:]]
    fields = [(name, value) for name, value, _dropped in parsed.fields]
    lengths = [int(value) for name, value in section if name == b"content-length"]
    if to_head or status < 200 or status in (204, 304):
        assert parsed.body == "none", (section, head)
    elif lengths:
        assert parsed.body == ("length" if lengths[0] else "none"), (section, head)
    elif ended:
        assert parsed.body == "none", (section, head)
        assert fields.pop() == (b"content-length", b"0"), (section, head)
    else:
        assert parsed.body == "chunked", (section, head)
        assert fields.pop() == (b"transfer-encoding", b"chunked"), (section, head)
    assert fields == wanted, (section, head)
    return True


def run(seconds: float, seed: int) -> int:
    """How many sections were accepted."""
    chance = random.Random(seed)
    accepted = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for _ in range(50):
            accepted += check_section(make_section(chance), chance.random() < 0.5, chance.random() < 0.3)
    return accepted


if __name__ == "__main__":
    fuzz_as_command(__doc__, lambda seconds, seed: f"accepted={run(seconds, seed)}")
