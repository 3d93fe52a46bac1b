"""The demo as a whole: members, supervisor, traffic, view and keys, from the first to the last."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import importlib.resources
import logging
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import termios
import time
import tty
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from amphorad.demo.member import MemberProcess
from amphorad.demo.traffic import Traffic
from amphorad.demo.view import rates, render_frame, render_line
from amphorad.errors import AmphoradError
from amphorad.supervisor import Options, Supervisor
from amphorad.top import CLEAR, draw_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from amphorad.status import Status

__all__ = ["Demo", "demo", "render_configuration"]

log = logging.getLogger(__name__)

MEMBERS = (("apple", 0.002), ("banana", 0.002), ("cherry", 0.004))
EVENTS_SHOWN = 6
EVENT_WIDTH = 150
GRACE_S = 1.0
# What the packaged file says where the demo needs its own ports.
_LISTENER_PORT = 60001
_FIRST_MEMBER_PORT = 60101


def demo(rate: float, seconds: float | None, port: int) -> bool:
    """Runs until a key, a signal, or for `seconds`. False: it could not start."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(Demo(rate, port).run(seconds))
    except (AmphoradError, OSError) as error:
        print(f"amphorad demo: {error}", file=sys.stderr)
        return False
    return True


def render_configuration(port: int, member_ports: list[int], first_weight: int = 1) -> str:
    """The packaged file with these ports, and a weight for the first member."""
    text = importlib.resources.files("amphorad").joinpath("data/demo.cfg").read_text()
    text = text.replace(f"127.0.0.1:{_LISTENER_PORT}\n", f"127.0.0.1:{port}\n")
    for number, member_port in enumerate(member_ports):
        text = text.replace(f"127.0.0.1:{_FIRST_MEMBER_PORT + number} ", f"127.0.0.1:{member_port} ")
    return re.sub(r"(server .*) weight 1 ", rf"\1 weight {first_weight} ", text, count=1)


class _Events(logging.Handler):
    """Keeps the last log lines for the view."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: collections.deque[str] = collections.deque(maxlen=EVENTS_SHOWN)

    def emit(self, record: logging.LogRecord) -> None:
        # A member's identity is three UUIDs long; the table above says which member is meant.
        message = re.sub(r"^(Server|backend) \S+?:\S{36}(/\S+)?", r"\1 pool\2", record.getMessage())
        self.lines.append(f"{time.strftime('%H:%M:%S')} {message[:EVENT_WIDTH]}")


class Demo:
    """Everything of one demo. `run` does all; the methods behind the keys are public for tests."""

    def __init__(self, rate: float, port: int = 0) -> None:
        self.members = [MemberProcess(name, delay_s) for name, delay_s in MEMBERS]
        self.port = port
        self._rate = rate
        self._first_weight = 1
        self._directory = Path()
        self._events = _Events()
        self._ended = asyncio.Event()
        self._actions: set[asyncio.Task[None]] = set()
        self.supervisor: Supervisor | None = None
        self.traffic: Traffic | None = None

    async def run(self, seconds: float | None) -> None:
        """Starts, shows, and ends clean whatever happens."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._ended.set)
        live = seconds is None and sys.stdout.isatty() and sys.stdin.isatty()
        with _logging_to(self._events):
            try:
                await self.start()
                with _keys(self._on_key) if live else contextlib.nullcontext():
                    await self._show(live, seconds)
            finally:
                await self.stop()
        print("demo ended: members, load balancer and traffic are gone")

    async def start(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="amphorad-demo-"))
        for member in self.members:
            member.start()
        self.port = self.port or _free_port()
        file = self._directory / "demo.cfg"
        file.write_text(self._text())
        options = Options(
            file=file,
            state_dir=self._directory,
            admin_socket=self._directory / "admin.sock",
            grace_s=GRACE_S,
            threads=1,
            traffic_log="",
        )
        self.supervisor = Supervisor(options, Path.read_text)
        await self.supervisor.start()
        self.traffic = Traffic(self.port, self._rate)
        self.traffic.start()

    async def stop(self) -> None:
        for action in list(self._actions):
            action.cancel()
        await asyncio.gather(*self._actions, return_exceptions=True)
        if self.traffic is not None:
            await self.traffic.stop()
        if self.supervisor is not None:
            await self.supervisor.stop()
        for member in self.members:
            member.kill()
        if self._directory != Path():
            shutil.rmtree(self._directory, ignore_errors=True)

    # --- what the keys do ---

    def toggle_member(self, number: int) -> None:
        member = self.members[number]
        if member.is_running:
            member.kill()
            log.warning("member killed name=%s port=%d", member.name, member.port)
        else:
            member.start()
            log.warning("member started name=%s port=%d", member.name, member.port)

    async def apply_weight(self) -> None:
        """Gives the first member weight 4, or 1 again."""
        assert self.supervisor is not None
        self._first_weight = 5 - self._first_weight
        (self._directory / "demo.cfg").write_text(self._text())
        receipt = await self.supervisor.reread()
        log.warning("applied in %.1f ms: %s", receipt.elapsed_s * 1000, "; ".join(receipt.changes) or receipt.summary)

    def kill_data_plane(self) -> None:
        assert self.supervisor is not None
        pid = self.supervisor.status().data_plane.pid
        if pid:
            os.kill(pid, signal.SIGKILL)

    def _text(self) -> str:
        return render_configuration(self.port, [member.port for member in self.members], self._first_weight)

    def _on_key(self, key: str) -> None:
        if key in "qQ\x03\x04":
            self._ended.set()
            return
        task = asyncio.ensure_future(self._obey(key))
        self._actions.add(task)
        task.add_done_callback(self._actions.discard)

    async def _obey(self, key: str) -> None:
        try:
            if key in "123":
                self.toggle_member(int(key) - 1)
            elif key == "a":
                await self.apply_weight()
            elif key == "k":
                self.kill_data_plane()
        except (AmphoradError, OSError) as error:
            log.warning("not done: %s", error)

    # --- what is shown ---

    async def _show(self, live: bool, seconds: float | None) -> None:
        assert self.supervisor is not None
        url = f"http://127.0.0.1:{self.port}/"
        if live:
            print(CLEAR, end="")
        else:
            print(f"amphorad demo: {url} (curl -i {url})", flush=True)
        began = then = time.monotonic()
        before: Status | None = None
        while not self._ended.is_set() and (seconds is None or time.monotonic() - began < seconds):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), 1.0 if seconds is None else min(1.0, seconds))
            now, at = self.supervisor.status(), time.monotonic()
            self._draw(before, now, at - then, at - began, url if live else None)
            before, then = now, at

    def _draw(self, before: Status | None, now: Status, elapsed_s: float, second: float, url: str | None) -> None:
        assert self.traffic is not None
        members = rates(before, now, elapsed_s)
        names = [(member.name, member.is_running) for member in self.members]
        seen = self.traffic.look()
        if url is None:
            print(render_line(second, members, names, seen), flush=True)
            return
        totals = (self.traffic.total, self.traffic.total_bad)
        socket_path = str(self._directory / "admin.sock")
        frame = render_frame(now, members, names, seen, totals, url, socket_path, tuple(self._events.lines))
        print(draw_over(frame), end="", flush=True)


def _free_port() -> int:
    """A port that was free a moment ago; 8080 when it is."""
    for wanted in (8080, 0):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", wanted)) as probe:
            port: int = probe.getsockname()[1]
            return port
    raise OSError("no free port")


@contextlib.contextmanager
def _logging_to(events: _Events) -> Iterator[None]:
    """The log of this process becomes lines of the view."""
    root = logging.getLogger()
    level, propagated = root.level, list(root.handlers)
    root.handlers[:] = [events]
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers[:] = propagated
        root.setLevel(level)


@contextlib.contextmanager
def _keys(on_key: Callable[[str], None]) -> Iterator[None]:
    """Single keys of the terminal, without Enter; the terminal is as before afterwards."""
    terminal = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    before = termios.tcgetattr(terminal)

    def read() -> None:
        keys = os.read(terminal, 32)
        for key in keys.decode(errors="replace") or "q":  # the terminal is gone
            on_key(key)

    tty.setcbreak(terminal)
    loop.add_reader(terminal, read)
    try:
        yield
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
