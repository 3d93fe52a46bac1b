"""Options beyond the controller's configuration: one table for the command line, the agent's file and the data plane."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from amphorad.agent.settings import parse_settings
from amphorad.cli.arguments import build_parser, extras_of
from amphorad.errors import ConfigError
from amphorad.extras import FIELDS, Extras
from amphorad.options import Options, data_plane_arguments

BASE = "[amphora_agent]\namphora_id = a\n[health_manager]\nheartbeat_key = k\n[amphorad]\nuser = root\n"


def from_flags(*flags: str) -> Extras:
    return extras_of(build_parser().parse_args(["serve", "-f", "x", *flags]))


def from_file(text: str) -> Extras:
    return parse_settings([(Path("f"), BASE + text)]).extras


def test_everything_is_off_by_default() -> None:
    assert from_flags() == from_file("") == Extras()
    assert not [
        extra.name for extra in FIELDS if extra.default and extra.name not in ("ejection_time", "eject_at_most")
    ]
    assert not [word for word in data_plane_arguments(Options(state_dir=Path()), 1) if "extras" in word]


@pytest.mark.parametrize(
    ("flags", "text", "expected"),
    [
        (["--slow-start", "2.5"], "slow_start = 2.5\n", {"slow_start": 2.5}),
        (["--eject-after", "5"], "eject_after = 5\n", {"eject_after": 5}),
        (["--x-real-ip"], "x_real_ip = yes\n", {"x_real_ip": True}),
        (["--same-site-cookies", "Lax"], "same_site_cookies = Lax\n", {"same_site_cookies": "Lax"}),
    ],
)
def test_command_line_and_file_say_the_same(flags: list[str], text: str, expected: dict[str, Any]) -> None:
    assert from_flags(*flags) == from_file(text) == Extras(**expected)


def test_data_plane_gets_what_was_chosen() -> None:
    chosen = Extras(rate_limit=10.5, same_site_cookies="None", traceparent=True)
    (word,) = [word for word in data_plane_arguments(Options(state_dir=Path(), extras=chosen), 1) if "extras" in word]

    assert Extras.decode(word.removeprefix("--extras=")) == chosen


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("eject_after", "many", "not a whole number"),
        ("eject_at_most", "101", "not between 0 and 100"),
        ("slow_start", "soon", "not a number"),
        ("slow_start", "nan", "not between"),
        ("same_site_cookies", "lax", "not one of Lax, Strict, None"),
        ("traceparent", "perhaps", "neither true nor false"),
    ],
)
def test_nonsense_is_refused_with_the_reason(
    name: str, value: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        from_file(f"{name} = {value}\n")
    assert refused.value.line == 7
    if name != "traceparent":  # a switch has no value there
        with pytest.raises(SystemExit):
            from_flags("--" + name.replace("_", "-"), value)
        assert reason in capsys.readouterr().err
