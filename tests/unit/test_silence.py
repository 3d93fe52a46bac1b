"""A data plane whose main loop hangs is told of once, and so is its return."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from amphorad.silence import LIMIT_S, SilenceWatch

if TYPE_CHECKING:
    import pytest

    from amphorad.child import DataPlaneProcess


class Process:
    def __init__(self, pid: int = 7, *, is_serving: bool = True) -> None:
        self.pid = pid
        self.heard_at = 100.0
        self.is_serving = is_serving
        self.is_running = True


def look(watch: SilenceWatch, process: Process, now: float) -> None:
    watch.look(cast("DataPlaneProcess", process), now)


def test_silence_is_told_of_once_and_the_return_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    alarms: list[str] = []
    watch, process = SilenceWatch(alarms.append), Process()

    look(watch, process, 100.0 + LIMIT_S)
    assert alarms == []
    look(watch, process, 101.0 + LIMIT_S)
    look(watch, process, 102.0 + LIMIT_S)
    assert len(alarms) == 1
    assert "pid=7 has not answered for 7 s" in alarms[0]

    process.heard_at = 110.0
    look(watch, process, 111.0)
    look(watch, process, 112.0)
    assert [record.getMessage() for record in caplog.records] == ["data plane answers again pid=7"]


def test_one_that_replaced_a_silent_one_is_told_of_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    alarms: list[str] = []
    watch, first, second = SilenceWatch(alarms.append), Process(7), Process(8)

    look(watch, first, 200.0)
    second.heard_at = 200.0
    look(watch, second, 201.0)
    look(watch, second, 300.0)

    assert [alarm.partition(" has")[0] for alarm in alarms] == ["data plane pid=7", "data plane pid=8"]
    assert caplog.records == []  # the first one has not answered again


def test_one_that_does_not_serve_yet_may_be_silent() -> None:
    alarms: list[str] = []

    look(SilenceWatch(alarms.append), Process(is_serving=False), 300.0)

    assert alarms == []
