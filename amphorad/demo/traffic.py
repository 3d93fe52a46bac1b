"""The demo's clients: keep-alive connections that send requests at a rate, and what they saw in the last second."""

from __future__ import annotations

import asyncio
import collections
import time
from dataclasses import dataclass

__all__ = ["Seen", "Traffic"]

CONNECTIONS = 16
TIMEOUT_S = 5.0
PAUSE_AFTER_ERROR_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the clients saw since the last look. Durations are seconds; `by_status` counts answers, `failed` what had none."""

    requests_per_s: float
    p50_s: float | None
    p99_s: float | None
    by_status: dict[int, int]
    failed: int

    @property
    def bad(self) -> int:
        """Requests that did not end well."""
        return self.failed + sum(count for status, count in self.by_status.items() if status >= 500)


class Traffic:
    """Sends about `rate` GET requests per second to one address of this machine over CONNECTIONS connections."""

    def __init__(self, port: int, rate: float) -> None:
        self._port = port
        self._interval_s = CONNECTIONS / max(rate, 0.1)
        self._workers: list[asyncio.Task[None]] = []
        self._latencies: list[float] = []
        self._by_status: collections.Counter[int] = collections.Counter()
        self._failed = 0
        self._looked_at = time.monotonic()
        self.total = 0
        self.total_bad = 0

    def start(self) -> None:
        self._workers = [
            asyncio.create_task(self._work(number * self._interval_s / CONNECTIONS), name=f"client {number}")
            for number in range(CONNECTIONS)
        ]

    async def stop(self) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    def look(self) -> Seen:
        """What happened since the last call."""
        now = time.monotonic()
        latencies = sorted(self._latencies)
        seen = Seen(
            requests_per_s=len(latencies) / max(now - self._looked_at, 1e-3),
            p50_s=latencies[len(latencies) // 2] if latencies else None,
            p99_s=latencies[len(latencies) * 99 // 100] if latencies else None,
            by_status=dict(self._by_status),
            failed=self._failed,
        )
        self.total += len(latencies) + self._failed
        self.total_bad += seen.bad
        self._looked_at, self._failed = now, 0
        self._latencies.clear()
        self._by_status.clear()
        return seen

    async def _work(self, first_s: float) -> None:
        await asyncio.sleep(first_s)
        while True:
            try:
                await self._use_connection()
            except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError):
                self._failed += 1
            await asyncio.sleep(PAUSE_AFTER_ERROR_S)

    async def _use_connection(self) -> None:
        """Requests on one connection until it ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            due = time.monotonic()
            while True:
                began = time.monotonic()
                async with asyncio.timeout(TIMEOUT_S):
                    writer.write(b"GET /demo HTTP/1.1\r\nHost: demo.example\r\n\r\n")
                    status, keep = await _read_answer(reader)
                self._latencies.append(time.monotonic() - began)
                self._by_status[status] += 1
                if not keep:
                    return
                due = max(due + self._interval_s, time.monotonic() - self._interval_s)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        finally:
            writer.close()


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Status, and whether the connection stays open. The demo's answers always have a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    fields = dict(line.split(b":", 1) for line in lines[1:] if b":" in line)
    await reader.readexactly(int(fields.get(b"content-length", b"0")))
    return int(lines[0].split()[1]), fields.get(b"connection", b"").strip() != b"close"
