"""The HTTP check as bytes in and findings out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.health.probes.http import FIELD_LIMIT, HEAD_LIMIT, HttpConversation, status_matcher
from amphorad.health.verdict import INFO_LIMIT, CheckStatus, Finding

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def feed(*pieces: bytes, expected: str | None = "200") -> Finding | None:
    conversation = HttpConversation(b"GET / HTTP/1.0\r\n\r\n", status_matcher(expected))
    assert conversation.connected() is None
    for piece in pieces:
        finding = conversation.received(piece)
        if finding is not None:
            return finding
    return None


def test_expected_status_passes_with_code() -> None:
    assert feed(OK) == (CheckStatus.L7OK, 200, "")


@pytest.mark.parametrize(
    ("expected", "code", "passes"),
    [
        ("200", 200, True),
        ("200", 201, False),
        ("200|201|204", 204, True),
        ("200|201|204", 404, False),
        (None, 302, True),
        (None, 404, False),
    ],
)
def test_status_is_matched_by_the_rendered_expression(expected: str, code: int, passes: bool) -> None:
    finding = feed(b"HTTP/1.0 %d Word\r\n\r\n" % code, expected=expected)

    assert finding is not None
    assert finding.status is (CheckStatus.L7OK if passes else CheckStatus.L7STS)
    assert finding.code == code


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200 \r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * FIELD_LIMIT + b"\r\n",
    ],
)
def test_unusual_but_valid_answers_pass(answer: bytes) -> None:
    finding = feed(answer)

    assert finding is not None
    assert finding.status is CheckStatus.L7OK


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00\x01garbage\r\n\r\n",
        b"<html>",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/11 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 O\x00K\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * (FIELD_LIMIT + 1) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * HEAD_LIMIT + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * HEAD_LIMIT,
    ],
)
def test_invalid_answers_fail_at_once(answer: bytes) -> None:
    finding = feed(answer)

    assert finding is not None
    assert finding.status is CheckStatus.L7RSP


@given(st.lists(st.integers(0, len(OK)), max_size=6))
def test_any_split_gives_the_same_finding(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(OK)]
    pieces = [OK[start:end] for start, end in itertools.pairwise(places) if end > start]

    assert feed(*pieces) == (CheckStatus.L7OK, 200, "")


@given(st.binary(max_size=300))
def test_any_bytes_give_a_finding_or_more_to_read(data: bytes) -> None:
    finding = feed(b"HTTP/1.1 ", data, b"\r\n\r\n")

    assert finding is None or finding.status in (CheckStatus.L7OK, CheckStatus.L7STS, CheckStatus.L7RSP)


def test_member_that_never_ends_its_head_is_kept_within_the_limit() -> None:
    conversation = HttpConversation(b"", status_matcher("200"))
    assert conversation.received(b"HTTP/1.1 200 OK\r\n") is None
    fed = 0
    finding = None
    while finding is None:
        finding = conversation.received(b"x: " + b"y" * 997)
        fed += 1000
        assert fed <= HEAD_LIMIT + 1000

    assert finding.status is CheckStatus.L7RSP


def test_text_of_the_member_is_made_fit_for_a_log_line() -> None:
    finding = feed(b'HTTP/1.1 500 say "no"\x1b[31m\xff ' + b"z" * 500 + b"\r\n\r\n")

    assert finding is not None
    assert len(finding.info) == INFO_LIMIT
    assert finding.info.startswith("say 'no'.[31m")


def test_end_of_file_and_errors_before_the_answer() -> None:
    conversation = HttpConversation(b"", status_matcher("200"))

    assert conversation.ended() == (CheckStatus.L7RSP, None, "")
    assert conversation.broken("Connection reset by peer") == (CheckStatus.SOCKERR, None, "Connection reset by peer")
    assert conversation.timed_out() == (CheckStatus.L7TOUT, None, "")
