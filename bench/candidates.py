"""The load balancers under comparison: how each one is started, pinned and stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import config
from bench.cputime import ProcessTree
from bench.tools import REPOSITORY, free_ports, wait_accepting

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NAMES", "Running", "Setup", "has_tcp", "serve_text", "start", "version"]

NAMES = ("amphorad", "haproxy", "nginx")
READY_S = 20.0
STOP_S = 5.0
_STREAM_MODULES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How a candidate is to be run.

    Attributes:
        name: amphorad, haproxy or nginx.
        threads: traffic threads (nginx: worker processes).
        cpu: CPU for all its threads, None for unpinned.
        arguments: extra words for `amphorad serve`; the others ignore them.
        variant: of the configuration (`config.VARIANTS`).
    """

    name: str
    variant: str = "plain"
    threads: int = 1
    cpu: int | None = None
    arguments: tuple[str, ...] = ()


@dataclass(slots=True)
class Running:
    """A started candidate; `ports` maps the endpoint kind to the listening port."""

    setup: Setup
    process: subprocess.Popen[str]
    tree: ProcessTree
    ports: dict[str, int]
    directory: Path
    source: str

    def stop(self) -> None:
        """End the whole process tree; kill what is left after 5 s."""
        left = self.tree.pids()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                left = self.tree.pids()
                self.process.kill()
        self.process.wait(timeout=STOP_S)
        for pid in left[1:]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def log_tail(self) -> str:
        """The end of what it wrote, for error messages."""
        try:
            return (self.directory / "output.log").read_text(errors="replace").strip()[-1500:]
        except OSError:
            return ""


def _first_line(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    return ((done.stdout or done.stderr).strip().splitlines() or ["unknown"])[0]


def version(name: str) -> str | None:
    """Version line of a candidate, None when it is not installed."""
    if name == "amphorad":
        if not (REPOSITORY / "amphorad" / "__main__.py").exists():
            return None
        revision = _first_line(["git", "describe", "--always", "--dirty"])
        return f"amphorad {revision}"
    if shutil.which(name) is None:
        return None
    return _first_line([name, "-v"])


def _stream_module() -> str | None:
    """Argument for `config.for_nginx`: None no TCP proxy, "" built in, else the module's path."""
    done = subprocess.run(["nginx", "-V"], capture_output=True, text=True)
    if "--with-stream " in done.stderr or done.stderr.rstrip().endswith("--with-stream"):
        return ""
    for folder in _STREAM_MODULES:
        path = Path(folder) / "ngx_stream_module.so"
        if path.exists():
            return str(path)
    return None


def has_tcp(name: str) -> bool:
    """Whether the candidate can serve TCP endpoints here."""
    return name != "nginx" or _stream_module() is not None


def _write(setup: Setup, text: str, endpoints: tuple[config.Endpoint, ...], directory: Path, files: int) -> list[str]:
    """Write the configuration file; the command line that serves it."""
    path = directory / "proxy.cfg"
    if setup.name == "amphorad":
        path.write_text(text)
        words = [sys.executable, "-m", "amphorad", "serve", "-f", str(path), "--threads", str(setup.threads)]
        words += ["--state-dir", str(directory / "state"), "--log-level", "warning", "--grace", "1"]
        return [*words, *setup.arguments]
    if setup.name == "haproxy":
        path.write_text(config.for_haproxy(text, setup.threads))
        return ["haproxy", "-db", "-f", str(path)]
    nginx = config.for_nginx(endpoints, directory, threads=setup.threads, files=files, module=_stream_module())
    path.write_text(nginx)
    return ["nginx", "-p", str(directory), "-c", str(path), "-e", str(directory / "nginx-error.log")]


def start(
    setup: Setup, members: dict[str, list[int]], directory: Path, files: int, ports: dict[str, int] | None = None
) -> Running:
    """Start a candidate and wait until all its listeners accept.

    Args:
        setup: what to run.
        members: member ports by endpoint kind.
        directory: a folder for its files; made here.
        files: limit of open files.
        ports: listening port by endpoint kind; ephemeral ones where not given.

    Raises:
        RuntimeError: it ended or did not become ready; the message has the end of its output.
    """
    directory.mkdir(parents=True)
    kinds = [kind for kind in config.KINDS if kind in members and (kind == "http" or has_tcp(setup.name))]
    ports = {**dict(zip(kinds, free_ports(len(kinds)), strict=True)), **(ports or {})}
    endpoints = config.make_endpoints(ports, members)
    text, source = config.render(endpoints, directory, setup.variant)
    command = _write(setup, text, endpoints, directory, files)
    return _launch(setup, command, ports, directory, "equivalent" if setup.name == "nginx" else source)


def serve_text(setup: Setup, text: str, ports: dict[str, int], directory: Path, files: int) -> Running:
    """Like `start`, for amphorad or HAProxy with a configuration text of the caller's own.

    Args:
        ports: the listening ports of the text, by any name.
    """
    directory.mkdir(parents=True)
    return _launch(setup, _write(setup, text, (), directory, files), ports, directory, "given")


def _launch(setup: Setup, command: list[str], ports: dict[str, int], directory: Path, source: str) -> Running:
    before = os.sched_getaffinity(0)
    if setup.cpu is not None:
        os.sched_setaffinity(0, {setup.cpu})  # inherited; threads started later inherit it too
    try:
        with (directory / "output.log").open("w") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                cwd=REPOSITORY,
                start_new_session=True,
            )
    finally:
        os.sched_setaffinity(0, before)
    running = Running(setup, process, ProcessTree(process.pid), ports, directory, source)
    try:
        if setup.name == "amphorad":
            _wait_ready_line(running)
        wait_accepting(list(ports.values()), process, READY_S)
        if setup.name == "amphorad":
            _wait_spare(running)
    except RuntimeError as error:
        running.stop()
        msg = f"{setup.name} did not start: {error}\n{running.log_tail()}"
        raise RuntimeError(msg) from error
    if setup.cpu is not None:
        running.tree.pin(setup.cpu)  # a candidate may set its own affinity
    return running


def _wait_spare(running: Running) -> None:
    """Until the spare process has loaded its code, which would otherwise be counted as work; without one, for READY_S."""
    deadline = time.monotonic() + READY_S
    while "amphorad-spare" not in [_name(pid) for pid in running.tree.pids()] and time.monotonic() < deadline:
        time.sleep(0.05)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _wait_ready_line(running: Running) -> None:
    deadline = time.monotonic() + READY_S
    while not any(line.startswith("ready") for line in (running.directory / "output.log").read_text().splitlines()):
        if running.process.poll() is not None:
            msg = f"ended with status {running.process.returncode}"
            raise RuntimeError(msg)
        if time.monotonic() > deadline:
            msg = f"no line starting with 'ready' after {READY_S} s"
            raise RuntimeError(msg)
        time.sleep(0.05)
