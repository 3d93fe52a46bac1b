"""Load tools: compile them on demand, start the backend, run one load and read its answer."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "BENCH",
    "LOAD",
    "OUT",
    "REPOSITORY",
    "Backend",
    "LoadAnswer",
    "LogSink",
    "compile_tool",
    "free_port",
    "free_ports",
    "parse_answer",
    "raise_fd_limit",
    "run_load",
    "wait_accepting",
]

BENCH = Path(__file__).resolve().parent
REPOSITORY = BENCH.parent
LOAD = BENCH / "load"
OUT = BENCH / "out"
CFLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra")
LOAD_GRACE_S = 20.0
_H2LOAD = re.compile(
    r"finished in (?P<seconds>[0-9.]+)s.*?(?P<done>\d+) succeeded, (?P<failed>\d+) failed, (?P<errored>\d+) errored, "
    r"(?P<timeout>\d+) timeout",
    re.DOTALL,
)


def compile_tool(name: str) -> Path:
    """Path of the load tool `name`, built from load/<name>.c when missing or older than its source.

    Raises:
        RuntimeError: no gcc, or the compiler failed.
    """
    source, header, binary = LOAD / f"{name}.c", LOAD / "common.h", OUT / name
    newest = max(source.stat().st_mtime, header.stat().st_mtime)
    if binary.exists() and binary.stat().st_mtime >= newest:
        return binary
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        msg = "a C compiler (gcc or cc) is needed to build the load tools"
        raise RuntimeError(msg)
    OUT.mkdir(exist_ok=True)
    done = subprocess.run([compiler, *CFLAGS, "-o", str(binary), str(source)], capture_output=True, text=True)
    if done.returncode != 0:
        msg = f"building {source.name} failed:\n{done.stderr}"
        raise RuntimeError(msg)
    return binary


def raise_fd_limit() -> int:
    """Lift the soft limit of open files to the hard one, for this process and its children; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports of 127.0.0.1 that are free now.

    They lie below the range the kernel takes ports for outgoing connections from, so that a listener that ends can come back: else
    one of thousands of connections would have taken its port meanwhile.

    Raises:
        RuntimeError: there are not so many.
    """
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    for port in random.SystemRandom().sample(range(max(1024, low - 8000), low), min(8000, low - 1024)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    msg = f"less than {count} free ports below {low}"
    raise RuntimeError(msg)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    return free_ports(1)[0]


def wait_accepting(ports: Sequence[int], process: subprocess.Popen[str], timeout_s: float = 10.0) -> None:
    """Wait until every port of 127.0.0.1 accepts a connection.

    Raises:
        RuntimeError: the process ended or the time is over.
    """
    deadline = time.monotonic() + timeout_s
    for port in ports:
        while True:
            if process.poll() is not None:
                msg = f"{process.args!r} ended with status {process.returncode} before it was ready"
                raise RuntimeError(msg)
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    msg = f"port {port} does not accept connections after {timeout_s} s: {error}"
                    raise RuntimeError(msg) from error
                time.sleep(0.02)


@dataclass(slots=True)
class Backend:
    """One running backend process; `ports` maps a kind (http, echo, answer, bulk) to its listening ports."""

    process: subprocess.Popen[str]
    ports: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def start(
        cls, counts: Mapping[str, int], *, cpu: int | None = None, fixed: Mapping[str, int] | None = None
    ) -> Backend:
        """Start a backend, for example `Backend.start({"http": 3, "echo": 2})`.

        Args:
            counts: number of listening ports by kind.
            cpu: pin it to this CPU.
            fixed: listening port by kind, where it must not be an ephemeral one (count 1).
        """
        command = [str(compile_tool("backend"))]
        for kind, count in counts.items():
            command += [f"--{kind}", str(count)]
        for kind, number in (fixed or {}).items():
            command += [f"--{kind}-port", str(number)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        backend = cls(process)
        if cpu is not None:
            os.sched_setaffinity(process.pid, {cpu})
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "ready":
                return backend
            kind, port = line.split()
            backend.ports.setdefault(kind, []).append(int(port))
        process.wait()
        msg = f"the backend ended with status {process.returncode}: {' '.join(command)}"
        raise RuntimeError(msg)

    def stop(self, *, kill: bool = False) -> None:
        """End the process; with `kill`, without giving it a chance to close connections in order."""
        if self.process.poll() is None:
            if kill:
                self.process.kill()
            else:
                self.process.terminate()
        self.process.wait(timeout=10)
        if self.process.stdout is not None:
            self.process.stdout.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadAnswer:
    """What one load run did.

    Attributes:
        work: units done (requests, connections, round trips, bytes).
        bytes: bytes received by the load tool.
        errors: everything that did not go as wanted; must be 0.
        seconds: duration of the load.
        cpu_s: CPU time of the load tool.
        p50_us, p99_us: latency, None where the tool does not measure it.
    """

    work: int
    bytes: int
    errors: int
    seconds: float
    cpu_s: float
    p50_us: float | None = None
    p99_us: float | None = None


@contextlib.contextmanager
def _pinned(cpu: int | None) -> Iterator[None]:
    """Children started inside inherit the CPU; avoids a preexec function."""
    before = os.sched_getaffinity(0)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run_load(command: Sequence[str], *, seconds: float, cpu: int | None = None) -> LoadAnswer:
    """Run one load tool to its end; the last JSON line of its output is the answer.

    Raises:
        RuntimeError: it failed, took more than 20 s longer than asked, or gave no answer.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with _pinned(cpu):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    try:
        output, _ = process.communicate(timeout=seconds + LOAD_GRACE_S)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        msg = f"{command[0]} did not end in time"
        raise RuntimeError(msg) from error
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode != 0:
        msg = f"{command[0]} ended with status {process.returncode}: {output.strip()[-500:]}"
        raise RuntimeError(msg)
    return parse_answer(output, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def parse_answer(output: str, cpu_s: float) -> LoadAnswer:
    """The last line of `output` that is a JSON object, or what h2load says at its end, as a LoadAnswer."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            data = json.loads(line)
            return LoadAnswer(
                work=int(data["work"]),
                bytes=int(data["bytes"]),
                errors=int(data["errors"]),
                seconds=float(data["seconds"]),
                cpu_s=cpu_s,
                p50_us=data.get("p50_us"),
                p99_us=data.get("p99_us"),
            )
    h2load = _H2LOAD.search(output)
    if h2load is not None:
        return LoadAnswer(
            work=int(h2load["done"]),
            bytes=0,
            errors=int(h2load["failed"]) + int(h2load["errored"]) + int(h2load["timeout"]),
            seconds=float(h2load["seconds"]),
            cpu_s=cpu_s,
        )
    msg = f"no answer in the output of the load tool: {output.strip()[-500:]}"
    raise RuntimeError(msg)


class LogSink:
    """A system log that takes datagrams and forgets them."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(0o666)
        self.lines = 0
        self._thread = threading.Thread(target=self._run, name="log sink", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._socket.recv(65536) != b"end":
            self.lines += 1

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"end", self._socket.getsockname())
        self._thread.join()
        self._socket.close()
