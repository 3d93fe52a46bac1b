"""The HTTP/1 check: send the request, read the head of the answer, judge its status.

What counts as an answer is HAProxy's: a complete head of at most HEAD_LIMIT bytes and FIELD_LIMIT fields. Lines may end
in LF alone; an informational answer (1xx) is an answer. The body is not read.
"""

from __future__ import annotations

import functools
import re
from typing import Final

from amphorad.health.verdict import INFO_LIMIT, CheckStatus, Finding

__all__ = ["FIELD_LIMIT", "HEAD_LIMIT", "HttpConversation", "WithoutAnswer", "judge", "status_matcher"]

HEAD_LIMIT: Final = 15360
"""Bytes of an answer's head: HAProxy's buffer less its reserve."""
FIELD_LIMIT: Final = 101

_ANY_GOOD: Final = re.compile("[23]..")
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
# Every repetition is possessive or ends at a character that it cannot contain: no input makes this search back.
_HEAD: Final = re.compile(
    rb"HTTP/[0-9]\.[0-9] ([0-9]{1,5})(?: ([^\r\n\0]*+))?\r?\n"
    rb"(?:(?:" + _TOKEN + rb":|[ \t])[^\r\n\0]*+\r?\n)*+\r?\n"
)
_LENGTH: Final = re.compile(rb"^content-length:[ \t]*+([^\r\n]*+)", re.IGNORECASE | re.MULTILINE)
_END: Final = re.compile(rb"\n\r?\n")


@functools.lru_cache(maxsize=1024)
def status_matcher(expected: str | None) -> re.Pattern[str]:
    """The compiled expression for an expected status, unanchored."""
    return _ANY_GOOD if expected is None else re.compile(expected)


@functools.lru_cache(maxsize=4096)
def judge(code: int, text: bytes, expected: re.Pattern[str]) -> Finding:
    """What a status means; `text` is what the member says about it. Members answer the same over and over."""
    good = expected.search(str(code)) is not None
    return Finding(CheckStatus.L7OK, code) if good else Finding(CheckStatus.L7STS, code, printable(text))


class WithoutAnswer:
    """What it means when there is no answer, in HTTP of any version."""

    __slots__ = ()

    def connected(self) -> Finding | None:
        return None

    def ended(self) -> Finding:
        return Finding(CheckStatus.L7RSP)

    def broken(self, reason: str) -> Finding:
        return Finding(CheckStatus.SOCKERR, None, reason)

    def timed_out(self) -> Finding:
        return Finding(CheckStatus.L7TOUT)


class HttpConversation(WithoutAnswer):
    """One request and the head of its answer.

    Args:
        request: sent as it is.
        expected: see `status_matcher`.
    """

    __slots__ = ("_expected", "_head", "is_established", "outgoing")

    def __init__(self, request: bytes, expected: re.Pattern[str]) -> None:
        self.outgoing = request
        self.is_established = True
        self._expected = expected
        self._head = b""

    def received(self, data: bytes) -> Finding | None:
        searched = max(0, len(self._head) - 2)
        head = self._head + data[: HEAD_LIMIT + 1 - len(self._head)]
        end = _END.search(head, searched)
        if end is not None:
            return self._judge_head(head[: end.end()])
        if len(head) > HEAD_LIMIT or not b"HTTP/".startswith(head[:5]):
            return Finding(CheckStatus.L7RSP)
        self._head = head
        return None

    def _judge_head(self, head: bytes) -> Finding:
        match = _HEAD.fullmatch(head)
        if match is None or head.count(b"\n") - 2 > FIELD_LIMIT:
            return Finding(CheckStatus.L7RSP)
        lengths = _LENGTH.findall(head)
        if lengths and not (lengths[0].rstrip().isdigit() and lengths.count(lengths[0]) == len(lengths)):
            return Finding(CheckStatus.L7RSP)
        return judge(int(match[1]), (match[2] or b"")[:INFO_LIMIT], self._expected)


def printable(data: bytes) -> str:
    """What a member sent, fit for a log line: short, without control characters and quotes."""
    text = data[:INFO_LIMIT].decode("ascii", "replace").replace('"', "'")
    return "".join(character if character.isprintable() else "." for character in text)
