"""The cases of the comparison: load, unit of work, checks, target."""

from __future__ import annotations

import http.client
import os
import select
import ssl
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.config import member
from bench.cputime import ProcessTree, machine_busy_s
from bench.tools import LOAD, LoadAnswer, compile_tool, parse_answer, run_load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.candidates import Running
    from bench.tools import Backend

__all__ = ["CASES", "Case", "Sample", "measure", "measure_idle", "probe"]

GIB = float(1 << 30)
HEAD_LIMIT_BYTES = 600
TEARDOWN_S = 0.05
IDLE_SETTLE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of the table.

    Attributes:
        name: as given to --cases.
        about: one line for the report.
        unit: what the cost counts, for example "us/request".
        kind: endpoint kind (http, echo, answer, bulk).
        tool: wrk, h2load, connrate, tlsrate, pingpong, bulk or hold.
        conns: connections of the load tool.
        path, body: request path and the exact body size in bytes.
        streams: HTTP/2 streams of each connection at a time.
        browser: send the headers of a browser.
        arguments: extra words for `amphorad serve`.
        variant: of the configuration (`config.VARIANTS`).
        load: extra words for the load tool.
        threads: traffic threads of the candidate; above 1 nothing is pinned, and one thread runs for comparison.
        scale: factor from CPU seconds per unit of work to the number shown.
        target, limit: what amphorad wants to reach against HAProxy, as text and as upper bound.
    """

    name: str
    about: str
    unit: str
    kind: str
    tool: str
    conns: int
    path: str = "/200"
    body: int = 200
    streams: int = 1
    browser: bool = False
    arguments: tuple[str, ...] = ()
    variant: str = "plain"
    load: tuple[str, ...] = ()
    threads: int = 1
    scale: float = 1e6
    target: str
    limit: float

    def command(self, port: int, seconds: float, members: Sequence[int] = ()) -> list[str]:
        """Command line of the load tool. `members`: ports, for the cookies of clients that have been here before."""
        if self.tool == "wrk":
            # wrk takes whole seconds only
            words = ["wrk", f"-t{self.threads}", f"-c{self.conns}", f"-d{max(1, round(seconds))}s", "--timeout", "5s"]
            scheme = "https" if self.is_tls else "http"
            words += ["--latency", "-s", str(LOAD / "report.lua"), f"{scheme}://127.0.0.1:{port}{self.path}"]
            if self.variant == "cookie":
                return [*words, "--", "cookies", *(f"SRV={member(self.kind, each).name}" for each in members)]
            return [*words, "--", "browser"] if self.browser else words
        if self.tool == "h2load":
            target = f"https://127.0.0.1:{port}{self.path}"
            return ["h2load", "-t1", f"-c{self.conns}", f"-m{self.streams}", f"-D{max(1, round(seconds))}", target]
        words = [
            str(compile_tool(self.tool)),
            "--port",
            str(port),
            "--conns",
            str(self.conns),
            "--seconds",
            str(seconds),
        ]
        if self.tool == "connrate" and self.kind == "http":
            words += ["--http", self.path, "--body", str(self.body)]
        if self.tool == "tlsrate":
            words += ["--http", self.path, "--body", str(self.body)]
        return [*words, *self.load]

    @property
    def is_tls(self) -> bool:
        return self.variant.startswith("tls")

    def problem(self, answer: LoadAnswer) -> str | None:
        """Why the run is not valid, None when it is."""
        if answer.errors:
            return f"{answer.errors} errors in {answer.work} {self.unit.partition('/')[2]}s"
        if answer.work <= 0:
            return "no work was done"
        if self.tool == "wrk":
            low = answer.work * self.body
            high = (answer.work + self.conns) * (self.body + HEAD_LIMIT_BYTES)
            if not low <= answer.bytes <= high:
                return f"{answer.bytes} bytes for {answer.work} requests of {self.body}"
        return None


def _http(name: str, about: str, target: str, limit: float, **more: object) -> Case:
    values: dict[str, object] = {"tool": "wrk", "conns": 32, "unit": "us/request", "kind": "http", **more}
    return Case(name=name, about=about, target=target, limit=limit, **values)  # type: ignore[arg-type]


_HANDSHAKE = {"tool": "tlsrate", "unit": "us/connection", "conns": 8}
_CLOSE = {"tool": "connrate", "unit": "us/connection"}
_IDLE = {"tool": "hold", "unit": "B/connection", "conns": 5000, "scale": 1.0}
_LIST = (
    _http("http-ka-200", "HTTP keep-alive, 200 B, 32 connections", "0.85-0.90", 0.90),
    _http("http-ka-200-c1000", "HTTP keep-alive, 200 B, 1000 connections", "0.60-0.65", 0.65, conns=1000),
    _http("http-ka-browser", "HTTP keep-alive, 200 B, 14 browser headers", "0.85-0.90", 0.90, browser=True),
    _http("http-log", "HTTP keep-alive, 200 B, with the traffic log", "<= 0.75", 0.75, variant="log"),
    _http("http-rules", "HTTP keep-alive, 200 B, five L7 rules that do not match", "<= 0.90", 0.90, variant="rules"),
    _http("http-cookie", "HTTP keep-alive, 200 B, clients with their SRV cookie", "<= 0.90", 0.90, variant="cookie"),
    _http("http-source", "HTTP keep-alive, 200 B, stick on src", "<= 0.90", 0.90, variant="source"),
    _http(
        "http-rate",
        "HTTP keep-alive, 200 B, with limits of the listener and of each source that are not reached",
        "0.85-0.90",
        0.90,
        arguments=("--rate-limit", "10000000", "--rate-limit-source", "10000000", "--rate-limit-burst", "1000000"),
    ),
    _http(
        "h2-tls-200",
        "HTTP/2 over TLS, 200 B, 8 streams on each of 32 connections",
        "<= 0.95",
        0.95,
        tool="h2load",
        variant="tls",
        streams=8,
    ),
    _http("http-ka-10k", "HTTP keep-alive, 10 KiB", "0.85-0.95", 0.95, path="/10k", body=10240),
    _http("http-ka-256k", "HTTP keep-alive, 256 KiB", "<= 1.0", 1.0, path="/256k", body=262144),
    _http("http-ka-1m", "HTTP keep-alive, 1 MiB", "<= 1.0", 1.0, path="/1m", body=1 << 20),
    _http("http-close", "HTTP, one request per connection, own reuse policy", "0.50-0.60", 0.60, **_CLOSE),
    _http(
        "http-close-safe",
        "the same with HAProxy's reuse policy (http-reuse safe)",
        "0.95-1.00",
        1.0,
        arguments=("--http-reuse", "safe"),
        **_CLOSE,
    ),
    _http("tls-ka-200", "TLS keep-alive, 200 B", "<= 0.80", 0.80, variant="tls"),
    _http("tls-ka-10k", "TLS keep-alive, 10 KiB", "<= 0.82", 0.82, variant="tls", path="/10k", body=10240),
    _http("tls-ka-1m", "TLS keep-alive, 1 MiB", "<= 0.92", 0.92, variant="tls", path="/1m", body=1 << 20),
    _http("tls-full", "full handshake (P-256), one request", "<= 0.80", 0.80, variant="tls", **_HANDSHAKE),
    _http("tls-full-rsa", "full handshake (RSA-2048), one request", "<= 0.85", 0.85, variant="tls-rsa", **_HANDSHAKE),
    _http(
        "tls-resumed",
        "resumed handshake (P-256), one request",
        "<= 0.80",
        0.80,
        variant="tls",
        load=("--resume", "1"),
        **_HANDSHAKE,
    ),
    Case(
        name="tcp-conn",
        about="TCP connect, 200 B, close",
        unit="us/connection",
        kind="answer",
        tool="connrate",
        conns=32,
        target="0.92-0.97",
        limit=0.97,
    ),
    Case(
        name="tcp-pingpong",
        about="TCP, 128 B there and back, 32 connections",
        unit="us/round trip",
        kind="echo",
        tool="pingpong",
        conns=32,
        target="0.70-0.75",
        limit=0.75,
    ),
    Case(
        name="tcp-bulk",
        about="TCP stream from member to client, 4 connections",
        unit="s/GiB",
        kind="bulk",
        tool="bulk",
        conns=4,
        scale=GIB,
        target="0.50-0.80",
        limit=0.80,
    ),
    _http("idle-http", "memory of 5000 idle HTTP connections after one request", "0.20-0.30", 0.30, **_IDLE),
    _http(
        "idle-tls",
        "memory of 5000 idle TLS connections after one request",
        "<= 1.00",
        1.00,
        variant="tls",
        load=("--tls", "1"),
        **_IDLE,
    ),
    _http(
        "threads-2",
        "HTTP keep-alive, 200 B, 2 threads, 128 connections, unpinned",
        "0.75-0.85",
        0.85,
        threads=2,
        conns=128,
    ),
)
CASES = {case.name: case for case in _LIST}


@dataclass(slots=True, kw_only=True)
class Sample:
    """One measured run.

    Attributes:
        cost: proxy cost per unit of work, in the case's unit.
        total: the same with the CPU of load tool and backend added; None for memory.
        rate: units of work per second (GiB/s for streams).
        p50_us, p99_us: latency where the tool measures it.
        problem: why the sample is not valid, None when it is.
        threads: proxy CPU seconds by thread name.
        scaling: cost with the case's threads over cost with one; only for cases with several.
        foreign: CPUs used meanwhile by anything else on the machine.
    """

    cost: float = 0.0
    total: float | None = None
    rate: float = 0.0
    p50_us: float | None = None
    p99_us: float | None = None
    problem: str | None = None
    threads: dict[str, float] = field(default_factory=dict)
    scaling: float | None = None
    foreign: float | None = None


def probe(case: Case, running: Running) -> str | None:
    """One request whose whole body is compared; None when it is right. TCP tools check their bytes themselves."""
    if case.kind != "http":
        return None
    port = running.ports["http"]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    if case.is_tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
    try:
        for _ in range(2):
            connection.request("GET", case.path, headers={"Host": "bench.local"})
            response = connection.getresponse()
            body = response.read()
            wanted = bytes(ord("a") + i % 26 for i in range(26)) * (case.body // 26 + 1)
            if response.status != 200 or body != wanted[: case.body]:
                return f"wrong answer to GET {case.path}: status {response.status}, {len(body)} bytes"
    except (OSError, http.client.HTTPException) as error:
        return f"GET {case.path} failed: {error!r}"
    finally:
        connection.close()
    return None


def measure(case: Case, running: Running, backend: Backend, seconds: float, load_cpu: int | None) -> Sample:
    """Run the load once and divide the CPU time of the proxy by the work done."""
    members = ProcessTree(backend.process.pid)
    threads = running.tree.cpu_by_thread_s()
    began, busy = time.monotonic(), machine_busy_s()
    start_proxy, start_members = running.tree.cpu_s(), members.cpu_s()
    try:
        answer = run_load(
            case.command(running.ports[case.kind], seconds, backend.ports[case.kind]), seconds=seconds, cpu=load_cpu
        )
    except RuntimeError as error:
        return Sample(problem=str(error))
    time.sleep(TEARDOWN_S)  # closing the connections belongs to the run
    proxy = running.tree.cpu_s() - start_proxy
    problem = case.problem(answer)
    if running.process.poll() is not None:
        problem = f"ended with status {running.process.returncode}"
    if problem is not None:
        return Sample(problem=problem)
    total = proxy + answer.cpu_s + members.cpu_s() - start_members
    foreign = (machine_busy_s() - busy - total) / (time.monotonic() - began)
    rate = answer.work / answer.seconds
    used = {name: run - threads.get(name, 0.0) for name, run in running.tree.cpu_by_thread_s().items()}
    return Sample(
        cost=proxy / answer.work * case.scale,
        total=total / answer.work * case.scale,
        rate=rate / GIB if case.unit == "s/GiB" else rate,
        p50_us=answer.p50_us,
        p99_us=answer.p99_us,
        foreign=round(max(0.0, foreign), 2),
        threads={name: round(value, 4) for name, value in used.items()},
    )


def measure_idle(case: Case, running: Running, load_cpu: int | None) -> Sample:
    """Memory (PSS) that idle connections add; wants a freshly started candidate that got its first requests."""
    before = running.tree.pss_bytes()
    command = [*case.command(running.ports[case.kind], 30.0), "--path", case.path, "--body", str(case.body)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if load_cpu is not None:
        os.sched_setaffinity(process.pid, {load_cpu})
    assert process.stdout is not None
    try:
        readable, _, _ = select.select([process.stdout], [], [], 60.0)
        held = process.stdout.readline().split() if readable else []
        if held != ["held", str(case.conns)]:
            return Sample(problem=f"holding {case.conns} connections failed: {held}")
        time.sleep(IDLE_SETTLE_S)
        after = running.tree.pss_bytes()
        output, _ = process.communicate("go on\n", timeout=60)
        problem = case.problem(parse_answer(output, 0.0))
    except (subprocess.TimeoutExpired, RuntimeError) as error:
        return Sample(problem=str(error))
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return Sample(cost=(after - before) / case.conns, problem=problem)
