"""The protocol of sd_notify(3), with a socket of ours in the place of systemd."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from amphorad.agent.service_manager import ServiceManager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, str]]:
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.settimeout(5)
        name = f"{directory}/notify"
        if request.param == "abstract":
            bound.bind("\0" + name)
            yield bound, "@" + name
        else:
            bound.bind(name)
            yield bound, name


def test_ready_and_stopping_are_told(listening: tuple[socket.socket, str]) -> None:
    bound, name = listening
    manager = ServiceManager({"NOTIFY_SOCKET": name})

    manager.ready("all is well")
    manager.status("busy")
    manager.stopping()

    assert bound.recv(4096) == b"READY=1\nSTATUS=all is well"
    assert bound.recv(4096) == b"STATUS=busy"
    assert bound.recv(4096) == b"STOPPING=1\nSTATUS=stopping"


def test_variables_are_taken_away_from_children() -> None:
    environment = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}

    ServiceManager(environment)

    assert environment == {"HOME": "/"}


@pytest.mark.parametrize(
    ("environment", "period_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "30000000"}, 30.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "garbage"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "0"}, None),
    ],
)
def test_watchdog_is_for_this_process_only(environment: dict[str, str], period_s: float | None) -> None:
    assert ServiceManager(environment).watchdog_s == period_s


def test_nobody_there_is_no_error(tmp_path: Path) -> None:
    ServiceManager({}).ready("")
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("")


@pytest.mark.asyncio
async def test_watchdog_is_told_twice_per_period(listening: tuple[socket.socket, str]) -> None:
    bound, name = listening
    bound.setblocking(False)
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(ServiceManager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "200000"}).run_watchdog())
    began = loop.time()

    for _ in range(4):
        assert await loop.sock_recv(bound, 4096) == b"WATCHDOG=1"

    assert 0.29 <= loop.time() - began < 2
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_full_socket_of_the_manager_does_not_block(listening: tuple[socket.socket, str]) -> None:
    _bound, name = listening
    program = (
        "from amphorad.agent.service_manager import ServiceManager; import sys\n"
        "manager = ServiceManager({'NOTIFY_SOCKET': sys.argv[1]})\n"
        "for _ in range(2000): manager.status('x' * 1000)\n"
    )

    subprocess.run([sys.executable, "-c", program, name], check=True, timeout=10, capture_output=True)
