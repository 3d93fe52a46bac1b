"""Lines and words of a haproxy.cfg (Octavia contract section 4.1, HAProxy configuration manual 2.2).

Limits, each a `ConfigError` when passed: 16 MiB of text, 500,000 lines, 65,536 characters in a line. Carriage returns and
NUL are refused, `$` inside double quotes is refused where HAProxy would expand an environment variable.

Blanks are space and TAB only, and lines end at LF only: a user's value may hold any other character that Unicode calls
a space or a line end.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Final

from amphorad.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amphorad.dialects.haproxy.report import Report

__all__ = ["MAX_LINES", "MAX_LINE_CHARACTERS", "MAX_TEXT_BYTES", "Escaping", "Line", "check_text", "read_lines"]

MAX_TEXT_BYTES: Final = 16 * 1024 * 1024
MAX_LINES: Final = 500_000
MAX_LINE_CHARACTERS: Final = 65_536
_QUOTED_CHARACTERS: Final = 100  # of a word, in an error

_ENTITIES: Final = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&#34;": '"', "&#39;": "'"}
_ENTITY: Final = re.compile("|".join(_ENTITIES))
_BLANKS: Final = " \t"
_SIMPLE_ESCAPES: Final = {
    " ": " ",
    "\t": "\t",
    "#": "#",
    "\\": "\\",
    "'": "'",
    '"': '"',
    "n": "\n",
    "r": "\r",
    "t": "\t",
}
_WORDS: Final = re.compile(r"[^ \t]+")
_ORDINARY: Final = re.compile(r"[^ \t\\\"'#$]+")
_EXPANSION: Final = re.compile(r"\$[A-Za-z_{]")


class Escaping(Enum):
    """How to read what the controller escaped.

    INTENT restores what the user asked for: the five HTML entities that the controller's templates write are undone
    once, `#` is a comment only at the start of a line, backslashes in redirect URLs and monitor paths are literal
    (the controller does not escape them).
    STRICT reads every byte as HAProxy does, including its truncated rules (Octavia contract section 4.1, 4.16).
    """

    INTENT = "intent"
    STRICT = "strict"


class Line:
    """One directive: `words` without quotes and escapes, `raw` as it was written, `number` from 1."""

    __slots__ = ("escaping", "file", "number", "raw", "words")

    def __init__(self, file: str, number: int, raw: str, words: list[str], escaping: Escaping) -> None:
        self.file = file
        self.number = number
        self.raw = raw
        self.words = words
        self.escaping = escaping

    def error(self, reason: str, word: str | None = None) -> ConfigError:
        """An error at this line, to be raised or reported."""
        if word is not None and len(word) > _QUOTED_CHARACTERS:
            word = word[:_QUOTED_CHARACTERS] + "..."
        return ConfigError(reason, file=self.file, line=self.number, word=word)

    def argument(self, what: str, *, index: int = 1) -> str:
        """The word at `index`, which must be the last one."""
        if len(self.words) <= index:
            raise self.error(f"{what} is missing", self.words[-1])
        if len(self.words) > index + 1:
            raise self.error(f"unexpected word after {what}", self.words[index + 1])
        return self.words[index]

    def user_value(self, index: int) -> str:
        """Everything from word `index` on, as one value: an L7 rule's pattern in `Escaping.INTENT`.

        The controller escapes blanks and backslashes of such a value but not TABs, which are part of it. A blank that
        is not escaped cannot be the controller's.
        """
        start = 0
        for position, match in enumerate(_WORDS.finditer(self.raw)):
            if position == index:
                start = match.start()
                break
        else:
            raise self.error("the value is missing", self.words[-1])
        tail = _without_trailing_blanks(self.raw[start:])
        if "'" in tail or '"' in tail:  # never the controller's, which writes entities: an operator's own quoting
            if len(self.words) > index + 1:
                raise self.error("more than one value", self.words[index + 1])
            return self.words[index]
        value = _unescape_value(self, tail) if "\\" in tail or " " in tail else tail
        return _restore(value)


def check_text(text: str, *, file: str) -> None:
    """Refuse a text that is too large or not made of LF-ended lines, before any line is read."""
    # The encoded form is at least as long as the text, so the cheap test spares the encoding of a huge one.
    if len(text) > MAX_TEXT_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        raise ConfigError(f"the configuration is longer than {MAX_TEXT_BYTES} bytes", file=file)
    if text.count("\n") > MAX_LINES:
        raise ConfigError(f"the configuration has more than {MAX_LINES} lines", file=file)
    for character, name in (("\r", "a carriage return (write LF line ends)"), ("\0", "a NUL character")):
        at = text.find(character)
        if at >= 0:
            raise ConfigError(f"the line holds {name}", file=file, line=text.count("\n", 0, at) + 1)


def read_lines(text: str, report: Report, *, escaping: Escaping) -> Iterator[Line]:
    """The directives of `text`, without blank lines and comments, until the report is full.

    A line that cannot be split is reported and left out. `text` must have passed `check_text`.
    """
    file = report.file
    strict = escaping is Escaping.STRICT
    for number, raw in enumerate(text.split("\n"), 1):
        try:
            if len(raw) > MAX_LINE_CHARACTERS:
                raise ValueError(f"the line is longer than {MAX_LINE_CHARACTERS} characters")
            words = _split(raw, strict=strict)
        except ValueError as error:
            report.errors.append(ConfigError(str(error), file=file, line=number))
        else:
            if words:
                yield Line(file, number, raw, words, escaping)
        if report.is_full:
            return


def _split(raw: str, *, strict: bool) -> list[str]:
    # `str.split` is twice as fast but knows more blanks than HAProxy; none of those is printable ASCII.
    plain = raw.split() if raw.isascii() and raw.isprintable() else _WORDS.findall(raw)
    if not plain or plain[0][0] == "#":
        return []
    quoted = '"' in raw or "'" in raw
    if quoted or "\\" in raw or (strict and "#" in raw):
        literal = not strict and not quoted and _takes_literal_url(plain)
        words = plain if literal else _split_slowly(raw, strict=strict)
    else:
        words = plain
    if not strict and "&" in raw:
        return [_restore(word) for word in words]
    return words


def _takes_literal_url(words: list[str]) -> bool:
    """The controller writes these values with their backslashes as they are, which HAProxy then reads as escapes."""
    return words[0] == "redirect" or words[:2] == ["option", "httpchk"]


def _restore(word: str) -> str:
    """Undo the five entities, once: a user's own `&amp;` arrives as `&amp;amp;`."""
    return _ENTITY.sub(lambda match: _ENTITIES[match[0]], word) if "&" in word else word


def _split_slowly(raw: str, *, strict: bool) -> list[str]:
    """Words with HAProxy's quotes and escapes; `ValueError` with the reason when they are malformed."""
    words: list[str] = []
    word: list[str] = []
    in_word = False
    quote = ""
    at = 0
    end = len(raw)
    while at < end:
        ordinary = _ORDINARY.match(raw, at)
        if ordinary is not None:
            word.append(ordinary[0])
            in_word = True
            at = ordinary.end()
            continue
        character = raw[at]
        at += 1
        if quote:
            if character == quote:
                quote = ""
                continue
            if quote == '"' and character == "$" and _EXPANSION.match(raw, at - 1):
                raise ValueError("environment variables are not expanded here")
        elif character in _BLANKS:
            if in_word:
                words.append("".join(word))
                word.clear()
                in_word = False
            continue
        elif character in "\"'":
            quote = character
            in_word = True
            continue
        elif character == "#" and strict:
            break
        in_word = True
        if character == "\\" and quote != "'":
            character, at = _escape(raw, at)
        word.append(character)
    if quote:
        raise ValueError("a quote is not closed")
    if in_word:
        words.append("".join(word))
    return words


def _escape(raw: str, at: int) -> tuple[str, int]:
    """What the escape after a backslash at `at - 1` stands for, and where reading goes on."""
    following = raw[at : at + 1]
    if following == "x":
        digits = raw[at + 1 : at + 3]
        if not re.fullmatch("[0-7][0-9A-Fa-f]", digits) or digits == "00":
            raise ValueError(r"\x is not followed by two hexadecimal digits of an ASCII character")
        return chr(int(digits, 16)), at + 3
    if following in _SIMPLE_ESCAPES:
        return _SIMPLE_ESCAPES[following], at + 1
    return "\\", at


def _unescape_value(line: Line, tail: str) -> str:
    parts: list[str] = []
    at = 0
    while at < len(tail):
        character = tail[at]
        at += 1
        if character == " ":
            raise line.error("more than one value (a blank inside a value is written '\\ ')", tail[at:])
        if character == "\\":
            try:
                character, at = _escape(tail, at)
            except ValueError as error:
                raise line.error(str(error)) from None
        parts.append(character)
    return "".join(parts)


def _without_trailing_blanks(text: str) -> str:
    """`text` without blanks at its end, keeping one that a backslash escapes."""
    stripped = text.rstrip(_BLANKS)
    if stripped == text:
        return text
    backslashes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + text[len(stripped)] if backslashes % 2 else stripped
