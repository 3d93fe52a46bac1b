from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import pytest

from amphorad import messages
from amphorad.errors import ConfigError
from amphorad.messages import Alarm, Apply, Channel, Hello, Pulse, Receipt, SocketName, Stop, encode_load_balancer
from amphorad.model import Bind, LoadBalancer
from amphorad.proxy.process import ControlLoop

if TYPE_CHECKING:
    from amphorad.proxy.data_plane import DataPlane
    from amphorad.proxy.member_states import Ejection, MemberId

BALANCER = LoadBalancer(id="lb")


class Plane:
    """Records what it is told; a scripted stand-in for the engine."""

    tables: tuple[()] = ()  # no stick tables

    def __init__(self) -> None:
        self.applied: list[tuple[LoadBalancer, list[tuple[str, Bind]]]] = []
        self.stopped: list[float] = []
        self.refuse = False
        self.waiting_alarms: list[str] = []
        self.waiting_ejections: list[tuple[Ejection, tuple[int, int]]] = []
        self.maintained = asyncio.Event()

    def apply(self, load_balancer: LoadBalancer, sockets: dict[tuple[str, Bind], int], files: object) -> None:
        for descriptor in sockets.values():
            os.close(descriptor)
        if self.refuse:
            raise ConfigError("not like this", file="f", line=3)
        self.applied.append((load_balancer, list(sockets)))

    def known_health(self) -> dict[tuple[str, str, str], bool]:
        return {}

    def maintain(self, now: float) -> None:
        self.maintained.set()

    def alarms(self) -> list[str]:
        alarms, self.waiting_alarms = self.waiting_alarms, []
        return alarms

    def take_ejections(self) -> list[tuple[Ejection, tuple[int, int]]]:
        ejections, self.waiting_ejections = self.waiting_ejections, []
        return ejections

    def take_failing(self) -> list[MemberId]:
        return []

    def sessions(self) -> int:
        return 5

    def draining(self) -> int:
        return 2

    def stop(self, grace_s: float) -> None:
        self.stopped.append(grace_s)


class Running:
    """A control loop with a fake plane, and the supervisor's end of its socket."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.plane = Plane()
        self.channel = Channel(ours)
        self._other = Channel(theirs)
        plane: DataPlane = self.plane  # type: ignore[assignment]
        self.task = asyncio.create_task(ControlLoop(plane, self._other, grace_s=7.0).run())

    async def __aenter__(self) -> Running:
        assert await self.channel.receive() == Hello(messages.VERSION, os.getpid())
        return self

    async def __aexit__(self, *_unused: object) -> None:
        self.channel.close()
        await self.task
        self._other.close()

    async def receive(self, kind: type) -> object:
        """The next message of that kind."""
        while not isinstance(message := await self.channel.receive(), kind):
            pass
        return message


@pytest.mark.asyncio
async def test_apply_with_sockets_reaches_the_plane_and_is_confirmed() -> None:
    async with Running() as running:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            names = (SocketName("l", "127.0.0.1", 80), SocketName("l", "::1", 81))
            descriptors = (listening.fileno(), listening.fileno())
            await running.channel.send(Apply(4, encode_load_balancer(BALANCER), names), descriptors)

            receipt = await running.receive(Receipt)

    assert isinstance(receipt, Receipt)
    assert (receipt.generation, receipt.draining, receipt.refusal) == (4, 2, None)
    binds = [("l", Bind(address="127.0.0.1", port=80)), ("l", Bind(address="::1", port=81))]
    assert running.plane.applied == [(BALANCER, binds)]


@pytest.mark.asyncio
async def test_apply_refused_is_told_with_its_line_and_the_loop_goes_on() -> None:
    async with Running() as running:
        running.plane.refuse = True
        await running.channel.send(Apply(4, encode_load_balancer(BALANCER)))
        receipt = await running.receive(Receipt)
        running.plane.refuse = False
        await running.channel.send(Apply(5, encode_load_balancer(BALANCER)))
        second = await running.receive(Receipt)

    assert isinstance(receipt, Receipt)
    assert isinstance(second, Receipt)
    assert receipt.refusal is not None
    assert str(receipt.refusal.error()) == "f:3: not like this"
    assert second.refusal is None


@pytest.mark.asyncio
async def test_stop_message_stops_with_its_own_grace() -> None:
    async with Running() as running:
        await running.channel.send(Stop(2.5))
        await running.task

    assert running.plane.stopped == [2.5]


@pytest.mark.asyncio
async def test_supervisor_gone_stops_with_the_configured_grace() -> None:
    async with Running() as running:
        running.channel.close()
        await running.task

    assert running.plane.stopped == [7.0]


@pytest.mark.asyncio
async def test_message_of_the_wrong_direction_stops() -> None:
    async with Running() as running:
        await running.channel.send(Pulse(1, 1))
        alarm = await running.receive(Alarm)
        await running.task

    assert "Pulse" in str(alarm)
    assert running.plane.stopped == [7.0]


@pytest.mark.asyncio
async def test_alarms_and_changed_gauges_are_told() -> None:
    async with Running() as running:
        running.plane.waiting_alarms = ["one", "two"]

        assert await running.receive(Alarm) == Alarm("one")
        assert await running.receive(Alarm) == Alarm("two")
        assert await running.receive(Pulse) == Pulse(5, 2)
