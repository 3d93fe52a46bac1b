"""One block's directives, and words that stand for numbers and addresses. Every function raises `ConfigError` at the given line."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

from amphorad.dialects.haproxy.values import canonical_address

if TYPE_CHECKING:
    from collections.abc import Iterable

    from amphorad.dialects.keepalived.tokenizer import Node

__all__ = ["Block", "address", "family", "header", "match_words", "network", "number", "version"]

_DIGITS: Final = re.compile(r"[0-9]{1,10}\Z")


class Block:
    """The directives of one block by name. Comments are left out.

    Args:
        allowed: names of directives; a name that ends in `{` is a block.
        repeated: those of them that may come more than once.
    """

    def __init__(self, node: Node, allowed: Iterable[str], repeated: Iterable[str] = ()) -> None:
        self.node = node
        self._found: dict[str, list[Node]] = {}
        known = {name.removesuffix("{"): name.endswith("{") for name in allowed}
        several = frozenset(repeated)
        for child in node.children or ():
            if child.is_comment:
                continue
            name = child.words[0]
            if name not in known:
                raise child.error(f"not a directive of {node.words[0]}", name)
            if known[name] != (child.children is not None):
                raise child.error("a block is missing" if known[name] else "this directive has no block", name)
            earlier = self._found.setdefault(name, [])
            if earlier and name not in several:
                raise child.error(f"given twice (first in line {earlier[0].number})", name)
            earlier.append(child)

    def every(self, name: str) -> list[Node]:
        """All directives of that name, in the order of the text."""
        return self._found.get(name, [])

    def find(self, name: str) -> Node | None:
        """The directive, if there is one."""
        found = self._found.get(name)
        return found[0] if found else None

    def get(self, name: str) -> Node:
        """The directive, which must be there."""
        found = self.find(name)
        if found is None:
            raise self.node.error(f"{name} is missing in {self.node.words[0]}")
        return found

    def word(self, name: str) -> str:
        """The only word after the directive, which must be there."""
        node = self.get(name)
        return header(node, 1)[0]

    def flag(self, name: str) -> None:
        """The directive must be there, without a word after it."""
        header(self.get(name), 0)

    def number(self, name: str, *, low: int, high: int) -> int:
        return number(self.get(name), self.word(name), low=low, high=high)


def header(node: Node, count: int) -> list[str]:
    """The words after the first, of which there must be `count`."""
    if len(node.words) - 1 < count:
        raise node.error(f"needs {count} words after it, not {len(node.words) - 1}", node.words[0])
    if len(node.words) - 1 > count:
        raise node.error("unexpected word", node.words[count + 1])
    return node.words[1:]


def match_words(node: Node, pattern: str, *, start: int = 0) -> list[str]:
    """The words of a line from `start` on that stand at the `?` of a pattern; all others must be as in it."""
    expected = pattern.split()
    words = node.words[start:]
    if len(words) != len(expected):
        raise node.error(f"must be written `{pattern}`", " ".join(node.words))
    for word, wanted in zip(words, expected, strict=True):
        if wanted not in ("?", word):
            raise node.error(f"must be written `{pattern}`", word)
    return [word for word, wanted in zip(words, expected, strict=True) if wanted == "?"]


def number(node: Node, word: str, *, low: int, high: int) -> int:
    """A whole number in `low`..`high`, of ASCII digits."""
    value = int(word) if _DIGITS.match(word) else -1
    if not low <= value <= high:
        raise node.error(f"must be a number from {low} to {high}", word)
    return value


def address(node: Node, word: str) -> str:
    """An IPv4 or IPv6 address without a zone, in its shortest standard form."""
    try:
        return canonical_address(word)
    except ValueError:
        raise node.error("must be an IPv4 or IPv6 address", word) from None


def network(node: Node, word: str) -> str:
    """`ADDRESS/PREFIX LENGTH`, or an address alone; bits beyond the prefix are dropped."""
    try:
        if "%" in word:
            raise ValueError("an address with a zone is not taken")
        return str(ipaddress.ip_network(word, strict=False))
    except ValueError:
        raise node.error("must be a network, ADDRESS/PREFIX", word) from None


def version(canonical: str) -> int:
    """4 or 6."""
    return 6 if ":" in canonical else 4


def family(addresses: Iterable[str], wanted: int) -> tuple[str, ...]:
    """Those of one IP version."""
    return tuple(one for one in addresses if version(one) == wanted)
