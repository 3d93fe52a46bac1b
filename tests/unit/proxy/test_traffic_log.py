"""Where the traffic log goes, and what is told of a socket that loses lines."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from amphorad.model import Listener, LoadBalancer, LogTarget, Mode
from amphorad.proxy.settings import Settings
from amphorad.proxy.traffic_log import ALARM_INTERVAL_S, TrafficLogSocket, log_path, log_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TARGETS = (LogTarget(path="/file.sock", facility="local0"),)


@contextlib.contextmanager
def used(path: Path) -> Iterator[TrafficLogSocket]:
    with contextlib.closing(TrafficLogSocket()) as log:
        descriptor, replaced = log.use(str(path))
        assert descriptor >= 0
        assert replaced == -1
        yield log


@contextlib.contextmanager
def reader(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(path))
        yield
    path.unlink()


@pytest.mark.parametrize(
    ("targets", "setting", "expected"),
    [
        (TARGETS, None, "/file.sock"),
        (TARGETS, "/mine.sock", "/mine.sock"),
        (TARGETS, "", None),
        ((), None, None),
        ((), "/mine.sock", "/mine.sock"),
    ],
)
def test_log_path_is_the_operators_or_the_files(
    targets: tuple[LogTarget, ...], setting: str | None, expected: str | None
) -> None:
    assert log_path(LoadBalancer(id="lb", log_targets=targets), Settings(log_socket=setting)) == expected


@pytest.mark.parametrize(("setting", "log_format"), [("", "%ci"), (None, None)])
def test_listener_that_logs_nothing_has_no_program(setting: str | None, log_format: str | None) -> None:
    listener = Listener(id="l", mode=Mode.TCP, binds=(), log_format=log_format)

    assert log_program(LoadBalancer(id="lb", log_targets=TARGETS), listener, Settings(log_socket=setting)) is None


def test_socket_without_drops_tells_nothing(tmp_path: Path) -> None:
    with used(tmp_path / "nobody.sock") as log:
        assert log.look(0, 1.0) == []


def test_slow_reader_is_told_of_once_in_a_while(tmp_path: Path) -> None:
    path = tmp_path / "log.sock"
    with reader(path), used(path) as log:
        assert log.look(7, 100.0) == ["traffic log: its reader is too slow (7 lines dropped so far)"]
        assert log.look(8, 101.0) == []
        assert log.look(8, 100.0 + ALARM_INTERVAL_S) == []
        assert len(log.look(9, 100.0 + ALARM_INTERVAL_S)) == 1


def test_reader_that_is_gone_is_told_of_once_until_it_has_come_back(tmp_path: Path) -> None:
    path = tmp_path / "log.sock"
    with reader(path), used(path) as log:
        path.rename(tmp_path / "away")
        told = log.look(1, 100.0)
        assert told == [f"traffic log lost: {path}: No such file or directory (1 lines dropped so far)"]
        (tmp_path / "away").rename(path)
        log.look(3, 102.0)
        path.rename(tmp_path / "away")
        assert log.look(4, 103.0) == [f"traffic log lost: {path}: No such file or directory (4 lines dropped so far)"]
        (tmp_path / "away").rename(path)


def test_other_path_gives_the_old_descriptor_back_to_be_closed_later(tmp_path: Path) -> None:
    with used(tmp_path / "one.sock") as log:
        first, _ = log.use(str(tmp_path / "one.sock"))
        second, replaced = log.use(str(tmp_path / "two.sock"))
        none, last = log.use(None)

        assert replaced == first
        assert (none, last) == (-1, second)
        for descriptor in (first, second):
            socket.socket(fileno=descriptor).close()
