"""A pair without a controller: `amphorad vrrp render`, `amphorad serve --vrrp`, and keepalived as the distribution runs it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from amphorad.cli.commands import main
from tests.support.vrrp_rig import Pair, busy, inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.vrrp_rig import Node

pytestmark = [pytest.mark.netns, pytest.mark.timeout(60)]

_SETTINGS = """\
name = "web"
interface = "eth1"
router_id = 51
vips = ["10.99.0.10/24", "fd99::10/64"]
state_dir = "{state_dir}"
check_script = "{script}"

[[node]]
name = "a"
address = "10.99.0.11"

[[node]]
name = "b"
address = "10.99.0.12"
"""


class Standalone:
    """keepalived on one node, with the rendered file."""

    def __init__(self, node: Node, directory: Path) -> None:
        self.node = node
        output = directory / node.name
        script = output / "amphorad-check.sh"
        settings = directory / f"{node.name}.toml"
        settings.write_text(_SETTINGS.format(state_dir=node.serve_dir, script=script))
        assert main(["vrrp", "render", str(settings), "--output", str(output)]) == 0
        file = output / f"keepalived-{node.name}.conf"
        command = [*inside(node.namespace), "keepalived", "-t", "-f", str(file)]
        check = subprocess.run(command, capture_output=True, text=True)
        assert check.returncode in (0, 6), check.stderr
        pids = ["-p", str(output / "pid"), "-r", str(output / "vrrp.pid")]
        command = [*inside(node.namespace), "keepalived", "-n", "-P", "-l", "-G", "-D", "-f", str(file), *pids]
        self._log = (output / "log").open("w+")
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log)

    @property
    def transitions(self) -> list[str]:
        self._log.seek(0)
        return [line.rpartition("Entering ")[2].split()[0] for line in self._log if "Entering " in line]

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        finally:
            self.process.kill()
            self.process.wait()
            self._log.close()


def until(fact: Callable[[], bool], limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while not fact():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def standalone(tmp_path: Path) -> Iterator[tuple[Pair, Standalone, Standalone]]:
    pytest.importorskip("keepalived_config")
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if shutil.which("keepalived") is None:
        pytest.skip("the keepalived program is not installed")
    with Pair(tmp_path) as pair:
        for node in (pair.a, pair.b):
            node.serve("--vrrp")
        first = Standalone(pair.a, tmp_path)
        try:
            until(pair.a.has)
            second = Standalone(pair.b, tmp_path)
            try:
                until(lambda: second.transitions == ["BACKUP"])
                yield pair, first, second
            finally:
                second.close()
        finally:
            first.close()


def test_silent_node_is_replaced_within_half_a_second(standalone: tuple[Pair, Standalone, Standalone]) -> None:
    pair, _first, _second = standalone
    with pair.client() as client:
        time.sleep(0.5)
        pair.a.silence()
        until(pair.b.has)
        time.sleep(0.5)
        answers = client.end()

    print("gap", answers.longest_gap_s)
    assert answers.longest_gap_s <= 0.5


def test_data_plane_that_is_replaced_moves_nothing_and_one_that_stops_moves_the_vip(
    standalone: tuple[Pair, Standalone, Standalone],
) -> None:
    pair, first, second = standalone
    os.kill(pair.a.data_plane(), signal.SIGKILL)
    time.sleep(1.5)  # a run of the check script too
    assert first.transitions == ["BACKUP", "MASTER"]
    with pair.client() as client:
        time.sleep(0.5)
        os.kill(pair.a.supervisor, signal.SIGTERM)
        until(pair.b.has)
        time.sleep(0.5)
        answers = client.end()

    print("gap", answers.longest_gap_s)
    assert answers.longest_gap_s < 0.5
    assert second.transitions == ["BACKUP", "MASTER"]


@pytest.mark.slow
def test_supervisor_and_data_plane_killed_together_move_the_vip_within_two_seconds(
    standalone: tuple[Pair, Standalone, Standalone],
) -> None:
    """Nobody is left who could write a file: the check script decides."""
    pair, _first, _second = standalone
    with pair.client() as client:
        time.sleep(0.5)
        data_plane = pair.a.data_plane()
        os.kill(pair.a.supervisor, signal.SIGKILL)
        os.kill(data_plane, signal.SIGKILL)
        until(pair.b.has)
        time.sleep(0.5)
        answers = client.end()

    print("gap", answers.longest_gap_s)
    assert answers.longest_gap_s < 2.0


@pytest.mark.slow
def test_busy_machine_does_not_move_the_vip(standalone: tuple[Pair, Standalone, Standalone]) -> None:
    _pair, first, second = standalone
    before = first.transitions, second.transitions
    with busy(6):
        time.sleep(10.0)

    assert (first.transitions, second.transitions) == before
