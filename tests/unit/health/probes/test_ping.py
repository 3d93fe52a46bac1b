"""PING checks with real ICMP on loopback; skipped where neither kind of ICMP socket is allowed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from amphorad.health.probes import ping
from amphorad.health.probes.ping import PingProber
from amphorad.health.probes.poller import Poller
from amphorad.health.target import ProbeKind, Target
from amphorad.health.verdict import CheckStatus, Finding


def target(address: str) -> Target:
    return Target(
        kind=ProbeKind.PING,
        address=address,
        port=80,
        member_address=address,
        member_port=80,
        interval_s=5.0,
        rise=2,
        fall=3,
        connect_timeout_s=1.0,
        timeout_s=1.0,
    )


class Owner:
    def __init__(self) -> None:
        self.found: asyncio.Future[Finding] = asyncio.get_running_loop().create_future()

    def established(self) -> None:
        raise AssertionError

    def finish(self, finding: Finding) -> None:
        self.found.set_result(finding)


async def ask(address: str, *, times: int = 1) -> list[Finding]:
    poller = Poller(asyncio.get_running_loop())
    prober = PingProber(poller)
    findings: list[Finding] = []
    try:
        owners = [Owner() for _number in range(times)]
        attempts: list[Any] = [prober.begin(target(address), owner) for owner in owners]
        for owner, attempt in zip(owners, attempts, strict=True):
            if isinstance(attempt, Finding):
                findings.append(attempt)
                continue
            try:
                findings.append(await asyncio.wait_for(owner.found, 1.0))
            except TimeoutError:
                findings.append(attempt.time_out())
    finally:
        prober.close()
        poller.close()
    if findings[0].status is CheckStatus.LOCAL:
        pytest.skip(findings[0].info)
    return findings


@pytest.mark.asyncio
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_ping_of_an_address_that_answers_passes(address: str) -> None:
    assert await ask(address, times=5) == [Finding(CheckStatus.PROCOK, 0)] * 5


@pytest.mark.asyncio
async def test_ping_without_permission_says_nothing_about_the_member(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_unused: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(ping, "_open_socket", refuse)
    poller = Poller(asyncio.get_running_loop())

    finding = PingProber(poller).begin(target("127.0.0.1"), Owner())
    poller.close()

    assert finding == (CheckStatus.LOCAL, None, "no ICMP socket: Operation not permitted")


class ScriptedSocket:
    """What came in is told by the test."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def fileno(self) -> int:
        return -1

    def sendto(self, packet: bytes, address: object) -> None:
        self.sent.append(packet)

    def close(self) -> None:
        pass


class ScriptedPoller:
    def add(self, *_unused: object) -> None:
        pass

    def forget(self, *_unused: object) -> None:
        pass


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("source", "change", "accepted"),
    [
        ("10.0.0.1", lambda packet: packet, True),
        ("10.0.0.2", lambda packet: packet, False),  # somebody else
        ("10.0.0.1", lambda packet: packet[:-1] + b"\0", False),  # another payload
        ("10.0.0.1", lambda packet: packet[:6] + b"\xff\xff" + packet[8:], False),  # a sequence nobody waits for
        ("10.0.0.1", lambda packet: packet[:4], False),
    ],
)
async def test_ping_takes_only_the_reply_to_its_own_request(
    source: str, change: Any, accepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = ScriptedSocket()
    monkeypatch.setattr(ping, "_open_socket", lambda is_v6: (scripted, False))
    monkeypatch.setattr(ping.secrets, "randbelow", lambda limit: 7)
    monkeypatch.setattr(ping.secrets, "token_bytes", lambda count: b"n" * count)
    prober = PingProber(ScriptedPoller())  # type: ignore[arg-type]
    owner = Owner()
    prober.begin(target("10.0.0.1"), owner)

    prober._sockets[False]._take(change(b"\0" + scripted.sent[0][1:]), source)

    assert owner.found.done() is accepted


@pytest.mark.asyncio
async def test_ping_without_reply_fails_with_the_exit_code_of_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Octavia contract section 4.11: success is exit 0 of one echo with one second to answer."""
    scripted = ScriptedSocket()
    monkeypatch.setattr(ping, "_open_socket", lambda is_v6: (scripted, False))
    prober = PingProber(ScriptedPoller())  # type: ignore[arg-type]
    owner = Owner()
    attempt: Any = prober.begin(target("10.0.0.1"), owner)

    finding = attempt.time_out()
    prober._sockets[False]._take(b"\0" + scripted.sent[0][1:], "10.0.0.1")

    assert finding == (CheckStatus.PROCERR, 1, "no echo reply")
    assert not owner.found.done()
