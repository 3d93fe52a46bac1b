"""The demo's monitor: a killed member is DOWN for everybody to see."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from amphorad.demo.run import Demo
from amphorad.demo.view import rates, render_line

if TYPE_CHECKING:
    from collections.abc import Callable


async def wait_until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not fact():  # noqa: ASYNC110 - facts of other processes, which set no event of ours
            await asyncio.sleep(0.02)


@pytest.mark.asyncio
async def test_demo_killed_member_is_down_and_started_again_up() -> None:
    demo = Demo(rate=100)
    try:
        await demo.start()
        supervisor, traffic = demo.supervisor, demo.traffic
        assert supervisor is not None
        assert traffic is not None

        def state() -> str:
            return supervisor.status().listeners[0].pools[0].members[1].state

        demo.toggle_member(1)
        await wait_until(lambda: state() == "DOWN")
        now = supervisor.status()
        names = [(member.name, member.is_running) for member in demo.members]
        line = render_line(1.0, rates(None, now, 1.0), names, traffic.look())
        demo.toggle_member(1)
        await wait_until(lambda: state() == "UP")

        assert "banana=DOWN" in line
        assert traffic.total_bad == 0
    finally:
        await demo.stop()
