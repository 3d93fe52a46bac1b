"""CPU and punctuality of the health monitors: MEMBERS members on loopback, each checked once a second.

    python bench/micro/bench_health_monitor.py [--members 1000] [--seconds 10] [--kind http|tcp] [--load N]

`--load N` keeps N other processes busy meanwhile, as saturated engine threads would. The members are one process that
answers on one port; the address of each member is another one of 127.0.0.0/8. Prints the share of one core that the
monitors' process used, and how far the distance between two checks of a member was from the interval.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import select
import signal
import socket
import time
from typing import TYPE_CHECKING

import uvloop

from amphorad.health.monitor import MemberHealth, MonitorSet
from amphorad.model import HealthMonitor, HealthMonitorType, Listener, LoadBalancer, Member, Mode, Pool

if TYPE_CHECKING:
    from amphorad.plan import MemberKey

ANSWER = b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"


def serve(listening: socket.socket) -> None:
    poll = select.epoll()
    poll.register(listening.fileno(), select.EPOLLIN)
    open_: dict[int, socket.socket] = {}
    while True:
        for descriptor, _mask in poll.poll():
            if descriptor == listening.fileno():
                with contextlib.suppress(OSError):
                    connection, _address = listening.accept()
                    connection.setblocking(False)
                    open_[connection.fileno()] = connection
                    poll.register(connection.fileno(), select.EPOLLIN)
                continue
            try:
                data = open_[descriptor].recv(4096)
                if data:
                    open_[descriptor].send(ANSWER)
                    continue
            except OSError:
                pass
            open_.pop(descriptor).close()


def burn() -> None:
    while True:
        pass


def fork(function, *arguments) -> int:  # type: ignore[no-untyped-def]
    pid = os.fork()
    if pid == 0:
        try:
            function(*arguments)
        finally:
            os._exit(0)
    return pid


def configuration(count: int, port: int, kind: str) -> LoadBalancer:
    monitor = HealthMonitor(
        type=HealthMonitorType(kind.upper()),
        interval_s=1.0,
        timeout_s=1.0,
        rise=2,
        fall=3,
        http_method="GET" if kind == "http" else None,
        url_path="/health" if kind == "http" else None,
        expected_codes="200|201",
    )
    members = tuple(
        Member(id=f"m{n}", address=f"127.0.{1 + n // 250}.{1 + n % 250}", port=port, checked=True) for n in range(count)
    )
    pool = Pool(id="p", mode=Mode.HTTP, members=members, health_monitor=monitor)
    return LoadBalancer(
        id="lb", listeners=(Listener(id="l", mode=Mode.HTTP, binds=(), default_pool="p", pools=(pool,)),)
    )


async def measure(options: argparse.Namespace, port: int) -> None:
    began: dict[MemberKey, float] = {}
    off: list[float] = []
    durations: list[float] = []

    def on_check(key: MemberKey, health: MemberHealth) -> None:
        assert health.last is not None
        start = time.monotonic() - health.last.duration_s
        if key in began:
            off.append(abs(start - began[key] - 1.0))
        began[key] = start
        durations.append(health.last.duration_s)

    monitors = MonitorSet(lambda key, verdict: print(verdict.log_line), on_check=on_check)
    monitors.apply(configuration(options.members, port, options.kind))
    await asyncio.sleep(1.5)  # the start is another matter
    off.clear()
    durations.clear()
    before, then = os.times(), time.monotonic()
    await asyncio.sleep(options.seconds)
    after, elapsed = os.times(), time.monotonic() - then
    user, system = after.user - before.user, after.system - before.system
    used = user + system
    await monitors.close()
    off.sort()
    durations.sort()
    print(
        f"{options.kind}: {len(durations) / elapsed:.0f} checks/s, {100 * used / elapsed:.1f} % of one core"
        f" ({1e6 * user / len(durations):.0f} us ours and {1e6 * system / len(durations):.0f} us the kernel's per check);"
        f" off by p50 {off[len(off) // 2] * 1e3:.1f} ms, p99 {off[int(len(off) * 0.99)] * 1e3:.1f} ms,"
        f" max {off[-1] * 1e3:.1f} ms; duration p50 {durations[len(durations) // 2] * 1e3:.2f} ms,"
        f" max {durations[-1] * 1e3:.1f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--kind", choices=("http", "tcp"), default="http")
    parser.add_argument("--load", type=int, default=0)
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    listening = socket.create_server(("0.0.0.0", 0), backlog=4096)
    helpers = [fork(serve, listening), *(fork(burn) for _ in range(options.load))]
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure(options, listening.getsockname()[1]))
    finally:
        for pid in helpers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        listening.close()


if __name__ == "__main__":
    main()
