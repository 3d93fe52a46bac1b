"""Locust against a demo load balancer: `python -m bench.locust_run [--host http://127.0.0.1:PORT]`.

Starts members and the load balancer on loopback, runs load/locustfile.py headless, and writes bench/out/locust_*.csv and
locust.html. When something already accepts connections at --host, that is used as it is (with members like backend.c, for the
checks to hold), and nothing is started. Exit status 0 only when requests were made and none failed.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

from bench import candidates
from bench.tools import LOAD, OUT, REPOSITORY, Backend, free_port, raise_fd_limit

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]

GRACE_S = 60.0


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _demo(proxy: str, threads: int, port: int) -> Iterator[dict[str, int]]:
    """Three HTTP members, two echo members and the load balancer; gives its listening ports."""
    with tempfile.TemporaryDirectory(prefix="amphorad-locust-") as folder, contextlib.ExitStack() as stack:
        backend = Backend.start({"http": 3, "echo": 2})
        stack.callback(backend.stop)
        setup = candidates.Setup(name=proxy, threads=threads)
        files = raise_fd_limit()
        running = candidates.start(setup, backend.ports, Path(folder) / proxy, files, {"http": port})
        stack.callback(running.stop)
        yield running.ports


def _run(host: str, tcp: str, seconds: float, users: int) -> int:
    OUT.mkdir(exist_ok=True)
    for old in OUT.glob("locust*"):
        old.unlink()
    command = [sys.executable, "-m", "locust", "-f", str(LOAD / "locustfile.py"), "--headless", "--only-summary"]
    command += ["--host", host, "--csv", str(OUT / "locust"), "--html", str(OUT / "locust.html")]
    environment = {**os.environ, "BENCH_TCP": tcp, "BENCH_SECONDS": str(seconds), "BENCH_USERS": str(users)}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, timeout=seconds + GRACE_S).returncode


def _totals() -> tuple[int, int]:
    """Requests and failures of the run, from the file locust wrote."""
    with (OUT / "locust_stats.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            if line["Name"] == "Aggregated":
                return int(line["Request Count"]), int(line["Failure Count"])
    return 0, 0


def main(words: list[str] | None = None) -> int:
    """Command line; status 0 when all requests were right."""
    parser = argparse.ArgumentParser(prog="python -m bench.locust_run", description=__doc__)
    parser.add_argument("--host", help="base address of the HTTP listener; default: a free port of 127.0.0.1")
    parser.add_argument("--tcp", default="", help="HOST:PORT of an echo listener, when --host is already served")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the ramp, default %(default)s")
    parser.add_argument("--users", type=int, default=60, help="users at the peak, default %(default)s")
    parser.add_argument("--proxy", default="amphorad", choices=candidates.NAMES, help="default %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="traffic threads, default %(default)s")
    options = parser.parse_args(words)
    if importlib.util.find_spec("locust") is None:
        print("locust is not installed; install the bench extra", file=sys.stderr)
        return 2
    host = options.host or f"http://127.0.0.1:{free_port()}"
    address = urllib.parse.urlsplit(host)
    if address.hostname is None or address.port is None:
        parser.error("--host must be like http://127.0.0.1:8080")
    try:
        if _accepts(address.hostname, address.port):
            status = _run(host, options.tcp, options.seconds, options.users)
        elif address.hostname != "127.0.0.1":
            print(f"nothing answers at {host}", file=sys.stderr)
            return 2
        else:
            with _demo(options.proxy, options.threads, address.port) as ports:
                status = _run(host, f"127.0.0.1:{ports['echo']}", options.seconds, options.users)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 2
    requests, failures = _totals()
    good = status == 0 and requests > 0 and failures == 0
    print(f"{'ok' if good else 'FAILED'}: {requests} requests, {failures} failures; report: {OUT / 'locust.html'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
