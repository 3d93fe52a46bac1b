"""Admin log lines: the bytes, whom they go to, and a target that takes nothing or is gone."""

from __future__ import annotations

import re
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from amphorad.model import LogTarget
from amphorad.proxy import admin_log
from amphorad.proxy.admin_log import AdminLog, Severity, datagram

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

AT = time.mktime((2026, 3, 7, 4, 5, 6, 0, 0, -1))


@contextmanager
def daemon(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.setblocking(False)
        yield listening
    path.unlink()


@contextmanager
def log() -> Iterator[AdminLog]:
    opened = AdminLog()
    yield opened
    opened.close()


def received(listening: socket.socket) -> list[bytes]:
    lines = []
    while True:
        try:
            lines.append(listening.recv(4096))
        except BlockingIOError:
            return lines


def test_datagram_is_rfc_3164_without_a_host() -> None:
    assert datagram("local1", Severity.ALERT, "Server p/m is DOWN.", AT, 77) == (
        b"<137>Mar  7 04:05:06 haproxy[77]: Server p/m is DOWN.\n"
    )


def test_long_line_is_cut() -> None:
    line = datagram("local0", Severity.NOTICE, "x" * 5000, AT, 1)

    assert len(line) == 1024
    assert line.endswith(b"x\n")


def test_each_target_gets_what_is_severe_enough(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    targets = [
        LogTarget(path=path, facility="local0"),
        LogTarget(path=path, facility="local1", minimum_severity="notice"),
    ]
    with daemon(tmp_path / "log") as listening, log() as written:
        written.use(targets)
        written.write(Severity.NOTICE, "noticed", AT)
        written.write(Severity.INFO, "informed", AT)
        lines = received(listening)

    assert [re.sub(rb" haproxy\[\d+\]:", b"", line) for line in lines] == [
        b"<133>Mar  7 04:05:06 noticed\n",
        b"<141>Mar  7 04:05:06 noticed\n",
        b"<134>Mar  7 04:05:06 informed\n",
    ]


def test_override_takes_the_place_of_every_path(tmp_path: Path) -> None:
    with daemon(tmp_path / "other") as listening, log() as written:
        written.use([LogTarget(path="/nowhere", facility="local1")], str(tmp_path / "other"))
        written.write(Severity.NOTICE, "a", AT)
        written.use([LogTarget(path=str(tmp_path / "other"), facility="local1")], "")
        written.write(Severity.NOTICE, "b", AT)
        lines = received(listening)

    assert len(lines) == 1
    assert lines[0].endswith(b": a\n")


def test_target_that_is_full_holds_nobody_up_and_gets_the_lines_later(tmp_path: Path) -> None:
    with daemon(tmp_path / "log") as listening, log() as written:
        written.use([LogTarget(path=str(tmp_path / "log"), facility="local1")])
        for number in range(2000):
            written.write(Severity.NOTICE, f"line {number}", AT)
        lines = received(listening)
        assert len(lines) < 2000
        while len(lines) < 2000:
            written.flush()
            more = received(listening)
            assert more
            lines += more

    assert [int(line.split()[-1]) for line in lines] == list(range(2000))
    assert written.lost == 0


def test_lines_beyond_the_limit_are_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_log, "WAITING_LIMIT", 10)
    with daemon(tmp_path / "log") as listening, log() as written:
        written.use([LogTarget(path=str(tmp_path / "log"), facility="local1")])
        for number in range(2000):
            written.write(Severity.NOTICE, f"line {number}", AT)
        taken = len(received(listening))
        written.flush()
        last = received(listening)

    assert len(last) == 10
    assert last[-1].endswith(b"line 1999\n")
    assert written.lost == 2000 - taken - 10


def test_target_that_is_gone_raises_one_alarm_and_is_found_again(tmp_path: Path) -> None:
    with log() as written:
        written.use([LogTarget(path=str(tmp_path / "log"), facility="local1")])
        written.write(Severity.NOTICE, "a", AT)
        written.write(Severity.NOTICE, "b", AT)
        alarms = written.alarms()
        with daemon(tmp_path / "log") as listening:
            written.write(Severity.NOTICE, "c", AT)
            lines = received(listening)
        written.write(Severity.NOTICE, "d", AT)
        alarms += written.alarms()

    assert alarms[0] == f"admin log lost: {tmp_path / 'log'}: No such file or directory (1 lines dropped so far)"
    assert len(alarms) == 2
    assert [line[-3:] for line in lines] == [b" c\n"]
