"""The INI dialect of the controller's configuration library (oslo.config), as far as one file of an amphora can use it.

    [group]                 group names are compared without case, except DEFAULT
    name = value            or `name: value`, whichever sign comes first; one pair of quotes around the value goes away
        more                a line that begins with a blank goes on with the value, after a line end
    # comment, ; comment    at the start of a line only

The last assignment of a name wins, in a file and over files. `$name`, `${name}`, `$group.name` stand for another option's value, `$$`
and `\\$` for a dollar sign.

Limits: MAX_BYTES of text, MAX_VALUE characters of one value, MAX_REFERENCES times `$name` followed for one value.

Where this differs from oslo.config on purpose: a `$name` that is no option stays as it is instead of being an error, because the
controller writes a heartbeat key with a dollar sign unescaped. Names in `$name` are also found when no program knows that option.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amphorad.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MAX_BYTES", "MAX_REFERENCES", "MAX_VALUE", "Assignment", "Assignments", "parse"]

MAX_BYTES = 1024 * 1024
MAX_VALUE = 64 * 1024
MAX_REFERENCES = 100

_REFERENCE = re.compile(r"\$(?:(?P<escaped>\$)|(?P<named>[_a-z][._a-z0-9]*)|\{(?P<braced>[_a-z][._a-z0-9]*)\})", re.I)


@dataclass(frozen=True, slots=True)
class Assignment:
    """One value and where it stands; the line is 1-based."""

    text: str
    file: str
    line: int

    def refuse(self, reason: str, word: str | None = None) -> ConfigError:
        """The error to raise about this value."""
        return ConfigError(reason, file=self.file, line=self.line, word=self.text if word is None else word)


def parse(text: str, file: str) -> dict[tuple[str, str], Assignment]:
    """The assignments of one file, by group and name.

    Raises:
        ConfigError: the first thing that is not in the grammar.
    """
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise ConfigError(f"the file is longer than {MAX_BYTES} bytes", file=file)
    found: dict[tuple[str, str], Assignment] = {}
    group: str | None = None
    key: tuple[str, str] | None = None  # of the assignment that a continuation line belongs to
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.rstrip()
        if len(line) > MAX_VALUE:
            raise ConfigError(f"a line of more than {MAX_VALUE} characters", file=file, line=number)
        if not line:
            key = None
        elif line[0] in " \t":
            if key is None:
                raise ConfigError("this line continues nothing", file=file, line=number, word=line.strip())
            before = found[key]
            found[key] = Assignment(f"{before.text}\n{line.lstrip()}", file, before.line)
            if len(found[key].text) > MAX_VALUE:
                raise ConfigError(f"a value of more than {MAX_VALUE} characters", file=file, line=number, word=key[1])
        elif line[0] == "[":
            key, group = None, _group(line, file, number)
        elif line[0] in "#;":
            key = None
        else:
            name, value = _assignment(line, file, number)
            if group is None:
                raise ConfigError("an assignment before the first [group]", file=file, line=number, word=name)
            key = (group, name)
            found[key] = Assignment(value, file, number)
    return found


def _group(line: str, file: str, number: int) -> str:
    if not line.endswith("]") or len(line) <= 2:
        raise ConfigError("a group is written [name]", file=file, line=number, word=line)
    return _normal(line[1:-1])


def _normal(group: str) -> str:
    return group if group == "DEFAULT" else group.lower()


def _assignment(line: str, file: str, number: int) -> tuple[str, str]:
    signs = [at for at in (line.find("="), line.find(":")) if at >= 0]
    if not signs:
        raise ConfigError("neither '=' nor ':' in this line", file=file, line=number, word=line)
    name, value = line[: min(signs)].strip(), line[min(signs) + 1 :].strip()
    if not name:
        raise ConfigError("a value without a name", file=file, line=number, word=line)
    if value and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return name, value


class Assignments:
    """What several files say together, and what stands for an option that none of them sets.

    Args:
        files: assignments of each file; later ones win.
        defaults: texts, by group and name.
    """

    def __init__(
        self, files: Sequence[Mapping[tuple[str, str], Assignment]], defaults: Mapping[tuple[str, str], str]
    ) -> None:
        self._found: dict[tuple[str, str], Assignment] = {}
        for file in files:
            self._found.update(file)
        self._defaults = defaults
        self._followed = 0  # references, for the value that is being made

    def names(self, group: str) -> tuple[str, ...]:
        """Names that a file sets in a group."""
        return tuple(name for of, name in self._found if of == group)

    def get(self, group: str, name: str) -> Assignment:
        """The value with its references followed; of a default, the file is `<default>`.

        Raises:
            ConfigError: a value refers to itself, or to too much.
        """
        found = self._lookup(group, name)
        assert found is not None, f"[{group}] {name} has no default"
        self._followed = 0
        return Assignment(self._expand(found, group), found.file, found.line)

    def _lookup(self, group: str, name: str) -> Assignment | None:
        found = self._found.get((group, name))
        if found is None and (group, name) in self._defaults:
            found = Assignment(self._defaults[group, name], "<default>", 1)
        return found

    def _expand(self, value: Assignment, group: str) -> str:
        if "$" not in value.text:
            return value.text

        def replacement(match: re.Match[str]) -> str:
            if match["escaped"]:
                return "$"
            of, target = self._referred(group, match["named"] or match["braced"])
            if target is None:
                return match[0]
            self._followed += 1
            if self._followed > MAX_REFERENCES:
                raise value.refuse("too many references, or values that refer to each other without end")
            return self._expand(target, of)

        return _REFERENCE.sub(replacement, value.text.replace(r"\$", "$$"))

    def _referred(self, group: str, name: str) -> tuple[str, Assignment | None]:
        """The group and the value that a reference means, seen from a value of `group`."""
        of, dot, rest = name.partition(".")
        if dot:
            return _normal(of), self._lookup(_normal(of), rest)
        own = self._lookup(group, name)
        return (group, own) if own is not None else ("DEFAULT", self._lookup("DEFAULT", name))
