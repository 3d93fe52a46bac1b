"""Fuzzes the haproxy.cfg dialect with mutations of rendered texts.

Run: `python -m tests.fuzz.fuzz_haproxy_dialect --seconds 60 --seed 1`. Whatever comes in, `check` answers with a model or
with errors that have a line inside the text, within two seconds, and without keeping memory.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from pathlib import Path

from amphorad.dialects.haproxy import ALL_FEATURES, MAX_ERRORS, SUPPORTED, Escaping, Feature, check, parse
from amphorad.errors import ConfigError
from amphorad.plan import compare
from tests.fuzz.command import fuzz_as_command

__all__ = ["SEEDS", "fuzz", "mutate", "verify"]

_ROOT = Path(__file__).resolve().parents[2]
SEEDS = [path.read_text(encoding="utf-8") for path in sorted((_ROOT / "tests/contract/dialect/data").glob("*.cfg"))]
_PARSE_LIMIT_S = 2.0
_GROWTH_LIMIT_KIB = 100 * 1024
_MAX_WORD = 70_000  # just beyond the longest line
_CHARACTERS = " \t\n\r\0#\\'\"$&;:%{}[]()!,.|=-+0159azAZé\u00a0\u2028\U0001f600\udcff"
_NUMBERS = ["0", "-1", "65536", "99999999999999999999", "1e9", "0x10", "٣", "1k", "10s", "1_0"]
_PIECES = ["&#34;", "&amp;amp;", "\\x4", "\\", '"', "'", "${A}", "#", "!{ ssl_fc }", "if", "::", "[::1]:80", "%[src]"]


def mutate(text: str, rng: random.Random) -> str:
    """One to eight random edits of lines, words or characters."""
    lines = text.split("\n")
    for _ in range(rng.randint(1, 8)):
        rng.choice(_EDITS)(lines, rng)
        if not lines:
            lines = [""]
    return "\n".join(lines)


def _delete_line(lines: list[str], rng: random.Random) -> None:
    del lines[rng.randrange(len(lines))]


def _repeat_line(lines: list[str], rng: random.Random) -> None:
    at = rng.randrange(len(lines))
    lines[at:at] = [lines[at]] * rng.choice([1, 1, 1, 50])


def _move_line(lines: list[str], rng: random.Random) -> None:
    lines.insert(rng.randrange(len(lines)), lines.pop(rng.randrange(len(lines))))


def _foreign_line(lines: list[str], rng: random.Random) -> None:
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(rng.choice(SEEDS).split("\n")))


def _cut_text(lines: list[str], rng: random.Random) -> None:
    del lines[rng.randrange(len(lines)) :]


def _edit_words(lines: list[str], rng: random.Random) -> None:
    at = rng.randrange(len(lines))
    words = lines[at].split(" ")
    other = rng.choice(rng.choice(SEEDS).split())
    position = rng.randrange(len(words))
    replacement = rng.choice(
        [other, rng.choice(_NUMBERS), rng.choice(_PIECES), "", words[position][:14] * rng.choice([2, 5000])]
    )
    if rng.random() < 0.5:
        words[position] = replacement[:_MAX_WORD]
    else:
        words.insert(position, replacement[:_MAX_WORD])
    lines[at] = " ".join(words)


def _edit_characters(lines: list[str], rng: random.Random) -> None:
    at = rng.randrange(len(lines))
    line = lines[at]
    position = rng.randint(0, len(line))
    lines[at] = line[:position] + rng.choice(_CHARACTERS) + line[position + rng.randint(0, 1) :]


_EDITS = [
    _delete_line,
    _repeat_line,
    _move_line,
    _foreign_line,
    _cut_text,
    _edit_words,
    _edit_words,
    _edit_words,
    _edit_characters,
    _edit_characters,
]


def verify(text: str, rng: random.Random) -> bool:
    """Check one text; whether it was accepted. `AssertionError`, or what escapes the parser, is the finding."""
    escaping = rng.choice(list(Escaping))
    features = rng.choice([ALL_FEATURES, SUPPORTED])
    started = time.process_time()
    model, errors = check(text, escaping=escaping, features=features)
    elapsed = time.process_time() - started
    assert elapsed < _PARSE_LIMIT_S, f"took {elapsed:.1f} s"
    assert len(errors) <= MAX_ERRORS
    assert (model is None) == bool(errors)
    lines = text.count("\n") + 1
    assert all(error.line is None or 1 <= error.line <= lines for error in errors)
    assert all(len(str(error)) < 1000 for error in errors)
    if model is None:
        assert _refusal(text, escaping, features) in map(str, errors)
        return False
    assert compare(model, parse(text, escaping=escaping, features=features)).is_empty
    return True


def _refusal(text: str, escaping: Escaping, features: frozenset[Feature]) -> str:
    try:
        parse(text, escaping=escaping, features=features)
    except ConfigError as error:
        return str(error)
    return "parse accepts what check refuses"


def fuzz(*, seconds: float, seed: int, limit: int | None = None) -> tuple[int, int]:
    """Run for a time or a number of texts; how many were tried and how many were accepted."""
    rng = random.Random(seed)
    tried = accepted = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and (limit is None or tried < limit):
        text = mutate(rng.choice(SEEDS), rng)
        tried += 1
        try:
            accepted += verify(text, rng)
        except Exception:
            print(f"seed={seed} case={tried}\n{text!r}", file=sys.stderr)
            raise
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert growth < _GROWTH_LIMIT_KIB, f"memory grew by {growth} KiB"
    return tried, accepted


if __name__ == "__main__":
    fuzz_as_command(__doc__, lambda seconds, seed: "tried={} accepted={}".format(*fuzz(seconds=seconds, seed=seed)))
