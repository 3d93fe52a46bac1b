"""`Vrrp` on one node: what an agent's restart, refusals and failures do to keepalived."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from amphorad.errors import ConfigError, OperationFailed
from amphorad.vrrp import State
from tests.e2e.vrrp.conftest import Agent, StockNode, until

if TYPE_CHECKING:
    from tests.support.vrrp_rig import Pair

pytestmark = [pytest.mark.netns, pytest.mark.timeout(60)]


def uploaded(agent: Agent) -> Path:
    return agent.node.base_path / "vrrp/octavia-keepalived.conf"


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.asyncio
async def test_next_agent_adopts_keepalived_with_its_state(pair: Pair) -> None:
    first = Agent(pair.a)
    await first.start()
    await first.reach(State.MASTER)
    pid = first.keepalived
    await first.vrrp.close()

    second = Agent(pair.a)
    try:
        await second.vrrp.restore()

        assert second.keepalived == pid
        assert second.vrrp.is_alive
        assert second.vrrp.is_configured
        assert second.vrrp.state is State.MASTER
        assert second.vrrp.since_s is not None
        assert second.vrrp.since_s > 0.0
        assert pair.a.has()
        assert await second.vrrp.start() == "keepalived reloaded"
        os.kill(pid, signal.SIGKILL)  # its child too, by the kernel: the adopted one is looked after as well
        await until(lambda: second.vrrp.is_alive and second.keepalived not in (0, pid))
        await second.reach(State.MASTER, 1.5)
    finally:
        await second.end()
    assert not pair.a.has()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_keepalived_that_died_without_an_agent_is_replaced_and_the_vip_stays(pair: Pair) -> None:
    first = Agent(pair.a)
    await first.start()
    await first.reach(State.MASTER)
    await first.vrrp.close()
    os.kill(first.keepalived_child, signal.SIGKILL)
    os.kill(first.keepalived, signal.SIGKILL)
    await until(lambda: not pair.a.on_loopback() and pair.a.has())

    second = Agent(pair.a)
    try:
        with await asyncio.to_thread(pair.client) as client:
            await second.vrrp.restore()
            await second.reach(State.MASTER, 3.0)
            await until(lambda: pair.a.has() and not pair.a.on_loopback())
            answers = client.end()
        assert answers.failed == 0
    finally:
        await second.end()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_keepalived_that_died_without_an_agent_lets_the_vip_go_when_the_peer_has_it(pair: Pair) -> None:
    first = Agent(pair.a)
    await first.start()
    await first.reach(State.MASTER)
    stock = StockNode(pair.b)
    try:
        await first.vrrp.close()
        os.kill(first.keepalived_child, signal.SIGKILL)
        os.kill(first.keepalived, signal.SIGKILL)
        await until(pair.b.has)
        assert pair.a.has()

        second = Agent(pair.a)
        try:
            await second.vrrp.restore()
            await second.reach(State.BACKUP)
            assert not pair.a.has()
            assert pair.b.has()
        finally:
            await second.end()
    finally:
        stock.close()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_keepalived_that_cannot_be_replaced_leaves_the_vip_to_the_peer(pair: Pair) -> None:
    agent = Agent(pair.a)
    await agent.start()
    await agent.reach(State.MASTER)
    stock = StockNode(pair.b)
    try:
        await asyncio.sleep(0.5)
        object.__setattr__(agent.vrrp._settings, "keepalived_command", "/bin/false")
        os.kill(agent.keepalived_child, signal.SIGKILL)
        os.kill(agent.keepalived, signal.SIGKILL)
        await until(pair.a.on_loopback)
        await until(pair.b.has)
        await until(lambda: not pair.a.has() and not pair.a.on_loopback())
        assert not agent.vrrp.is_alive

        object.__setattr__(agent.vrrp._settings, "keepalived_command", "keepalived")
        await agent.reach(State.BACKUP)
        assert pair.b.has()
    finally:
        await agent.end()
        stock.close()


@pytest.mark.asyncio
async def test_refused_upload_changes_nothing(pair: Pair) -> None:
    agent = Agent(pair.a)
    try:
        await agent.start()
        await agent.reach(State.BACKUP)
        before, effective = uploaded(agent).read_bytes(), (pair.a.state_dir / "vrrp/keepalived.conf").read_bytes()
        assert before == pair.a.text().encode()
        assert uploaded(agent).stat().st_mode & 0o777 == 0o644

        with pytest.raises(ConfigError):
            await agent.vrrp.upload(pair.a.text().replace("accept", "notify /bin/id").encode())
        with pytest.raises(ConfigError):
            await agent.vrrp.upload(b"\xff")
        with pytest.raises(ConfigError):
            await agent.vrrp.upload(pair.a.text(interface=None).encode())

        assert uploaded(agent).read_bytes() == before
        assert (pair.a.state_dir / "vrrp/keepalived.conf").read_bytes() == effective
        assert agent.vrrp.is_alive
    finally:
        await agent.end()


@pytest.mark.asyncio
async def test_calls_out_of_order_answer_as_the_stock_agent_does(pair: Pair) -> None:
    agent = Agent(pair.a)
    try:
        await agent.vrrp.restore()
        assert (agent.vrrp.is_configured, agent.vrrp.is_alive) == (False, False)
        assert agent.vrrp.state is State.NOT_CONFIGURED
        with pytest.raises(OperationFailed) as caught:
            await agent.vrrp.start()
        assert caught.value.message == "Failed to start octavia-keepalived service"
        assert await agent.vrrp.stop() == "keepalived stoped"

        await agent.vrrp.upload(pair.a.text().encode())
        assert (agent.vrrp.is_configured, agent.vrrp.is_alive) == (True, False)
        with pytest.raises(OperationFailed, match="Failed to reload"):
            await agent.vrrp.reload()
        assert await agent.vrrp.start() == "keepalived started"
        assert await agent.vrrp.start() == "keepalived reloaded"
        pid = agent.keepalived
        assert await agent.vrrp.stop() == "keepalived stoped"
        assert not lives(pid)
        await agent.vrrp.close()

        again = Agent(pair.a)
        await again.vrrp.restore()
        assert (again.vrrp.is_alive, again.vrrp.state) == (False, State.STOPPED)  # it was told to stop
        await again.vrrp.close()
        (pair.a.state_dir / "vrrp/idle").unlink()  # as a reboot does
        after_reboot = Agent(pair.a)
        await after_reboot.vrrp.restore()
        assert after_reboot.vrrp.is_alive
        await after_reboot.end()
    finally:
        await agent.end()


@pytest.mark.asyncio
async def test_node_without_a_listener_is_in_fault_until_there_is_one(pair: Pair) -> None:
    """Octavia contract section 5.3: the VIP is nowhere before the first listener."""
    is_healthy = False
    agent = Agent(pair.a, lambda: is_healthy)
    try:
        await agent.start()
        await agent.reach(State.FAULT)
        assert agent.vrrp.is_alive
        assert not pair.a.has()

        is_healthy = True
        agent.vrrp.health_changed()
        assert await agent.reach(State.BACKUP) < 0.5
        assert await agent.reach(State.MASTER) < 4.5
        assert pair.a.has()
    finally:
        await agent.end()


@pytest.mark.asyncio
async def test_start_in_a_namespace_that_is_not_there_fails_and_says_so(pair: Pair) -> None:
    agent = Agent(pair.a)
    object.__setattr__(agent.vrrp._settings, "namespace", "no-such-namespace")
    try:
        await agent.vrrp.upload(pair.a.text().encode())
        with pytest.raises(OperationFailed) as caught:
            await agent.vrrp.start()
        assert "no-such-namespace" in caught.value.details
        assert agent.vrrp.state is State.STOPPED
    finally:
        await agent.end()
