"""What is wrong with a configuration, collected while it is read, and the limits on its objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amphorad.errors import ConfigError, NotSupportedYet

if TYPE_CHECKING:
    from amphorad.dialects.haproxy.features import Feature
    from amphorad.dialects.haproxy.lexer import Line

__all__ = ["MAX_ERRORS", "MAX_LISTENERS", "MAX_MEMBERS", "MAX_POOLS", "Report", "once"]

MAX_ERRORS: Final = 100
MAX_LISTENERS: Final = 4096
MAX_POOLS: Final = 16384
MAX_MEMBERS: Final = 65536


class Report:
    """Errors of one text, and the features it may use.

    A missing feature is reported once, at the line that needs it first: a thousand checked members are one finding.
    """

    def __init__(self, *, file: str, features: frozenset[Feature]) -> None:
        self.file = file
        self.errors: list[ConfigError] = []
        self._features = features
        self._missing: set[Feature] = set()
        self._members = 0

    def need(self, feature: Feature, line: Line) -> None:
        """Note that `line` asks for `feature`."""
        if feature not in self._features and feature not in self._missing:
            self._missing.add(feature)
            reason = f"{feature.value}: not supported yet"
            self.errors.append(NotSupportedYet(reason, file=self.file, line=line.number, word=line.words[0]))

    def count_member(self, line: Line) -> None:
        self._members += 1
        if self._members == MAX_MEMBERS + 1:
            self.errors.append(line.error(f"more than {MAX_MEMBERS} members"))

    @property
    def is_full(self) -> bool:
        """Enough errors for one answer, or too many objects: reading on is of no use."""
        return len(self.errors) >= MAX_ERRORS or self._members > MAX_MEMBERS

    def in_order(self) -> list[ConfigError]:
        """All errors by line; those about the whole text come last."""
        return sorted(self.errors, key=lambda error: (error.line is None, error.line or 0))[:MAX_ERRORS]


def once(seen: dict[str, int], key: str, line: Line) -> None:
    """Refuse a second `key` in one scope; HAProxy would take the last one, or both, without a word."""
    first = seen.setdefault(key, line.number)
    if first != line.number:
        raise line.error(f"given twice (first in line {first})", key)
