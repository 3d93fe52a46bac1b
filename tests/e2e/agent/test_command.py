"""`amphorad agent` with settings that it cannot take: it says why, and touches nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from amphorad.cli.arguments import ExitCode
from tests.support.served import amphorad

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[haproxy_amphora]\nbind_port = x\n", ":2: not a whole number: 'x'"),
        ("[amphorad]\nnamespce = a\n", ":2: no such option in [amphorad]: 'namespce'"),
        ("[DEFAULT\n", ":1: a group is written [name]: '[DEFAULT'"),
    ],
)
def test_wrong_settings_are_refused_with_file_and_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "agent.conf").write_text(text)

    ended = amphorad("agent", "--config-file", str(tmp_path / "agent.conf"))

    assert ended.returncode == ExitCode.REFUSED
    assert ended.stderr == f"amphorad: {tmp_path}/agent.conf{reason}\n"


def test_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    ended = amphorad("agent", "--config-file", str(tmp_path / "missing"))

    assert ended.returncode == ExitCode.REFUSED
    assert ended.stderr == f"amphorad: {tmp_path}/missing: No such file or directory\n"


def test_unusable_log_target_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "agent.conf").write_text(f"[amphorad]\nlog_target = {tmp_path}/no/directory\n")

    ended = amphorad("agent", "--config-file", str(tmp_path / "agent.conf"))

    assert ended.returncode == ExitCode.USAGE
    assert "log target" in ended.stderr
