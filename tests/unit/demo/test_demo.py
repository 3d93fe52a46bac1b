from __future__ import annotations

import asyncio
import socket

import pytest

from amphorad.demo.member import MemberProcess
from amphorad.demo.run import render_configuration
from amphorad.demo.traffic import Traffic
from amphorad.dialects import haproxy


def test_packaged_file_with_other_ports_is_accepted() -> None:
    load_balancer, errors = haproxy.check(render_configuration(8080, [1001, 1002, 1003], first_weight=4))

    assert errors == []
    assert load_balancer is not None
    (listener,) = load_balancer.listeners
    assert [(bind.address, bind.port) for bind in listener.binds] == [("127.0.0.1", 8080)]
    members = [(member.port, member.weight) for member in listener.pools[0].members]
    assert members == [(1001, 4), (1002, 1), (1003, 1)]


def test_member_killed_and_started_again_keeps_its_port() -> None:
    member = MemberProcess("apple", 0.0)
    member.start()
    port = member.port
    try:
        answers = [_get(port), b""]
        member.kill()
        assert not member.is_running
        with pytest.raises(OSError, match="refused"):
            _get(port)
        member.start()
        answers[1] = _get(port)
    finally:
        member.kill()

    assert member.port == port
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") and b"x-member: apple" in answer for answer in answers)


def _get(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        return client.recv(65536)


@pytest.mark.asyncio
async def test_traffic_against_nothing_counts_failures_and_goes_on() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        traffic = Traffic(taken.getsockname()[1], rate=10_000)
        traffic.start()
        failed = 0
        while failed < 20:
            await asyncio.sleep(0)
            failed += traffic.look().failed
        await traffic.stop()

    assert traffic.total_bad >= 20
