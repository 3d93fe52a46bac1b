"""Cookies of persistence, the same requests and responses through HAProxy and amphorad: the same member, the same bytes
to it, the same head to the client (Octavia contract section 4.10.2)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support import octavia_render as render
from tests.support.persistence_rig import ask, run_both

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.persistence_rig import PersistenceRig

pytestmark = [pytest.mark.haproxy, pytest.mark.timeout(180)]
render.require_octavia()

_NAMES = [b"SRV", b"srv", b"SRV2", b"a", b"$Path", b"$SRV", b"", b"sid", b"S"]
_VALUES = [
    b"m1", b"m2", b"m3", b"m4", b"", b'"m1"', b'"a;SRV=m1"', b'"a', b"m1|abc", b"|", b"m2 ", b"a=b", b'x"y;z"', b'"\\";m2"',
]  # fmt: skip
_REPLIES = [
    b"Set-Cookie: SRV=m9; path=/", b"Set-Cookie: SRV = m9", b"Set-Cookie: a = b ; path=/", b"Set-Cookie: a=b, SRV=c",
    b"Set-Cookie: SRV", b"Set-Cookie: =", b"Set-Cookie: srv=1", b"Set-Cookie: sid=1; SRV=2", b"ETag: x", b"Expires: 0",
    b"Cache-Control: public", b"Cache-Control: max-age=0", b"Cache-Control: max-age=5, private", b"Cache-Control: no-store",
    b'Cache-Control: no-cache="set-cookie", max-age=3', b"Cache-Control: s-maxage=7", b"Cache-Control: PUBLIC , max-age=1",
    b"Pragma: no-cache", b"Pragma: x", b"Last-Modified: y", b"Cache-Control: private=\"x\", no-cache=y", b"Cache-Control: max-age",
]  # fmt: skip


@pytest.fixture(scope="module")
def rig() -> Iterator[PersistenceRig]:
    with tempfile.TemporaryDirectory() as directory, run_both(Path(directory), "HTTP_COOKIE") as running:
        yield running


@st.composite
def _pair(draw: st.DrawFn) -> bytes:
    blank = st.sampled_from([b"", b"", b"", b" ", b"  ", b"\t"])
    name, equals = draw(st.sampled_from(_NAMES)), draw(st.sampled_from([b"=", b"=", b"=", b""]))
    text = name + draw(blank) + equals + draw(blank) + (draw(st.sampled_from(_VALUES)) if equals else b"")
    return draw(blank) + text + draw(blank)


@st.composite
def _cookie_line(draw: st.DrawFn) -> bytes:
    pairs = draw(st.lists(_pair(), min_size=1, max_size=5))
    line = pairs[0]
    for pair in pairs[1:]:
        line += draw(st.sampled_from([b";", b"; ", b","])) + pair
    return b"Cookie: " + (line.strip(b" \t") or b"x") + b"\r\n"


def _same(rig: PersistenceRig, lines: bytes, method: bytes = b"GET", pieces: tuple[int, ...] = ()) -> None:
    """Both say the same; which member a new client gets depends on turns, so only its cookie is left to it."""
    answers = [ask(rig.ports[name], lines, method=method, pieces=pieces) for name in ("amphorad", "haproxy")]
    for index, answer in enumerate(answers):
        if b"set-cookie: SRV=" in answer.head:
            assert f"set-cookie: SRV={answer.member}; path=/".encode() in answer.head
            answers[index] = answer._replace(
                member="any", head=answer.head.replace(b"SRV=" + answer.member.encode() + b";", b"SRV=any;")
            )
    assert answers[0] == answers[1]


@given(st.lists(_cookie_line(), min_size=1, max_size=3))
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@example([b"Cookie: SRV=m2\r\n"])
@example([b"Cookie: SRV=m2\r\n", b"Cookie: SRV=m1; a=b\r\n"])
@example([b"Cookie: SRV=m2; SRV=m3\r\n"])
@example([b"Cookie: SRV=m9; SRV=m3; SRV=m1\r\n"])
@example([b"Cookie: a=" + b"x" * 8000 + b"; SRV=m3; b=" + b"y" * 500 + b"\r\n"])
@example([b"Cookie: SRV=" + b"z" * 8000 + b"\r\n"])
def test_http_cookie_request_member_and_its_cookie_field_are_as_in_haproxy(
    rig: PersistenceRig, lines: list[bytes]
) -> None:
    _same(rig, b"".join(lines))


@given(
    st.lists(st.sampled_from(_REPLIES), max_size=4),
    st.sampled_from([b"GET", b"HEAD", b"POST", b"OPTIONS"]),
    st.sampled_from([200, 206, 302, 304, 404, 500]),
    st.sampled_from([b"", b"Cookie: SRV=m2\r\n", b"Cookie: SRV=gone\r\n"]),
)
@settings(max_examples=200, suppress_health_check=list(HealthCheck))
def test_http_cookie_response_head_is_as_in_haproxy(
    rig: PersistenceRig, replies: list[bytes], method: bytes, status: int, cookie: bytes
) -> None:
    lines = cookie + b"x-status: %d\r\n" % status
    if replies:
        lines += b"x-reply: " + b"".join(line + b"\r\n" for line in replies).hex().encode() + b"\r\n"
    if method == b"POST":
        lines += b"content-length: 0\r\n"

    _same(rig, lines, method)


@pytest.mark.parametrize("step", [1, 3, 7])
def test_http_cookie_head_split_over_reads_is_found(rig: PersistenceRig, step: int) -> None:
    _same(rig, b"Cookie: a=b; SRV=m3; c=d\r\n", pieces=tuple(range(1, 80, step)))


@pytest.fixture(scope="module")
def app_rig() -> Iterator[PersistenceRig]:
    with (
        tempfile.TemporaryDirectory() as directory,
        run_both(Path(directory), "APP_COOKIE", cookie_name="sid") as running,
    ):
        yield running


def _set_cookie(text: bytes) -> bytes:
    return b"x-reply: " + (b"Set-Cookie: " + text + b"\r\n").hex().encode() + b"\r\n"


@pytest.mark.parametrize(
    ("learned", "asked", "sticks"),
    [
        (b"sid=one; path=/", b"sid=one", True),
        (b"sid=two", b"a=b; sid = two ; c", True),
        (b"a=b, sid=three", b"sid=three", True),
        (b"x=y; sid=four", b"sid=four", False),
        (b'sid="fi;ve"', b'sid="fi;ve"', True),
        (b"sid=six", b"sid=other; sid=six", True),
        (b"sid=seven", b"sid=seven; sid=other", False),
        (b"sid=" + b"8" * 64, b"sid=" + b"8" * 80, True),
        (b"SID=nine", b"sid=nine", False),
        (b"sid=" + b"t" * 4000, b"sid=" + b"t" * 64, True),
        (b"sid=x; Expires=Thu, 01-Jan-1970; sid=eleven", b"sid=eleven", True),
    ],
)
def test_app_cookie_learned_from_a_response_brings_its_client_back(
    app_rig: PersistenceRig, learned: bytes, asked: bytes, sticks: bool
) -> None:
    for port in app_rig.ports.values():
        first = ask(port, _set_cookie(learned)).member
        again = [ask(port, b"Cookie: " + asked + b"\r\n").member for _ in range(3)]

        assert ([*again] == [first] * 3) == sticks
