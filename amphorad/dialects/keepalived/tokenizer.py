"""Lines and blocks of a keepalived text (keepalived.conf(5), "Conditional configuration" and variables left out: they are refused).

Limits, each a `ConfigError` when passed: 16 MiB of text, 500,000 lines, 4096 characters in a line, blocks four deep. Carriage returns, NUL and
other control characters are refused. Blanks are space and TAB only.

A line is words, and `{` as its last word opens a block that ends with `}` on a line of its own, as the controller's templates write them.
`#` and `!` start a comment at the start of a line. keepalived takes them for a comment anywhere: elsewhere they are refused, except in a
`path`, whose text is the user's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from amphorad.errors import ConfigError

__all__ = ["MAX_DEPTH", "MAX_LINES", "MAX_LINE_CHARACTERS", "MAX_TEXT_BYTES", "Node", "decode", "read_tree"]

MAX_TEXT_BYTES: Final = 16 * 1024 * 1024
MAX_LINES: Final = 500_000
MAX_LINE_CHARACTERS: Final = 4096
MAX_DEPTH: Final = 4
_QUOTED_CHARACTERS: Final = 100  # of a word, in an error

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_WORD: Final = re.compile(r'"(?P<quoted>[^"]*)"(?=[ \t]|$)|(?P<plain>[^ \t"]+)(?=[ \t]|$)|(?P<wrong>[^ \t]+)')


@dataclass(slots=True)
class Node:
    """One line: a directive, the first line of a block, or a comment.

    Args:
        words: without quotes and without the brace; of a comment what follows its sign.
        children: the lines of the block; None for a line that opens none.
    """

    file: str
    number: int
    words: list[str]
    is_comment: bool = False
    children: list[Node] | None = field(default=None)

    def error(self, reason: str, word: str | None = None) -> ConfigError:
        """An error at this line, to be raised."""
        if word is not None and len(word) > _QUOTED_CHARACTERS:
            word = word[:_QUOTED_CHARACTERS] + "..."
        return ConfigError(reason, file=self.file, line=self.number, word=word)


def decode(data: bytes, *, file: str) -> str:
    """The text, which is UTF-8.

    Raises:
        ConfigError: it is not, with the line of the first wrong byte; or it is too long.
    """
    if len(data) > MAX_TEXT_BYTES:
        raise ConfigError(f"the configuration is longer than {MAX_TEXT_BYTES} bytes", file=file)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("the line is not UTF-8", file=file, line=line) from None


def read_tree(text: str, *, file: str) -> list[Node]:
    """The lines outside of any block, with those inside of blocks below them.

    Raises:
        ConfigError.
    """
    if len(text) > MAX_TEXT_BYTES or text.count("\n") > MAX_LINES:
        raise ConfigError(f"the configuration is longer than {MAX_TEXT_BYTES} bytes or {MAX_LINES} lines", file=file)
    top: list[Node] = []
    open_blocks: list[Node] = []
    siblings = top
    for number, raw in enumerate(text.split("\n"), 1):
        node = _read_line(raw, file, number)
        if node is None:
            continue
        if not node.is_comment and node.words == ["}"]:
            if not open_blocks:
                raise node.error("closes a block that is not open", "}")
            open_blocks.pop()
            siblings = _children(open_blocks[-1]) if open_blocks else top
            continue
        siblings.append(node)
        if not node.is_comment and node.words[-1] == "{":
            node.words.pop()
            if not node.words:
                raise node.error("a block without a name", "{")
            if len(open_blocks) == MAX_DEPTH:
                raise node.error("blocks inside of blocks, too deep", node.words[0])
            open_blocks.append(node)
            node.children = siblings = []
    if open_blocks:
        raise open_blocks[-1].error("the block is not closed", open_blocks[-1].words[0])
    return top


def _children(node: Node) -> list[Node]:
    assert node.children is not None
    return node.children


def _read_line(raw: str, file: str, number: int) -> Node | None:
    node = Node(file, number, [])
    if len(raw) > MAX_LINE_CHARACTERS:
        raise node.error(f"the line is longer than {MAX_LINE_CHARACTERS} characters")
    if _CONTROL.search(raw):
        raise node.error("the line holds a control character")
    stripped = raw.strip(" \t")
    if not stripped:
        return None
    if stripped[0] in "#!":
        node.is_comment = True
        node.words = [word for word in re.split("[ \t]+", stripped[1:]) if word]
        return node
    node.words = _split(node, stripped)
    return node


def _split(node: Node, text: str) -> list[str]:
    words = []
    for match in _WORD.finditer(text):
        if match["wrong"] is not None:
            raise node.error("a quote inside of a word, or one that is not closed", match["wrong"])
        words.append(match["plain"] if match["quoted"] is None else match["quoted"])
    if words[0] != "path":
        for word in words:
            if "#" in word or "!" in word:
                raise node.error("a comment is a line of its own", word)
        if any("{" in word or "}" in word for word in words[:-1]) or (len(words[-1]) > 1 and set(words[-1]) & {*"{}"}):
            raise node.error("a brace is the last word of its line, or a line of its own", text)
    return words
