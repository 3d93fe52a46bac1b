"""What a client of the VIP sees while things happen to the MASTER: one request every 10 ms, two nodes on a bridge, real keepalived."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from amphorad.vrrp import State
from tests.e2e.vrrp.conftest import agent_and_stock, two_agents, until
from tests.support.vrrp_rig import VIP6

if TYPE_CHECKING:
    from tests.support.vrrp_rig import Pair

pytestmark = [pytest.mark.netns, pytest.mark.timeout(60)]

CALM_S = 0.5  # of traffic before and after what happens


async def _ask(pair: Pair, address: str | None = None):  # type: ignore[no-untyped-def]
    client = await asyncio.to_thread(pair.client, *([address] if address else []))
    await asyncio.sleep(CALM_S)
    return client


@pytest.mark.asyncio
async def test_kill_of_both_processes_fails_no_request_and_moves_nothing(pair: Pair) -> None:
    async with two_agents(pair) as (first, second):
        with await _ask(pair) as client:
            before = first.keepalived
            os.kill(first.keepalived_child, signal.SIGKILL)
            os.kill(before, signal.SIGKILL)
            await until(lambda: first.vrrp.is_alive and first.keepalived not in (0, before))
            await until(lambda: pair.a.has() and not pair.a.on_loopback())
            await asyncio.sleep(4.0)  # longer than the peer waits
            answers = client.end()

        assert answers.failed == 0
        assert len(answers.results) > 200
        print("gap", answers.longest_gap_s)
        assert answers.longest_gap_s < 0.2
        assert second.vrrp.state is State.BACKUP
        assert not pair.b.has()
        assert first.vrrp.state is State.MASTER
        assert "priority 100" in (pair.a.state_dir / "vrrp/keepalived.conf").read_text()


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("victim", ["parent", "child"])
async def test_kill_of_one_process_fails_no_request(pair: Pair, victim: str) -> None:
    """A parent that is killed takes its child along, which puts the VIPs away; a child that is killed ends its parent in order."""
    async with two_agents(pair) as (first, second):
        with await _ask(pair) as client:
            before = first.keepalived
            os.kill(before if victim == "parent" else first.keepalived_child, signal.SIGKILL)
            await until(lambda: first.vrrp.is_alive and first.keepalived not in (0, before))
            await until(lambda: pair.a.has() and not pair.a.on_loopback())
            await asyncio.sleep(CALM_S)
            answers = client.end()

        assert answers.failed == 0
        assert first.vrrp.state is State.MASTER
        assert second.vrrp.state is State.BACKUP


@pytest.mark.asyncio
async def test_reload_fails_no_request(pair: Pair) -> None:
    async with two_agents(pair) as (first, second):
        with await _ask(pair) as client:
            await first.vrrp.upload(pair.a.text(options={"vrrp_garp_refresh_interval": 7}).encode())
            assert await first.vrrp.reload() == "keepalived reloaded"
            await asyncio.sleep(1.0)
            assert await first.vrrp.start() == "keepalived reloaded"
            await asyncio.sleep(CALM_S)
            answers = client.end()

        assert answers.failed == 0
        assert answers.longest_gap_s < 0.2
        assert (first.vrrp.state, second.vrrp.state) == (State.MASTER, State.BACKUP)


@pytest.mark.asyncio
async def test_stop_moves_the_vip_in_less_than_a_second(pair: Pair) -> None:
    async with two_agents(pair) as (first, second):
        with await _ask(pair, VIP6) as client:
            assert await first.vrrp.stop() == "keepalived stoped"
            assert not first.vrrp.is_alive
            await second.reach(State.MASTER)
            await asyncio.sleep(CALM_S)
            answers = client.end()

        print("gap", answers.longest_gap_s)
        assert answers.longest_gap_s < 1.0
        assert not pair.a.has()
        assert not pair.a.on_loopback()


@pytest.mark.asyncio
async def test_silenced_master_is_replaced_by_a_stock_peer_within_the_time_of_the_controllers_file(pair: Pair) -> None:
    """The peer has the controller's file as it is, so this also shows that the two understand each other."""
    async with agent_and_stock(pair) as (first, _stock):
        with await _ask(pair) as client:
            assert first.vrrp.state is State.MASTER
            pair.a.silence()
            await until(pair.b.has)
            await asyncio.sleep(CALM_S)
            answers = client.end()

        print("gap", answers.longest_gap_s)
        assert 2.0 < answers.longest_gap_s <= 3.7


@pytest.mark.slow
@pytest.mark.asyncio
async def test_sigterm_for_a_stock_master_gives_the_vip_to_amphorad_in_less_than_a_second(pair: Pair) -> None:
    async with agent_and_stock(pair) as (first, stock):
        await first.vrrp.stop()
        await until(pair.b.has)
        await first.vrrp.start()
        await first.reach(State.BACKUP)
        with await _ask(pair) as client:
            os.kill(stock.pid, signal.SIGTERM)
            await first.reach(State.MASTER)
            await asyncio.sleep(CALM_S)
            answers = client.end()

        print("gap", answers.longest_gap_s)
        assert answers.longest_gap_s < 1.0


@pytest.mark.asyncio
async def test_dead_data_plane_that_stays_dead_moves_the_vip_in_less_than_two_seconds(pair: Pair) -> None:
    async with two_agents(pair) as (first, second):
        with await _ask(pair) as client:
            os.kill(pair.a.supervisor, signal.SIGKILL)  # nobody replaces it
            os.kill(first.data_plane, signal.SIGKILL)
            await second.reach(State.MASTER)
            await asyncio.sleep(CALM_S)
            answers = client.end()

        print("gap", answers.longest_gap_s)
        assert answers.longest_gap_s < 2.0
        assert first.vrrp.state is State.FAULT
        assert first.vrrp.is_alive  # heartbeats go on: this is no dead keepalived


@pytest.mark.slow
@pytest.mark.asyncio
async def test_node_in_fault_is_backup_as_soon_as_its_data_plane_serves_again(pair: Pair) -> None:
    async with two_agents(pair) as (first, second):
        healthy = False
        first.vrrp._health._is_healthy = lambda: healthy  # the same agent, another fact
        await first.reach(State.FAULT)
        await second.reach(State.MASTER)
        healthy = True
        first.vrrp.health_changed()
        took_s = await first.reach(State.BACKUP)

        assert took_s < 1.5
        await asyncio.sleep(CALM_S)
        assert (first.vrrp.state, second.vrrp.state) == (State.BACKUP, State.MASTER)
