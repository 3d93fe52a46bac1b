"""How a section reads its lines: a table from keyword to handler is the section's whole grammar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from amphorad.dialects.haproxy.lexer import Line
    from amphorad.dialects.haproxy.report import Report

__all__ = ["FixedSection", "Section", "SkippedSection", "dispatch", "exactly"]

_Draft = TypeVar("_Draft")


class Section(Protocol):
    """The draft of one section while its lines are read."""

    def read(self, line: Line, report: Report) -> None:
        """Take one line.

        Raises:
            ConfigError: the line is refused; the next one may still be read.
        """


class SkippedSection:
    """Swallows the lines of a section whose header was refused: one error for it is enough."""

    def read(self, line: Line, report: Report) -> None:
        del line, report


class FixedSection:
    """A section that the controller always writes alike, word for word."""

    def __init__(self, what: str, lines: frozenset[tuple[str, ...]]) -> None:
        self._what = what
        self._lines = lines

    def read(self, line: Line, report: Report) -> None:
        del report
        if tuple(line.words) not in self._lines:
            raise line.error(f"not part of {self._what}", line.words[0])


def dispatch(
    draft: _Draft, line: Line, report: Report, table: Mapping[str, Callable[[_Draft, Line, Report], None]], where: str
) -> None:
    """Call the handler of the line's keyword, which is its first word or its first two.

    Raises:
        ConfigError: no such keyword in this section, or what the handler raises.
    """
    words = line.words
    handler = table.get(words[0])
    if handler is None and len(words) > 1:
        handler = table.get(f"{words[0]} {words[1]}")
        if handler is None and any(keyword.startswith(words[0] + " ") for keyword in table):
            raise line.error(f"unknown {words[0]!r} directive in {where}", words[1])
    if handler is None:
        raise line.error(f"unknown directive in {where}", words[0])
    handler(draft, line, report)


def exactly(*words: str) -> Callable[[object, Line, Report], None]:
    """A handler for a directive that has one spelling and no effect here."""

    def handle(draft: object, line: Line, report: Report) -> None:
        del draft, report
        if line.words != list(words):
            raise line.error(f"only {' '.join(words)!r} is taken", line.words[-1])

    return handle
