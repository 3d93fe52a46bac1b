"""The demo as its viewer uses it, with real members, a real data plane and real traffic."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from amphorad.demo.run import Demo

if TYPE_CHECKING:
    from collections.abc import Callable


async def wait_until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not fact():  # noqa: ASYNC110 - facts of other processes, which set no event of ours
            await asyncio.sleep(0.02)


def answered(demo: Demo, count: int) -> Callable[[], bool]:
    """True once that many more requests were answered well."""
    seen = 0

    def enough() -> bool:
        nonlocal seen
        assert demo.traffic is not None
        seen += demo.traffic.look().by_status.get(200, 0)
        return seen >= count

    return enough


@pytest.mark.asyncio
async def test_demo_apply_under_traffic_loses_no_request_and_moves_the_share() -> None:
    demo = Demo(rate=400)
    try:
        await demo.start()
        assert demo.traffic is not None
        assert demo.supervisor is not None
        await wait_until(answered(demo, 200))
        await demo.apply_weight()
        before = demo.supervisor.status().listeners[0].pools[0].members
        await wait_until(answered(demo, 300))
        after = demo.supervisor.status().listeners[0].pools[0].members

        done = [new.counts["connections"] - old.counts["connections"] for old, new in zip(before, after, strict=True)]
        assert [member.weight for member in after] == [4, 1, 1]
        assert 0.6 < done[0] / sum(done) < 0.73
        assert all(member.counts["connections"] > 40 for member in before)  # the apply kept the counters
        assert demo.traffic.total_bad == 0
    finally:
        await demo.stop()


@pytest.mark.asyncio
async def test_demo_killed_member_costs_retries_not_answers() -> None:
    demo = Demo(rate=200)
    try:
        await demo.start()
        assert demo.traffic is not None
        assert demo.supervisor is not None
        await wait_until(answered(demo, 50))
        demo.toggle_member(0)
        await wait_until(answered(demo, 50))  # what was on the killed member ends
        demo.traffic.look()
        bad = demo.traffic.total_bad
        await wait_until(answered(demo, 100))

        counts = demo.supervisor.status().listeners[0].pools[0].members[0].counts
        assert demo.traffic.total_bad == bad
        assert counts["retries"] + counts["redispatches"] + counts["connect_errors"] > 0
    finally:
        await demo.stop()


@pytest.mark.asyncio
async def test_demo_killed_data_plane_comes_back_with_its_counters() -> None:
    demo = Demo(rate=200)
    try:
        await demo.start()
        assert demo.supervisor is not None
        await wait_until(answered(demo, 50))
        before = demo.supervisor.status()
        demo.kill_data_plane()
        await wait_until(lambda: demo.supervisor is not None and demo.supervisor.status().data_plane.restarts == 1)
        await wait_until(answered(demo, 50))
        after = demo.supervisor.status()

        assert after.data_plane.pid != before.data_plane.pid
        assert after.generation == before.generation
        requests = [status.listeners[0].counts["requests"] for status in (before, after)]
        assert requests[1] >= requests[0] + 50
    finally:
        await demo.stop()
