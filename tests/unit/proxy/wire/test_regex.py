"""Bounded regular expressions: equal to `re` where both mean the same, and over soon whatever the pattern."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.proxy.wire.regex import Regex, RegexError

_ATOMS = st.sampled_from(
    ["a", "b", "ab", ".", "[ab]", "[^a]", "\\.", "\\d", "\\w", "a?", "b*", "a+", "b{2}", "a{1,2}", "c"]
)


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("({0[0]}|{0[1]})".format),
        inner.map("(?:{})?".format),
        inner.map("^{}".format),
        inner.map("{}$".format),
    )


_patterns = st.recursive(_ATOMS, _grow, max_leaves=6)
_subjects = st.text("abc.1/A é", max_size=20).map(str.encode)


@given(pattern=_patterns, subject=_subjects, fold=st.booleans(), machine_code=st.booleans())
def test_search_finds_what_re_finds(pattern: str, subject: bytes, fold: bool, machine_code: bool) -> None:
    compiled = re.compile(pattern.encode(), re.IGNORECASE if fold else 0)

    found = Regex(pattern.encode(), fold=fold, machine_code=machine_code).search(subject)

    assert found == (compiled.search(subject) is not None)


@given(pattern=_patterns, subject=_subjects, padding=st.integers(1024, 3000))
def test_search_of_a_long_subject_finds_what_re_finds(pattern: str, subject: bytes, padding: int) -> None:
    """Long subjects are searched in stretches."""
    long = b"/" * (padding // 2) + subject + b"/" * (padding // 2)

    found = Regex(pattern.encode()).search(long)

    assert found == (re.search(pattern.encode(), long) is not None)


@pytest.mark.parametrize("at", [0, 511, 512, 513, 1023, 1024, 4000])
def test_search_of_a_long_subject_looks_at_every_place(at: int) -> None:
    subject = b"-" * at + b"needle" + b"-" * (5000 - at)

    assert Regex(b"needle").search(subject) is True
    assert Regex(b"needle-*$").search(subject) is True
    assert Regex(b"(?<=-)needle").search(subject) is (at > 0)
    assert Regex(b"^needle").search(subject) is (at == 0)


@pytest.mark.parametrize("machine_code", [True, False])
@pytest.mark.parametrize(
    ("pattern", "subject"),
    [
        (b"(a+)+$", b"a" * 60 + b"!"),
        (b"(a|aa)+$", b"a" * 60 + b"!"),
        (b"^(a|aa)+$", b"a" * 15000 + b"!"),
        (b"a[a-z]*[a-z]*[0-9]", b"a" * 15000),
        (b"(x+x+)+y", b"x" * 15000),
        (b"(?:a?){40}a{40}", b"a" * 39),
    ],
)
def test_search_that_would_run_away_is_given_up_soon(pattern: bytes, subject: bytes, machine_code: bool) -> None:
    regex = Regex(pattern, machine_code=machine_code)
    began = time.thread_time()

    found = regex.search(subject)

    assert found is not True
    assert time.thread_time() - began < 0.25  # unbounded: seconds to centuries


def test_search_given_up_is_neither_found_nor_not_found() -> None:
    assert Regex(b"^(a|aa)+$").search(b"a" * 60 + b"!") is None


def test_search_deep_recursion_of_a_long_subject_stays_in_its_memory() -> None:
    assert Regex(b"^(?:(?:a|b)|c(?R)?)*$").search(b"ab" * 7000) in (True, None)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (b"(", "missing closing parenthesis"),
        (b"[a", "missing terminating ]"),
        (b"*a", "quantifier"),
        (b"a\\", "\\ at end"),
    ],
)
def test_pattern_that_is_none_is_refused_with_the_reason(pattern: bytes, reason: str) -> None:
    with pytest.raises(RegexError, match=re.escape(reason)):
        Regex(pattern)


def test_pattern_with_back_reference_is_taken() -> None:
    """HAProxy compiles without captures and refuses it; the API has let the tenant have it."""
    regex = Regex(b"^(a|b)\\1$")

    assert regex.search(b"aa") is True
    assert regex.search(b"ab") is False


def test_subject_longer_than_any_head_is_refused() -> None:
    with pytest.raises(ValueError, match="65535"):
        Regex(b"a").search(b"a" * 65536)
