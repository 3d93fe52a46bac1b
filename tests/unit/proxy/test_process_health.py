"""The control loop and the health monitors: what an apply starts, and where verdicts go."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import pytest

from amphorad import messages
from amphorad.messages import Apply, Channel, Hello, Stop, Transition, encode_load_balancer
from amphorad.model import HealthMonitor, HealthMonitorType, Listener, LoadBalancer, Member, Mode, Pool
from amphorad.proxy.admin_log import AdminLog
from amphorad.proxy.process import ControlLoop

if TYPE_CHECKING:
    from collections.abc import Mapping

    from amphorad.board import LastCheck
    from amphorad.proxy.data_plane import DataPlane
    from amphorad.proxy.member_states import Ejection, MemberId

Key = tuple[str, str, str]
MONITOR = HealthMonitor(type=HealthMonitorType.TCP, interval_s=0.1, timeout_s=0.1, rise=1, fall=1)


class Plane:
    """Records verdicts and checks; a scripted stand-in for the engine."""

    tables: tuple[()] = ()  # no stick tables

    def __init__(self, known: dict[Key, bool]) -> None:
        self.admin_log = AdminLog()
        self.known = known
        self.verdicts: list[dict[Key, bool]] = []
        self.checks: list[tuple[str, LastCheck]] = []
        self.told = asyncio.Event()
        self.is_stopped = False

    def known_health(self) -> dict[Key, bool]:
        return self.known

    def apply(self, load_balancer: LoadBalancer, sockets: object, files: object) -> None:
        pass

    def set_members_up(self, verdicts: Mapping[Key, bool]) -> None:
        assert not self.is_stopped
        self.verdicts.append(dict(verdicts))

    def show_check(self, listener_id: str, pool_id: str, member_id: str, check: LastCheck) -> None:
        self.checks.append((member_id, check))
        self.told.set()

    def maintain(self, now: float) -> None:
        pass

    def alarms(self) -> list[str]:
        return []

    def take_ejections(self) -> list[tuple[Ejection, tuple[int, int]]]:
        return []

    def take_failing(self) -> list[MemberId]:
        return []

    def sessions(self) -> int:
        return 0

    def draining(self) -> int:
        return 0

    def stop(self, grace_s: float) -> None:
        self.is_stopped = True
        self.admin_log.close()


async def run(plane: Plane, ports: list[int], count: int) -> list[Transition]:
    """Applies a pool with members of these ports; returns the first `count` transitions that the supervisor is told."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    channel, other = Channel(ours), Channel(theirs)
    driven: DataPlane = plane  # type: ignore[assignment]
    task = asyncio.create_task(ControlLoop(driven, other, grace_s=0.0).run())
    members = tuple(Member(id=f"m{n}", address="127.0.0.1", port=port, checked=True) for n, port in enumerate(ports))
    pool = Pool(id="p", mode=Mode.TCP, members=members, health_monitor=MONITOR)
    listener = Listener(id="l", mode=Mode.TCP, binds=(), default_pool="p", pools=(pool,))
    model = LoadBalancer(id="lb", listeners=(listener,))
    transitions: list[Transition] = []
    try:
        assert await channel.receive() == Hello(messages.VERSION, os.getpid())
        await channel.send(Apply(1, encode_load_balancer(model)))
        await plane.told.wait()
        while len(transitions) < count:
            message = await channel.receive()
            if isinstance(message, Transition):
                transitions.append(message)
        await channel.send(Stop(0.0))
        await task
    finally:
        channel.close()
        other.close()
    return transitions


@pytest.fixture
def refused() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.asyncio
async def test_member_that_fails_reaches_the_plane_the_board_and_the_supervisor(refused: int) -> None:
    plane = Plane({})

    (transition,) = await run(plane, [refused], 1)

    assert plane.verdicts == [{("l", "p", "m0"): False}]
    name, check = plane.checks[0]
    assert (name, check.state, check.code, check.info) == ("m0", "DOWN", "L4CON", "Connection refused")
    assert (transition.member_id, transition.up) == ("m0", False)
    assert transition.reason.startswith("Layer4 connection problem")
    assert transition.lines[0].startswith("Server p:l/m0 is DOWN, reason: Layer4 connection problem, info: ")
    assert transition.lines[1:] == ("backend p:l has no server available!",)


@pytest.mark.asyncio
async def test_member_known_to_be_down_makes_no_transition_until_it_is_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        plane = Plane({("l", "p", "m0"): False})

        (transition,) = await run(plane, [listening.getsockname()[1]], 1)

    assert plane.verdicts == [{("l", "p", "m0"): True}]
    assert transition.up


@pytest.mark.asyncio
async def test_every_verdict_of_a_dying_pool_is_carried_out(refused: int) -> None:
    plane = Plane({})

    transitions = await run(plane, [refused] * 50, 50)

    carried_out = {key: up for verdicts in plane.verdicts for key, up in verdicts.items()}
    assert len(transitions) == 50
    assert carried_out == {("l", "p", f"m{number}"): False for number in range(50)}
    assert len(plane.verdicts) < 50  # not one table per member
