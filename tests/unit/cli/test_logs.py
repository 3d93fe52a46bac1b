from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

WRITER = """
import logging, sys
from amphorad.cli import logs
logs.set_up(sys.argv[1], "info", waits=False)
log = logging.getLogger("test")
log.info("first %s", "line")
for number in range(int(sys.argv[2])):
    log.info("%0100d", number)
print("not held up", flush=True)
sys.stdin.readline()
log.info("last line")
"""


def writer(target: str, lines: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, target, str(lines)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_log_written_apart_arrives_in_order_and_complete(tmp_path: Path) -> None:
    with writer(str(tmp_path / "log"), 3000) as process:
        process.communicate("\n", timeout=15)

    lines = (tmp_path / "log").read_text().splitlines()
    assert "INFO test first line" in lines[0]
    assert [int(line.split()[-1]) for line in lines[1:-1]] == list(range(3000))
    assert lines[-1].endswith("last line")


def test_log_target_that_takes_nothing_holds_nobody_up_and_loses_are_counted() -> None:
    """A pipe that nobody reads stands for a log daemon that hangs."""
    with writer("stderr", 30000) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "not held up\n"

        _out, err = process.communicate("\n", timeout=15)

    assert "INFO test first line" in err
    assert "log lines dropped because the target took none count=" in err
    assert process.returncode == 0


def test_log_that_is_never_read_does_not_keep_the_process_from_ending() -> None:
    with writer("stderr", 30000) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "not held up\n"
        process.stdin.write("\n")
        process.stdin.flush()

        assert process.wait(15) == 0


def test_set_up_here_keeps_the_level(tmp_path: Path) -> None:
    program = "import logging; from amphorad.cli import logs; logs.set_up('stderr', 'warning'); logging.info('x')"

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=15)

    assert ended.stderr == ""
    assert logging.getLevelName("WARNING") == logging.WARNING
