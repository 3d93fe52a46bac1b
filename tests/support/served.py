"""A real `amphorad serve` on loopback, for tests: its file, its processes, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amphorad.admin import Client

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Served", "amphorad", "exists", "free_port", "wait_until"]

WAIT_S = 10.0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that this run has not named before.

    It lies below the range that outgoing connections take their ports from: one of thousands would else have taken it
    until somebody listens there.
    """
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.SystemRandom().sample(range(10000, low), 200) if low > 11000 else [0] * 200:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as probe:
            found: int = probe.getsockname()[1]
            if found not in _named:
                _named.add(found)
                return found
    raise RuntimeError("no free port")


_named: set[int] = set()


def wait_until(fact: Callable[[], Any]) -> Any:
    """Looks until it is true; a condition of another process has no event to wait on."""
    deadline = time.monotonic() + WAIT_S
    while not (found := fact()):
        assert time.monotonic() < deadline, "waited in vain"
        select.select([], [], [], 0.02)
    return found


def amphorad(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "amphorad", *arguments], capture_output=True, text=True, timeout=WAIT_S
    )


class Served:
    """`with Served(tmp_path, text) as served:` is ready when it returns."""

    def __init__(self, directory: Path, text: str, *options: str) -> None:
        self.file = directory / "lb.cfg"
        self.file.write_text(text)
        self.state_dir = directory / "state"
        command = [sys.executable, "-m", "amphorad", "serve", "-f", str(self.file), "--state-dir", str(self.state_dir)]
        self._log = (directory / "log").open("w+b")
        self.process = subprocess.Popen(
            [*command, "--threads", "2", "--grace", "0.2", *options],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self.process.stdout is not None
        self.ready_line = self.process.stdout.readline()

    def __enter__(self) -> Served:
        assert self.ready_line.startswith("ready "), self.log
        return self

    def __exit__(self, *_unused: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(WAIT_S)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self._log.close()

    @property
    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode()

    def command(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return amphorad(name, *arguments, "--state-dir", str(self.state_dir))

    def apply(self, text: str) -> subprocess.CompletedProcess[str]:
        self.file.write_text(text)
        return self.command("apply", "-f", str(self.file))

    def ask(self) -> Client:
        """The admin socket, without a process for each question: `with served.ask() as admin: admin.status()`."""
        return Client(self.state_dir / "admin.sock")

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.command("status", "--json").stdout)
        return answer

    @property
    def data_plane(self) -> int:
        """Its process id, 0 while there is none."""
        pid: int = self.status()["data_plane"]["pid"]
        return pid

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and waits; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
