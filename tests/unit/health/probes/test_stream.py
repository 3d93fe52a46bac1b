"""Checks over real sockets, against members that misbehave at each step."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from amphorad.health.probes.poller import Poller
from amphorad.health.probes.stream import StreamProber
from amphorad.health.target import CheckTls, HttpCheck, ProbeKind, Target
from amphorad.health.verdict import CheckStatus, Finding
from amphorad.model import ProxyProtocol
from tests.support.health_members import (
    OK,
    HealthMembers,
    free_port,
    make_certificate,
    member_context,
)

if TYPE_CHECKING:
    from pathlib import Path

TCP = Target(
    kind=ProbeKind.STREAM,
    address="127.0.0.1",
    port=1,
    member_address="127.0.0.1",
    member_port=1,
    interval_s=5.0,
    rise=2,
    fall=3,
    connect_timeout_s=0.4,
    timeout_s=0.4,
)
HTTP = replace(TCP, http=HttpCheck(method="GET", path="/h", version="1.0", host=None, expected="200"))
HELLO = replace(TCP, tls=CheckTls())
HTTPS = replace(HTTP, tls=CheckTls())


class Owner:
    """Does for one attempt what the monitor does: two timers, one finding."""

    def __init__(self, target: Target) -> None:
        loop = asyncio.get_running_loop()
        self.found: asyncio.Future[Finding] = loop.create_future()
        self.attempt: Any = None
        self._target = target
        self._timer = loop.call_later(target.connect_timeout_s, self._on_time)

    def established(self) -> None:
        self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._target.timeout_s, self._on_time)

    def finish(self, finding: Finding) -> None:
        self._timer.cancel()
        self.found.set_result(finding)

    def _on_time(self) -> None:
        self.finish(self.attempt.time_out())


async def check(target: Target) -> Finding:
    poller = Poller(asyncio.get_running_loop())
    prober = StreamProber(poller)
    owner = Owner(target)
    try:
        outcome = prober.begin(target, owner)
        if isinstance(outcome, Finding):
            owner.finish(outcome)
        else:
            owner.attempt = outcome
        return await owner.found
    finally:
        prober.close()
        poller.close()


async def check_against(behaviour: Any, target: Target, tls: Any = None) -> Finding:
    async with HealthMembers() as members:
        return await check(replace(target, port=await members.start(behaviour, tls=tls)))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        ("good", CheckStatus.L7OK, 200),
        ("slow_good", CheckStatus.L7OK, 200),
        ("reset_after_answer", CheckStatus.L7OK, 200),
        ("error_500", CheckStatus.L7STS, 500),
        ("interim_100", CheckStatus.L7STS, 100),
        ("garbage", CheckStatus.L7RSP, None),
        ("close_after_request", CheckStatus.L7RSP, None),
        ("close_in_head", CheckStatus.L7RSP, None),
        ("many_fields", CheckStatus.L7RSP, None),
        ("endless_head", CheckStatus.L7RSP, None),
        ("reset_after_request", CheckStatus.SOCKERR, None),
        ("reset_at_accept", CheckStatus.SOCKERR, None),
        ("silent", CheckStatus.L7TOUT, None),
        ("stall_in_head", CheckStatus.L7TOUT, None),
        ("drip", CheckStatus.L7TOUT, None),
    ],
)
async def test_http_check_of_a_member(behaviour: str, status: CheckStatus, code: int | None) -> None:
    finding = await check_against(behaviour, HTTP)

    assert (finding.status, finding.code) == (status, code)


@pytest.mark.asyncio
async def test_http_check_member_closes_at_accept_fails() -> None:
    finding = await check_against("close_at_accept", HTTP)

    assert finding.status in (CheckStatus.L7RSP, CheckStatus.SOCKERR)


@pytest.mark.asyncio
@pytest.mark.parametrize("behaviour", ["silent", "close_at_accept", "reset_at_accept", "good"])
async def test_tcp_check_of_any_member_that_accepts_passes(behaviour: str) -> None:
    assert (await check_against(behaviour, TCP)).status is CheckStatus.L4OK


@pytest.mark.asyncio
@pytest.mark.parametrize("target", [TCP, HTTP, HELLO, HTTPS])
async def test_check_of_a_port_that_refuses(target: Target) -> None:
    assert await check(replace(target, port=free_port())) == (CheckStatus.L4CON, None, "Connection refused")


@pytest.mark.asyncio
@pytest.mark.parametrize("target", [TCP, HTTP, HELLO])
async def test_check_of_a_port_that_does_not_answer_is_a_layer_4_timeout(target: Target) -> None:
    """A full accept queue: the kernel leaves connection requests unanswered."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        with socket.create_connection(listening.getsockname()):
            began = time.monotonic()
            finding = await check(replace(target, port=listening.getsockname()[1]))

    assert finding.status is CheckStatus.L4TOUT
    assert time.monotonic() - began < 2.0


@pytest.mark.asyncio
async def test_http_check_over_ipv6() -> None:
    async with HealthMembers() as members:
        port = await members.start("good", host="::1")

        finding = await check(replace(HTTP, address="::1", port=port))

    assert finding.status is CheckStatus.L7OK


@pytest.mark.asyncio
async def test_endless_head_costs_bounded_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await check_against("endless_head", HTTP)

    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 32 * 1024  # the member's own buffers are in this process too


@pytest.mark.asyncio
@pytest.mark.parametrize("protocol", list(ProxyProtocol))
async def test_proxy_header_goes_before_the_request(protocol: ProxyProtocol) -> None:
    async with HealthMembers() as members:
        port = await members.start("good")
        finding = await check(replace(HTTP, port=port, proxy_protocol=protocol))
        request = b"".join(members.requests[port])

    assert request.startswith(b"PROXY TCP4 127.0.0.1 " if protocol is ProxyProtocol.V1 else b"\r\n\r\n")
    assert finding.status is CheckStatus.L7OK


@pytest.mark.asyncio
async def test_proxy_header_is_sent_by_a_tcp_check_too() -> None:
    read: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        read.set_result(await reader.read(1000))

    async with HealthMembers() as members:
        port = await members.start(keep)
        finding = await check(replace(TCP, port=port, proxy_protocol=ProxyProtocol.V1))
        data = await read

    assert finding.status is CheckStatus.L4OK
    assert data.startswith(b"PROXY TCP4 ")
    assert data.endswith(b" %d\r\n" % port)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        ("silent", CheckStatus.L6TOUT),
        ("close_at_accept", CheckStatus.L6RSP),
        ("reset_at_accept", CheckStatus.L6RSP),
    ],
)
@pytest.mark.parametrize("target", [HELLO, HTTPS])
async def test_tls_check_of_a_member_without_tls(behaviour: str, status: CheckStatus, target: Target) -> None:
    assert (await check_against(behaviour, target)).status is status


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x03\x03\xff\xff" + bytes(70000), bytes(10)]
)
async def test_tls_check_of_a_member_that_sends_garbage(garbage: bytes) -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(garbage)
        await reader.read(-1)

    assert (await check_against(behave, HELLO)).status is CheckStatus.L6RSP


@pytest.mark.asyncio
async def test_tls_hello_passes_without_verification(tmp_path: Path) -> None:
    finding = await check_against("silent", HELLO, member_context(make_certificate(tmp_path)))

    assert finding == (CheckStatus.L6OK, None, "")


@pytest.mark.asyncio
async def test_tls_hello_with_the_pools_ca_refuses_a_stranger(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    own, other = make_certificate(tmp_path), make_certificate(tmp_path / "other")
    trusting = CheckTls(verify=True, ca_file=str(tmp_path / "certificate.pem"))
    strange = CheckTls(verify=True, ca_file=str(tmp_path / "other" / "certificate.pem"))

    good = await check_against("silent", replace(TCP, tls=trusting), member_context(own))
    bad = await check_against("silent", replace(TCP, tls=strange), member_context(own))

    assert other != own
    assert good.status is CheckStatus.L6OK
    assert bad.status is CheckStatus.L6RSP
    assert "self-signed certificate" in bad.info


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        ("good", CheckStatus.L7OK),
        ("error_500", CheckStatus.L7STS),
        ("garbage", CheckStatus.L7RSP),
        ("close_after_request", CheckStatus.L7RSP),
        ("endless_head", CheckStatus.L7RSP),
        ("silent", CheckStatus.L7TOUT),
        ("drip", CheckStatus.L7TOUT),
    ],
)
async def test_https_check_of_a_member(behaviour: str, status: CheckStatus, tmp_path: Path) -> None:
    assert (await check_against(behaviour, HTTPS, member_context(make_certificate(tmp_path)))).status is status


@pytest.mark.asyncio
async def test_tls_without_a_common_version_fails(tmp_path: Path) -> None:
    context = member_context(make_certificate(tmp_path))
    target = replace(TCP, tls=CheckTls(versions=frozenset({"TLSv1.2"})))

    finding = await check_against("silent", target, context)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    refused = await check_against("silent", target, context)

    assert finding.status is CheckStatus.L6OK
    assert refused.status is CheckStatus.L6RSP


@pytest.mark.asyncio
async def test_https_check_speaks_http2_when_the_member_chooses_it(tmp_path: Path) -> None:
    config = pytest.importorskip("h2.config")
    connection = pytest.importorskip("h2.connection")
    events = pytest.importorskip("h2.events")

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = connection.H2Connection(config=config.H2Configuration(client_side=False))
        server.initiate_connection()
        writer.write(server.data_to_send())
        while data := await reader.read(4096):
            for event in server.receive_data(data):
                if isinstance(event, events.RequestReceived):
                    server.send_headers(event.stream_id, [(":status", "204"), ("server", "x")], end_stream=True)
            writer.write(server.data_to_send())

    tls = CheckTls(alpn=("h2", "http/1.1"))
    target = replace(HTTP, tls=tls, http=replace(HTTP.http, expected="204"))  # type: ignore[type-var]

    finding = await check_against(behave, target, member_context(make_certificate(tmp_path), "h2"))

    assert finding == (CheckStatus.L7OK, 204, "")


@pytest.mark.asyncio
async def test_address_that_is_none_fails_and_leaves_no_socket() -> None:
    assert (await check(replace(TCP, address="1:2:3"))).status is CheckStatus.L4CON


@pytest.mark.asyncio
async def test_missing_ca_file_says_nothing_about_the_member() -> None:
    finding = await check_against("silent", replace(TCP, tls=CheckTls(verify=True, ca_file="/nowhere.pem")))

    assert finding.status is CheckStatus.LOCAL


@pytest.mark.asyncio
async def test_out_of_descriptors_says_nothing_about_the_member() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with HealthMembers() as members:
        target = replace(HTTP, port=await members.start("good"))
        poller = Poller(asyncio.get_running_loop())
        used = max(map(int, os.listdir("/proc/self/fd")))
        plugs = [os.dup(0) for _number in range(used)]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
            finding = StreamProber(poller).begin(target, None)  # type: ignore[arg-type]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for plug in plugs:
                os.close(plug)
            poller.close()

    assert finding == (CheckStatus.LOCAL, None, "Too many open files")


@pytest.mark.asyncio
async def test_a_bad_check_leaves_nothing_for_the_next_one() -> None:
    async with HealthMembers() as members:
        port = await members.start("drip")
        target = replace(HTTP, port=port)
        statuses = []
        for behaviour in ("drip", "good", "silent", "good", "reset_after_request", "good", "garbage", "good"):
            members.become(port, behaviour)
            statuses.append((await check(target)).status.passed)

    assert statuses == [False, True] * 4


@pytest.mark.asyncio
async def test_answer_before_the_request_counts() -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await reader.read(-1)

    assert (await check_against(behave, HTTP)).status is CheckStatus.L7OK
