"""Locust scenario: web users over HTTP, TCP users with echoed messages, a ramp with a peak and a fall.

    python -m locust -f bench/load/locustfile.py --headless --host http://127.0.0.1:8080

`python -m bench.locust_run` starts members and a load balancer around it. Settings come from the environment:

    BENCH_TCP       HOST:PORT of a TCP listener whose members echo; without it there are no TCP users
    BENCH_SECONDS   length of the ramp, default 20
    BENCH_USERS     users at the peak, default 60

Every answer is checked byte by byte; what is not as wanted is a failure of the run. The members are those of backend.c.
"""

from __future__ import annotations

import os
import random
import socket
import time
from typing import ClassVar

from locust import FastHttpUser, LoadTestShape, User, between, constant, events, task

__all__ = ["EchoUser", "Ramp", "WebUser"]

SECONDS = float(os.environ.get("BENCH_SECONDS", "20"))
USERS = int(os.environ.get("BENCH_USERS", "60"))
TCP = os.environ.get("BENCH_TCP", "")
PAGES = {"/200": 200, "/10k": 10240, "/256k": 262144, "/1m": 1 << 20}
_ALPHABET = bytes(range(ord("a"), ord("z") + 1))
_PATTERN = _ALPHABET * ((1 << 20) // 26 + 1)
TIMEOUT_S = 10.0


class WebUser(FastHttpUser):
    """A browser-like user: mostly small pages on kept connections, some larger ones, uploads and closed connections."""

    weight = 4
    wait_time = between(0.0, 0.05)
    network_timeout = TIMEOUT_S
    connection_timeout = TIMEOUT_S

    def _get(self, path: str, headers: dict[str, str] | None = None) -> None:
        with self.client.get(path, headers=headers, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
            elif response.content != _PATTERN[: PAGES[path]]:
                response.failure(f"wrong body of {len(response.content or b'')} bytes")

    @task(60)
    def small(self) -> None:
        """200 bytes."""
        self._get("/200")

    @task(20)
    def page(self) -> None:
        """10 KiB."""
        self._get("/10k")

    @task(4)
    def image(self) -> None:
        """256 KiB."""
        self._get("/256k")

    @task(1)
    def download(self) -> None:
        """1 MiB."""
        self._get("/1m")

    @task(8)
    def last_request(self) -> None:
        """A request that ends its connection."""
        self._get("/200", {"Connection": "close"})

    @task(4)
    def upload(self) -> None:
        """A request body of 1 to 200 KiB."""
        body = _PATTERN[: random.randint(1, 200) * 1024].decode()
        with self.client.post("/200", data=body, catch_response=True) as response:
            if response.status_code != 200 or response.content != _PATTERN[:200]:
                response.failure(f"status {response.status_code}")


class EchoUser(User):
    """A TCP client: connects, sends some messages, wants each one back, closes."""

    abstract = not TCP
    weight = 1
    wait_time = constant(0.02)
    sizes: ClassVar[tuple[int, ...]] = (16, 128, 1400, 20000)

    @task
    def conversation(self) -> None:
        """One connection with one to ten messages."""
        host, _, port = TCP.rpartition(":")
        began = time.perf_counter()
        try:
            connection = socket.create_connection((host, int(port)), timeout=TIMEOUT_S)
        except OSError as error:
            self._report("connect", began, 0, error)
            return
        self._report("connect", began, 0, None)
        with connection:
            for _ in range(random.randint(1, 10)):
                message = random.randbytes(random.choice(self.sizes))
                began = time.perf_counter()
                problem = _exchange(connection, message)
                self._report("echo", began, len(message), problem)
                if problem is not None:
                    return

    def _report(self, name: str, began: float, size: int, problem: Exception | None) -> None:
        events.request.fire(  # type: ignore[no-untyped-call]
            request_type="TCP",
            name=name,
            response_time=(time.perf_counter() - began) * 1000,
            response_length=size,
            exception=problem,
            context={},
        )


def _exchange(connection: socket.socket, message: bytes) -> Exception | None:
    """Send and wait for the same bytes; the error instead of raising it, because locust wants it as a value."""
    try:
        connection.sendall(message)
        got = bytearray()
        while len(got) < len(message):
            data = connection.recv(65536)
            if not data:
                return ConnectionError(f"closed after {len(got)} of {len(message)} bytes")
            got += data
    except OSError as error:
        return error
    return None if bytes(got) == message else ValueError("other bytes came back")


class Ramp(LoadTestShape):
    """Up to half, up to all, down to a quarter: each stage changes the number of users while traffic runs."""

    stages: ClassVar[tuple[tuple[float, float], ...]] = ((0.3, 0.5), (0.75, 1.0), (1.0, 0.25))
    """Part of the time by which the stage ends, and its part of the users."""

    def tick(self) -> tuple[int, float] | None:
        """Users wanted now and users per second to get there; None ends the run."""
        passed = self.get_run_time() / SECONDS  # type: ignore[no-untyped-call]
        for end, part in self.stages:
            if passed < end:
                return max(2, round(USERS * part)), max(1.0, USERS / 4)
        return None
