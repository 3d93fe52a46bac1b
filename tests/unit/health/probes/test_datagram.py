"""UDP-CONNECT and SCTP checks over real sockets on loopback."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from contextlib import closing
from typing import Any

import pytest

from amphorad.health.monitor import MonitorSet
from amphorad.health.probes import sctp
from amphorad.health.probes.poller import Poller
from amphorad.health.probes.sctp import SctpProber
from amphorad.health.probes.udp import UdpProber
from amphorad.health.target import ProbeKind, Target
from amphorad.health.verdict import CheckStatus, Finding, Verdict
from amphorad.model import Member
from amphorad.plan import MemberKey

PASSED = Finding(CheckStatus.L4OK)
REFUSED = Finding(CheckStatus.L4CON, None, os.strerror(errno.ECONNREFUSED))


def target(kind: ProbeKind, address: str, port: int) -> Target:
    return Target(
        kind=kind,
        address=address,
        port=port,
        member_address=address,
        member_port=port,
        interval_s=0.2,
        rise=1,
        fall=2,
        connect_timeout_s=0.1,
        timeout_s=0.1,
    )


class Owner:
    def __init__(self) -> None:
        self.found: asyncio.Future[Finding] = asyncio.get_running_loop().create_future()

    def established(self) -> None:
        """Of a stream; nothing follows."""

    def finish(self, finding: Finding) -> None:
        self.found.set_result(finding)


async def ask(prober_class: Any, wanted: Target, wait_s: float = 0.3) -> Finding:
    poller = Poller(asyncio.get_running_loop())
    prober, owner = prober_class(poller), Owner()
    try:
        attempt = prober.begin(wanted, owner)
        if isinstance(attempt, Finding):
            return attempt
        try:
            return await asyncio.wait_for(owner.found, wait_s)
        except TimeoutError:
            finding: Finding = attempt.time_out()
            return finding
    finally:
        prober.close()
        poller.close()


def member(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_DGRAM)
    bound.bind((address, 0))
    bound.setblocking(False)
    return bound


@pytest.mark.asyncio
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_udp_member_that_is_silent_passes(address: str) -> None:
    with closing(member(address)) as listening:
        finding = await ask(UdpProber, target(ProbeKind.UDP_CONNECT, address, listening.getsockname()[1]))
        received = [listening.recv(100) for _datagram in range(2)]

    assert finding == PASSED
    assert received == [b"X", b"X"]


@pytest.mark.asyncio
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_udp_port_without_a_member_fails(address: str) -> None:
    with closing(member(address)) as listening:
        port = listening.getsockname()[1]

    assert await ask(UdpProber, target(ProbeKind.UDP_CONNECT, address, port)) == REFUSED


@pytest.mark.asyncio
async def test_udp_member_that_answers_passes_at_once() -> None:
    loop = asyncio.get_running_loop()
    with closing(member("127.0.0.1")) as listening:

        def answer() -> None:
            _data, sender = listening.recvfrom(100)
            listening.sendto(b"hello", sender)

        loop.add_reader(listening, answer)
        finding = await ask(UdpProber, target(ProbeKind.UDP_CONNECT, "127.0.0.1", listening.getsockname()[1]), 10.0)
        loop.remove_reader(listening)

    assert finding == PASSED


@pytest.mark.asyncio
async def test_udp_member_goes_down_after_fall_and_up_with_the_first_that_passes() -> None:
    verdicts: asyncio.Queue[Verdict] = asyncio.Queue()
    key = MemberKey("l", "p", "a")
    with closing(member("127.0.0.1")) as first:
        port = first.getsockname()[1]
    monitors = MonitorSet(lambda _key, verdict: verdicts.put_nowait(verdict))
    members = {key: Member(id="a", address="127.0.0.1", port=port, checked=True)}
    monitors.apply_targets({key: target(ProbeKind.UDP_CONNECT, "127.0.0.1", port)}, members)
    try:
        down = await asyncio.wait_for(verdicts.get(), 10)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
            back.bind(("127.0.0.1", port))
            up = await asyncio.wait_for(verdicts.get(), 10)
    finally:
        await monitors.close()

    assert (down.up, up.up) == (False, True)
    assert down.pool_log_line == "backend p:l has no server available!"
    assert up.count.active == 1


def has_sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132).close()
    except OSError:
        return False
    return True


@pytest.mark.asyncio
@pytest.mark.skipif(not has_sctp(), reason="this kernel has no SCTP")
async def test_sctp_member_passes_and_a_port_without_one_fails() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        passed = await ask(SctpProber, target(ProbeKind.SCTP, "127.0.0.1", port), 5.0)
    refused = await ask(SctpProber, target(ProbeKind.SCTP, "127.0.0.1", port), 5.0)

    assert passed == PASSED
    assert refused == REFUSED


@pytest.mark.asyncio
@pytest.mark.skipif(has_sctp(), reason="this kernel has SCTP")
async def test_kernel_without_sctp_says_so_and_nothing_about_the_member() -> None:
    finding = await ask(SctpProber, target(ProbeKind.SCTP, "127.0.0.1", 9))

    assert finding == Finding(CheckStatus.LOCAL, None, "this kernel has no SCTP (modprobe sctp)")


@pytest.mark.asyncio
async def test_sctp_check_is_carried_as_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows the socket call, on a kernel without SCTP too: the handshake of another stream protocol in its place."""
    monkeypatch.setattr(sctp, "_PROTOCOL", socket.IPPROTO_TCP)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        passed = await ask(SctpProber, target(ProbeKind.SCTP, "127.0.0.1", port), 5.0)
    refused = await ask(SctpProber, target(ProbeKind.SCTP, "127.0.0.1", port), 5.0)

    assert passed == PASSED
    assert refused == REFUSED
