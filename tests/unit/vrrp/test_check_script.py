"""The script, run by the real shell on real processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from amphorad.vrrp.check_script import script_text, start_time, write_processes, write_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def process() -> Iterator[subprocess.Popen[bytes]]:
    found = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        yield found
    finally:
        found.kill()
        found.wait()
        assert found.stdin is not None
        found.stdin.close()


def dead_pid() -> int:
    found = subprocess.Popen(["true"])
    found.wait()
    return found.pid


class Script:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "vrrp" / "check_script.sh"
        self.processes = directory / "processes"
        write_script(self.path, self.processes)

    def passes(self) -> bool:
        done = subprocess.run([str(self.path)], capture_output=True, timeout=5)
        assert done.stdout == b""
        assert done.stderr == b""
        return done.returncode == 0


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


def test_check_without_anything_written_fails(script: Script) -> None:
    assert not script.passes()


def test_check_with_agent_passes_whatever_else(script: Script) -> None:
    write_processes(script.processes, os.getpid(), [dead_pid()])

    assert script.passes()


def test_check_without_agent_passes_while_every_data_plane_lives(script: Script) -> None:
    with process() as first, process() as second:
        write_processes(script.processes, dead_pid(), [first.pid, second.pid])
        assert script.passes()

        second.kill()
        second.wait()
        assert not script.passes()


def test_check_without_agent_and_data_plane_fails(script: Script) -> None:
    write_processes(script.processes, dead_pid(), [])

    assert not script.passes()


def test_check_zombie_does_not_live(script: Script) -> None:
    with process() as found:
        write_processes(script.processes, dead_pid(), [found.pid])
        found.kill()
        os.waitid(os.P_PID, found.pid, os.WEXITED | os.WNOWAIT)

        assert start_time(found.pid) is None
        assert not script.passes()


def test_check_process_id_that_was_given_away_again_does_not_live(script: Script) -> None:
    with process() as found:
        start = start_time(found.pid)
        assert start is not None
        script.processes.write_text(f"agent {found.pid} {start - 1}\ndata_plane {found.pid} {start - 1}\n")

        assert not script.passes()


def test_check_process_with_an_odd_name_lives(script: Script, tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to("/bin/sleep")
    found = subprocess.Popen([str(program), "10"])
    try:
        write_processes(script.processes, dead_pid(), [found.pid])
        assert script.passes()
    finally:
        found.kill()
        found.wait()


def test_check_answers_in_milliseconds(script: Script) -> None:
    with process() as found:
        write_processes(script.processes, dead_pid(), [found.pid])
        took = []
        for _ in range(10):
            began = time.monotonic()
            assert script.passes()
            took.append(time.monotonic() - began)

    assert min(took) < 0.02


def test_script_for_a_path_that_the_shell_would_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a path"):
        script_text(tmp_path / "$(id)")


def test_script_may_be_run_by_everyone_and_changed_by_root(script: Script) -> None:
    assert script.path.stat().st_mode & 0o777 == 0o755
