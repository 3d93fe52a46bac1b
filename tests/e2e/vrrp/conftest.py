"""A pair of nodes whose VRRP is `Vrrp` in this process, or a keepalived as stock amphorae run it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from amphorad.agent.settings import AgentSettings, parse_settings
from amphorad.vrrp import State, Vrrp
from amphorad.vrrp.check_script import start_time
from tests.support.octavia_render import require_octavia
from tests.support.vrrp_rig import Node, Pair, inside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


def settings_of(node: Node) -> AgentSettings:
    text = (
        f"[haproxy_amphora]\nbase_path = {node.base_path}\n"
        "[controller_worker]\nloadbalancer_topology = ACTIVE_STANDBY\n"
        f"[amphorad]\nnamespace = {node.namespace}\nstate_dir = {node.state_dir}\nuser = nobody\n"
    )
    return parse_settings([(Path("agent.conf"), text)])


async def until(fact: Callable[[], bool], limit_s: float = 12.0) -> float:
    """Looks until it is true, while the loop runs; the seconds it took."""
    began = time.monotonic()
    while not fact():
        assert time.monotonic() - began < limit_s, "waited in vain"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


def read_pid(path: Path) -> int:
    """0 while there is none."""
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0


class Agent:
    """The part of an agent that is VRRP, on one node whose data plane runs by itself.

    Args:
        is_healthy: instead of whether the node's data plane lives.
    """

    def __init__(self, node: Node, is_healthy: Callable[[], bool] | None = None) -> None:
        self.node = node
        self.data_plane = node.data_plane()
        self.vrrp = Vrrp(
            settings_of(node),
            is_healthy or (lambda: start_time(self.data_plane) is not None),
            lambda: [self.data_plane],
        )

    async def start(self) -> None:
        await self.vrrp.restore()
        await self.vrrp.upload(self.node.text().encode())
        await self.vrrp.start()

    async def reach(self, state: State, limit_s: float = 12.0) -> float:
        return await until(lambda: self.vrrp.state is state, limit_s)

    async def end(self) -> None:
        with contextlib.suppress(OSError):
            await self.vrrp.end()
        await self.vrrp.close()

    @property
    def keepalived(self) -> int:
        return read_pid(self.node.base_path / "vrrp/octavia-keepalived.pid")

    @property
    def keepalived_child(self) -> int:
        return read_pid(self.node.state_dir / "vrrp/keepalived-vrrp.pid")


class StockNode:
    """keepalived as a stock amphora runs it: the controller's file as it is, and a check script that looks at the data plane."""

    def __init__(self, node: Node) -> None:
        directory = node.base_path / "vrrp"
        directory.mkdir()
        script = directory / "check_script.sh"
        script.write_text("#!/bin/sh\nexit 0\n")
        script.chmod(0o755)
        file = directory / "octavia-keepalived.conf"
        file.write_text(node.text())
        pids = [f"--pid={directory}/octavia-keepalived.pid", f"--vrrp_pid={directory}/vrrp.pid"]
        self._log = (directory / "log").open("w")
        command = [*inside(node.namespace), "keepalived", "-n", "-P", "-l", "-G", "-D", "-f", str(file), *pids]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        self.node = node

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(5)
        finally:
            self._process.kill()
            self._process.wait()
            self._log.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    require_octavia()
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if shutil.which("keepalived") is None:
        pytest.skip("the keepalived program is not installed")
    with Pair(tmp_path) as made:
        made.a.serve()
        made.b.serve()
        yield made


@contextlib.asynccontextmanager
async def two_agents(pair: Pair) -> AsyncIterator[tuple[Agent, Agent]]:
    """Both nodes run amphorad; the first is MASTER."""
    first, second = Agent(pair.a), Agent(pair.b)
    try:
        await first.start()
        await first.reach(State.MASTER)
        await second.start()
        await second.reach(State.BACKUP)
        yield first, second
    finally:
        await first.end()
        await second.end()


@contextlib.asynccontextmanager
async def agent_and_stock(pair: Pair) -> AsyncIterator[tuple[Agent, StockNode]]:
    """The first node runs amphorad and is MASTER, the second is a stock amphora."""
    first, second = Agent(pair.a), None
    try:
        await first.start()
        await first.reach(State.MASTER)
        second = StockNode(pair.b)
        yield first, second
    finally:
        await first.end()
        if second is not None:
            second.close()
