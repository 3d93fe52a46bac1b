"""The driver with real sockets and timers on uvloop: many members, misbehaving ones among them, and nothing left over."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import uvloop

from amphorad.health.monitor import MonitorSet
from amphorad.health.verdict import CheckStatus
from amphorad.model import HealthMonitor, HealthMonitorType, Listener, LoadBalancer, Member, Mode, Pool
from amphorad.plan import MemberKey
from tests.support.health_members import BEHAVIOURS, HealthMembers, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

# libuv opens a pipe for signals with the first loop of a process and keeps it; it is no leak of a test.
uvloop.new_event_loop().close()

MONITOR = HealthMonitor(
    type=HealthMonitorType.HTTP,
    interval_s=0.3,
    timeout_s=0.2,
    rise=1,
    fall=1,
    http_method="GET",
    url_path="/",
    expected_codes="200",
)


def balancer(ports: dict[str, int]) -> LoadBalancer:
    members = tuple(Member(id=name, address="127.0.0.1", port=port, checked=True) for name, port in ports.items())
    pool = Pool(id="p", mode=Mode.HTTP, members=members, health_monitor=MONITOR)
    return LoadBalancer(
        id="lb", listeners=(Listener(id="l", mode=Mode.HTTP, binds=(), default_pool="p", pools=(pool,)),)
    )


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _every_behaviour() -> None:
    async with HealthMembers() as members:
        ports = {name: await members.start(name) for name in BEHAVIOURS} | {"refused": free_port()}
        before = descriptors()
        monitors = MonitorSet(lambda key, verdict: None)
        monitors.apply(balancer(ports))
        await until(lambda: all(health.checks >= 3 for health in monitors.statistics().values()))
        states = {key.member_id: health.up for key, health in monitors.statistics().items()}
        in_use = descriptors() - before
        for name, port in ports.items():
            if name not in ("refused", "good"):
                members.become(port, "good")
        checks = {key: health.checks for key, health in monitors.statistics().items()}
        await until(lambda: all(health.checks >= checks[key] + 2 for key, health in monitors.statistics().items()))
        after = {key.member_id: health for key, health in monitors.statistics().items()}
        await monitors.close()

    good = {"good", "slow_good", "lf_only", "without_reason", "folded", "reset_after_answer"}
    assert {name for name, up in states.items() if up} == good
    assert in_use <= 3 * len(ports) + 10  # one check per member at most, and the member's end of it
    assert {name for name, health in after.items() if not health.up} == {"refused"}
    last = after["drip"].last
    assert last is not None
    assert last.status is CheckStatus.L7OK  # what it dripped before has no late effect


def test_members_of_every_behaviour_at_once_and_then_all_good() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_every_behaviour())


async def _nudge_after_a_death() -> None:
    async with HealthMembers() as members:
        port = await members.start("good")
        told: list[bool] = []
        monitors = MonitorSet(lambda key, verdict: told.append(verdict.up))
        monitors.apply(balancer({"m": port}))
        key = MemberKey("l", "p", "m")
        await until(lambda: monitors.statistics()[key].checks == 1)
        await members.stop(port)
        await until(lambda: monitors.nudge(key) or bool(told))
        await until(lambda: told == [False])
        await monitors.close()


def test_nudged_member_that_died_is_down_without_waiting_for_its_time() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_nudge_after_a_death())


async def _close_in_the_middle() -> None:
    async with HealthMembers() as members:
        ports = {str(number): await members.start("silent") for number in range(5)}
        monitors = MonitorSet(lambda key, verdict: None)
        monitors.apply(balancer(ports))
        await until(lambda: sum(members.connections.values()) >= 2)
        monitors.apply(balancer({}))
        monitors.apply(balancer(ports))
        await monitors.close()


def test_apply_and_close_in_the_middle_of_checks_leave_nothing_open() -> None:
    """The leak fixture counts the descriptors."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_close_in_the_middle())
