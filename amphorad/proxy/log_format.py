"""The text of a `log-format` directive -> a compiled traffic-log format.

Syntax (HAProxy configuration manual 8.2.6, 2.6): `%name`, `%{flags}name`, `%[sample expression]`, `%%`, and `%{flags}o`,
whose flags hold for all that follows. Flags are +Q +X +E and their removal -Q -X -E; other letters mean nothing, as in
HAProxy. Runs of blanks are one blank, and there is none at the begin. A `%` before any other character is dropped.

Where we differ: a variable or an expression that has no value here is no error. It is written like an absent value
(`-`, or `""` with +Q) and reported in `Formatter.warnings`, because an operator's new format must not stop traffic
(Octavia contract section 4.13).
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Final, NamedTuple, Unpack

from amphorad.proxy.wire.log_line import VARIABLES, LogProgram

if TYPE_CHECKING:
    from amphorad.proxy.wire.log_line import Record

__all__ = ["FACILITIES", "Formatter", "LogFormatError", "Segment", "parse"]

_NAMES = "kern user mail daemon auth syslog lpr news uucp cron auth2 ftp ntp audit alert cron2"
FACILITIES: Final = {name: number for number, name in enumerate(_NAMES.split())} | {
    f"local{n}": 16 + n for n in range(8)
}
"""Names that a `log` line may use (HAProxy configuration manual 3.1) -> syslog facility."""

_CAPTURES: Final = frozenset({"hr", "hrl", "hs", "hsl"})  # nobody captures headers: not even the blanks around notice
_FLAGS: Final = {"Q": 1, "X": 2, "E": 4}
_VARIABLE: Final = re.compile(r"[A-Za-z0-9]+", re.ASCII)
_FLAG: Final = re.compile(r"([+-])([A-Za-z])")


class LogFormatError(ValueError):
    """A log format that HAProxy's parser refuses too.

    Args:
        reason: one sentence for the operator.
        position: 0-based offset in the text.
    """

    def __init__(self, reason: str, position: int) -> None:
        self.reason = reason
        self.position = position
        super().__init__(f"log format, position {position}: {reason}")


class Segment(NamedTuple):
    """Literal bytes, then a variable (None at the end) with its flags (1 quote, 2 hexadecimal, 4 escape).

    A sample expression's name has its brackets.
    """

    literal: bytes
    variable: str | None
    flags: int


def parse(text: str) -> tuple[Segment, ...]:
    """Splits a format; whether its variables exist is not checked here.

    Args:
        text: the directive's argument, with the escapes of the configuration file already removed.

    Raises:
        LogFormatError: malformed syntax.
    """
    segments: list[Segment] = []
    literal: list[str] = []
    common = 0
    blank = True  # the line so far ends with a blank, or is empty
    at = 0
    while at < len(text):
        char = text[at]
        if char.isspace():
            if not blank:
                literal.append(" ")
            blank = True
            at += 1
            continue
        if char != "%":
            literal.append(char)
            blank = False
            at += 1
            continue
        start = at
        flags, at = _read_flags(text, at + 1, common)
        name, at = _read_name(text, at, start)
        if name == "o":
            common = flags
        elif name is not None and name not in _CAPTURES:
            segments.append(Segment("".join(literal).encode(), name, flags))
            literal.clear()
            blank = False
        elif name is None:
            literal.append(text[at])
            blank = False
            at += 1
    segments.append(Segment("".join(literal).encode(), None, 0))
    return tuple(segments)


def _read_flags(text: str, at: int, flags: int) -> tuple[int, int]:
    """The flags in braces at `at`, if any, on top of `flags`; and the offset after them."""
    if not text.startswith("{", at):
        return flags, at
    end = text.find("}", at)
    if end < 0:
        raise LogFormatError("missing '}' after flags", at)
    for sign, letter in _FLAG.findall(text, at, end):
        bit = _FLAGS.get(letter, 0)
        flags = flags | bit if sign == "+" else flags & ~bit
    if not _VARIABLE.match(text, end + 1) and not text.startswith("[", end + 1):
        raise LogFormatError("flags without a variable", at)
    return flags, end + 1


def _read_name(text: str, at: int, start: int) -> tuple[str | None, int]:
    """Name of the variable or expression at `at` and the offset after it; None for a `%` that starts none."""
    if at == len(text):
        raise LogFormatError("'%' at the end; a plain percent sign is '%%'", start)
    if text[at] == "[":
        end = _find_bracket(text, at)
        expression = "".join(text[at + 1 : end].split())
        if not expression:
            raise LogFormatError("empty sample expression", at)
        return f"[{expression}]", end + 1
    match = _VARIABLE.match(text, at)
    if match is not None:
        return match.group(), match.end()
    if text[at].isspace():
        raise LogFormatError("'%' before a blank; a plain percent sign is '%%'", start)
    return None, at


def _find_bracket(text: str, at: int) -> int:
    """Offset of the `]` that ends the expression; one inside parentheses belongs to an argument."""
    depth = 0
    for offset in range(at + 1, len(text)):
        char = text[offset]
        if char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif char == "]" and depth <= 0:
            return offset
    raise LogFormatError("missing ']' after sample expression", at)


class Formatter:
    """A log format ready for use.

    Args:
        text: the directive's argument without escapes.
        facility: name of the log target's syslog facility, see `FACILITIES`. The severity is always info, because log
            offloading selects exactly that (Octavia contract section 7.9).
        tag: program name in the header; the controller's log pipeline may match on `haproxy`.
        pid: process id of the data plane.
        host: value of %H; the system's host name by default.

    Attributes:
        program: what the engine uses; keep it referenced while it does.
        warnings: one sentence for each variable without a value, in order.

    Raises:
        LogFormatError: malformed syntax.
        ValueError: unknown facility.
    """

    __slots__ = ("program", "warnings")

    def __init__(
        self, text: str, *, facility: str = "local0", tag: str = "haproxy", pid: int, host: str | None = None
    ) -> None:
        number = FACILITIES.get(facility)
        if number is None:
            raise ValueError(f"unknown syslog facility: {facility!r}")
        segments = parse(text)
        names = dict.fromkeys(segment.variable for segment in segments)
        self.warnings = tuple(
            f"log format: %{name} has no value here and is written as '-'"
            for name in names
            if name is not None and name not in VARIABLES
        )
        name = socket.gethostname() if host is None else host
        self.program = LogProgram(segments, facility=number, tag=tag.encode(), pid=pid, host=name.encode())

    def line(self, *, now_s: int = 0, room: int = 1025, **values: Unpack[Record]) -> bytes:
        """The datagram for these values, of at most `room` bytes; for tests and tools, not for the hot path."""
        return self.program.line(now_s=now_s, room=room, **values)
