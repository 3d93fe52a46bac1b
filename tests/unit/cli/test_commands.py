from __future__ import annotations

import importlib.resources
from typing import TYPE_CHECKING

import pytest

from amphorad.admin import ApplyReceipt
from amphorad.cli.arguments import ExitCode, build_parser, default_state_dir
from amphorad.cli.commands import main, render_receipt
from amphorad.cli.files import read_file
from amphorad.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

DEMO = importlib.resources.files("amphorad").joinpath("data/demo.cfg").read_text()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lb.cfg"
    path.write_text(DEMO)
    return path


@pytest.mark.parametrize("command", ["serve", "check", "apply", "status", "top", "why", "demo"])
def test_help_of_every_command_documents_the_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])

    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(f"\n  {code.value}  " in text for code in ExitCode)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["reboot"],
        ["serve"],
        ["serve", "-f", "x", "--threads", "0"],
        ["serve", "-f", "x", "--threads", "65"],
        ["serve", "-f", "x", "--grace", "-1"],
        ["serve", "-f", "x", "--http-reuse", "always"],
        ["check", "-f", "x", "--escaping", "none"],
    ],
)
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == ExitCode.USAGE
    assert "usage:" in capsys.readouterr().err


def test_check_good_file_says_what_it_holds(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-f", str(file)]) == ExitCode.OK

    assert capsys.readouterr().out == f"{file}: ok, 1 listeners, 1 pools, 3 members\n"


def test_check_bad_file_prints_every_error_with_its_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(DEMO.replace("mode http", "mode carrier-pigeon"))

    assert main(["check", "-f", str(file)]) == ExitCode.REFUSED

    lines = capsys.readouterr().out.splitlines()
    wrong = [number for number, line in enumerate(file.read_text().splitlines(), 1) if "pigeon" in line]
    assert len(wrong) == 2
    for number in wrong:
        assert any(line.startswith(f"{file}:{number}: ") for line in lines)


def test_check_missing_file_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-f", str(tmp_path / "none")]) == ExitCode.REFUSED

    assert "No such file" in capsys.readouterr().out


def test_read_file_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError):
        read_file(path)


@pytest.mark.parametrize("command", [["status"], ["top"], ["apply", "-f"]])
def test_command_without_running_balancer_exits_4(
    command: list[str], file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = [str(file)] if command[-1] == "-f" else []

    assert main([*command, *extra, "--state-dir", str(tmp_path)]) == ExitCode.NOT_RUNNING

    assert str(tmp_path / "admin.sock") in capsys.readouterr().err


def test_receipt_tells_changes_sockets_and_time() -> None:
    text = render_receipt(ApplyReceipt(3, True, "1 member changed", ("member m: weight 1 -> 2",), 1, 2, 4, 0.0123, 5))

    for part in ("generation 3", "12.3 ms", "1 member changed", "weight 1 -> 2", "4 kept, 1 opened, 2 closed", "5"):
        assert part in text


def test_receipt_without_change_says_so() -> None:
    assert "nothing to change" in render_receipt(ApplyReceipt(3, False, "", (), 0, 0, 1, 0.0, 0))


def test_state_directory_follows_the_runtime_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    assert default_state_dir() == tmp_path / "amphorad"


def test_serve_defaults_need_no_options() -> None:
    options = build_parser().parse_args(["serve", "-f", "x"])

    assert (options.threads, options.http_reuse, options.escaping, options.grace) == (None, "retry", "intent", 10.0)
