"""Cookies in heads: laws that hold for any of them, and single cases (those beside HAProxy: tests/contract/persistence)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amphorad.proxy.wire.cookies import CookieHead

_BYTES = st.lists(
    st.sampled_from([b"SRV", b"srv", b"a", b"=", b";", b",", b" ", b"\t", b'"', b"\\", b"$", b"m1", b"|", b"\xc3\xa9"]),
    max_size=14,
).map(b"".join)
_LINES = st.lists(_BYTES, max_size=4)


def request(lines: list[bytes]) -> bytes:
    fields = b"".join(b"Cookie: " + line + b"\r\nX: y\r\n" for line in lines)
    return b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"


@given(_LINES)
@settings(max_examples=500)
def test_removed_cookie_is_not_found_again_and_others_are_kept(lines: list[bytes]) -> None:
    before = request(lines)
    others = {name: CookieHead(before).values(name) for name in (b"a", b"srv", b"m1")}

    after = CookieHead(before).remove(b"SRV")

    again = CookieHead(after)
    assert again.values(b"SRV") == []
    assert {name: again.values(name) for name in others} == others
    assert len(after) <= len(before)
    assert CookieHead(after).remove(b"SRV") == after


@given(_LINES)
def test_last_value_is_among_those_of_plain_fields(lines: list[bytes]) -> None:
    plain = [line.replace(b",", b"").replace(b'"', b"") for line in lines]
    head = CookieHead(request(plain))
    values = head.values(b"SRV")

    assert head.last(b"SRV") == (values[-1] if values else None)


@given(_LINES)
def test_own_cookie_of_a_response_is_dropped_and_others_stay(lines: list[bytes]) -> None:
    fields = b"".join(b"Set-Cookie: " + line + b"\r\n" for line in lines)
    before = b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n"
    others = CookieHead(before, is_request=False).last(b"a")

    after = CookieHead(before, is_request=False).remove(b"SRV")

    assert b"\r\nset-cookie: SRV=" not in after.replace(b": \t", b": ").replace(b":  ", b": ")
    if others is not None and b"SRV" not in fields:
        assert CookieHead(after, is_request=False).last(b"a") == others


@pytest.mark.parametrize(
    ("fields", "cacheable"),
    [
        (b"", False),
        (b"ETag: x\r\n", True),
        (b"Last-Modified: x\r\n", True),
        (b"Cache-Control: max-age=3\r\n", True),
        (b"Cache-Control: max-age=0\r\nETag: x\r\n", False),
        (b"Cache-Control: max-age=0, s-maxage=5\r\n", True),
        (b"Cache-Control: s-maxage=0\r\nETag: x\r\n", False),
        (b"Cache-Control: No-Store\r\nETag: x\r\n", False),
        (b'Cache-Control: private="x"\r\nETag: x\r\n', True),
        (b"Pragma: no-cache\r\nETag: x\r\n", False),
    ],
)
def test_cacheable_response_is_told(fields: bytes, cacheable: bool) -> None:
    head = CookieHead(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n", is_request=False)

    assert head.cacheable() == cacheable
    assert not CookieHead(b"HTTP/1.1 500 X\r\n" + fields + b"\r\n", is_request=False).cacheable()
