"""When there is a spare process, and what is told when there cannot be one."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from amphorad.spare import AGAIN_AFTER_S, Spare

if TYPE_CHECKING:
    from amphorad.child import DataPlaneProcess


class Process:
    """Is launched and killed; starts nothing."""

    exit_text = "exit code 1"

    def __init__(self, pid: int, *, may_launch: bool = True) -> None:
        self.number = pid
        self.pid = 0
        self.may_launch = may_launch
        self.is_running = False
        self.is_killed = False

    def launch(self) -> None:
        if not self.may_launch:
            raise OSError(24, "Too many open files")
        self.pid = self.number
        self.is_running = True

    async def kill(self) -> None:
        self.is_running = False
        self.is_killed = True


class Rig:
    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.alarms: list[str] = []
        self.may_launch = True
        self.spare = Spare(self.make, self.alarms.append)

    def make(self) -> DataPlaneProcess:
        self.processes.append(Process(100 + len(self.processes), may_launch=self.may_launch))
        return cast("DataPlaneProcess", self.processes[-1])


@pytest.mark.asyncio
async def test_spare_is_launched_and_kept() -> None:
    rig = Rig()
    assert rig.spare.pid == 0

    await rig.spare.keep(1.0)
    await rig.spare.keep(2.0)

    assert len(rig.processes) == 1
    assert rig.spare.pid == 100


@pytest.mark.asyncio
async def test_taken_spare_is_replaced_at_the_next_look() -> None:
    rig = Rig()
    await rig.spare.keep(1.0)

    taken = await rig.spare.take()
    await rig.spare.keep(2.0)

    assert cast("Process", taken) is rig.processes[0]
    assert not rig.processes[0].is_killed
    assert rig.spare.pid == 101


@pytest.mark.asyncio
async def test_spare_that_dies_is_told_of_and_replaced_after_a_while() -> None:
    rig = Rig()
    await rig.spare.keep(1.0)
    rig.processes[0].is_running = False

    await rig.spare.keep(2.0)
    await rig.spare.keep(1.0 + AGAIN_AFTER_S)
    before = len(rig.processes)
    await rig.spare.keep(2.0 + AGAIN_AFTER_S)

    assert rig.alarms == ["spare data plane died exit code 1"]
    assert rig.processes[0].is_killed  # what belonged to it is given back
    assert (before, len(rig.processes)) == (1, 2)


@pytest.mark.asyncio
async def test_spare_that_cannot_be_launched_is_told_of_and_tried_again_after_a_while() -> None:
    rig = Rig()
    rig.may_launch = False
    await rig.spare.keep(1.0)
    await rig.spare.keep(2.0)

    assert rig.alarms == ["no spare data plane: Too many open files"]
    assert len(rig.processes) == 1
    assert rig.spare.pid == 0


@pytest.mark.asyncio
async def test_dead_spare_is_not_taken() -> None:
    rig = Rig()
    await rig.spare.keep(1.0)
    rig.processes[0].is_running = False

    assert await rig.spare.take() is None
    assert rig.processes[0].is_killed
