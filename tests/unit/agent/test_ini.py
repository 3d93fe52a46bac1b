"""The INI dialect, with oslo.config as the judge where it is installed."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from amphorad.agent import ini
from amphorad.agent.ini import Assignments, parse
from amphorad.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("one", "two", "three")
OPTIONS = {(group, name): "" for group in ("DEFAULT", "pool") for name in NAMES}


def values(text: str, *others: str) -> dict[tuple[str, str], str]:
    found = Assignments([parse(one, "file") for one in (text, *others)], OPTIONS)
    return {key: found.get(*key).text for key in OPTIONS if found.get(*key).file != "<default>"}


def refusal(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        values(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("one = value", "value"),
        ("one=value", "value"),
        ("one : value", "value"),
        ("one = a:b", "a:b"),
        ("one : a=b", "a=b"),
        ("one =", ""),
        ("one = 'a value' ", "a value"),
        ('one = "a', '"a'),
        ("one = \"a'", "\"a'"),
        ("one = a # no comment", "a # no comment"),
        ("one = a\n  b\n\tc", "a\nb\nc"),
        ("one = a\n\n# two = b", "a"),
        ("one = a\none = b", "b"),
        ("one = a\r\n", "a"),
        ("one = $$", "$"),
        (r"one = \$two", "$two"),
        ("one = $nothing", "$nothing"),
        ("one = a$", "a$"),
        ("one = ${two}b\ntwo = a", "ab"),
        ("one = $DEFAULT.two\ntwo = a", "a"),
        ("one = $pool.two\n[pool]\ntwo = $three\nthree = a", "a"),
        ("one = $two\n[pool]\ntwo = a", ""),
    ],
)
def test_assignment_reads_as(text: str, value: str) -> None:
    assert values("[DEFAULT]\n" + text)["DEFAULT", "one"] == value


def test_reference_without_group_means_the_own_group_first() -> None:
    found = values("[DEFAULT]\ntwo = outer\nfour = outer\n[pool]\none = $two $four\ntwo = inner")

    assert found["pool", "one"] == "inner outer"


def test_group_names_are_compared_without_case_and_may_come_again() -> None:
    assert values("[POOL]\none = a\n[DEFAULT]\none = b\n[Pool]\ntwo = c") == {
        ("pool", "one"): "a",
        ("DEFAULT", "one"): "b",
        ("pool", "two"): "c",
    }


def test_later_file_wins_option_by_option() -> None:
    assert values("[pool]\none = a\ntwo = b", "[pool]\ntwo = c") == {("pool", "one"): "a", ("pool", "two"): "c"}


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("one = a", 1, "one"),
        ("[pool]\n\n  continued", 3, "continued"),
        ("[pool]\nwords", 2, "words"),
        ("[pool]\n= a", 2, "= a"),
        ("[pool", 1, "[pool"),
        ("[]", 1, "[]"),
        ("[pool]\none = $two\ntwo = $one", None, None),
    ],
)
def test_refusal_names_line_and_word(text: str, line: int | None, word: str | None) -> None:
    error = refusal(text)

    assert error.file == "file"
    if line is not None:
        assert (error.line, error.word) == (line, word)


def test_text_beyond_the_limits_is_refused() -> None:
    refusal("[pool]\n" + "# comment\n" * (ini.MAX_BYTES // 10))
    refusal(f"[pool]\none = {'a' * ini.MAX_VALUE}")
    refusal("[pool]\none = a\n" + " b\n" * ini.MAX_VALUE)


def test_references_that_multiply_are_refused() -> None:
    refusal("[pool]\none = $two$two$two$two\ntwo = " + "$three" * 100 + "\nthree = a")


# --- against the controller's own library ---

WORDS = st.sampled_from(
    [
        *(
            "[",
            "]",
            "[pool]",
            "[DEFAULT]",
            "[POOL]",
            "one",
            "two",
            "three",
            "=",
            ":",
            "#",
            ";",
            " ",
            "\t",
            "\n",
            "\r\n",
        ),
        *("$", "$$", "$two", "${three}", "$pool.one", "$DEFAULT.two", "\\", "'", '"', "a", "b", ",", "\f", "\x85"),
        *("\none = ", "\ntwo = ", "\nthree:", "\n[pool]\n", "\n[DEFAULT]\n"),
    ]
)


def oslo(path: Path) -> dict[tuple[str, str], str] | str | None:
    """What oslo.config reads; None when it refuses the grammar, and the error when it refuses a reference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cfg = pytest.importorskip("oslo_config.cfg")
        conf = cfg.ConfigOpts()
        conf.register_opts([cfg.StrOpt(name) for name in NAMES])
        conf.register_opts([cfg.StrOpt(name) for name in NAMES], group="pool")
        try:
            conf(args=[], project="x", default_config_files=[str(path)])
        except cfg.Error:
            return None
        try:
            found = {(group, name): conf[name] if group == "DEFAULT" else conf.pool[name] for group, name in OPTIONS}
        except (cfg.Error, RecursionError) as error:
            return repr(error)
    return {key: value for key, value in found.items() if value is not None}


@settings(max_examples=400)
@given(st.lists(WORDS, max_size=25).map("".join))
def test_any_text_reads_as_in_oslo_config(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("ini") / "file"
    path.write_text("[DEFAULT]\n" + text, newline="")

    wanted = oslo(path)
    try:
        found = values(path.read_text())
    except ConfigError:
        found = None

    if isinstance(wanted, str):  # of references, more is understood here than there
        event("a reference that oslo.config refuses")
    else:
        assert found == wanted
