"""Rate limits, inserted headers and cookie attributes as clients and members see them."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.http_peers import Client, PlayedMember, get, response
from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import ScriptedMember, echo, echoes, http_member
from tests.support.served import Served, free_port
from tests.support.tls_rig import EchoMember, TlsRig, tls_text

if TYPE_CHECKING:
    from pathlib import Path

OWN = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
COOKIE = "    cookie SRV insert indirect nocache\n"


def statuses(port: int, count: int, *, source: str = "127.0.0.1") -> list[int]:
    """Of requests on one connection."""
    found = []
    with socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0)) as client:
        stream = client.makefile("rb")
        for _request in range(count):
            client.sendall(get("/"))
            head = b"".join(iter(stream.readline, b"\r\n"))
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length is not None
            stream.read(int(length[1]))
            found.append(int(head[9:12]))
            if found[-1] == 429:
                assert b"retry-after: 1\r\n" in head
    return found


@pytest.mark.parametrize("threads", ["1", "2"])
def test_requests_beyond_a_listeners_rate_are_answered_429(tmp_path: Path, threads: str) -> None:
    port, other = free_port(), free_port()
    options = ("--rate-limit", "0.01", "--rate-limit-burst", "5", "--threads", threads)
    with ScriptedMember(http_member()) as target:
        lines = [member(target.port)]
        text = lb_file(listener("web", port, lines, mode="http"), listener("other", other, lines, mode="http"))
        with Served(tmp_path, text, *options) as served:
            found = statuses(port, 4) + statuses(port, 4, source="127.0.0.2")
            elsewhere = statuses(other, 5)
            (web, _other) = served.status()["listeners"]

    assert found == [200] * 5 + [429] * 3
    assert elsewhere == [200] * 5  # each listener has its own
    assert web["counts"]["counters"]["denied"] == 3


def test_sources_are_limited_each_for_itself(tmp_path: Path) -> None:
    port = free_port()
    options = ("--rate-limit-source", "0.01", "--rate-limit-burst", "2", "--threads", "2")
    with ScriptedMember(http_member()) as target:
        text = lb_file(listener("web", port, [member(target.port)], mode="http"))
        with Served(tmp_path, text, *options):
            for number in range(2, 12):
                assert statuses(port, 3, source=f"127.0.0.{number}") == [200, 200, 429]
            assert statuses(port, 1, source="127.0.0.2") == [429]


def test_what_one_source_may_not_do_is_left_for_the_others(tmp_path: Path) -> None:
    port = free_port()
    options = ("--rate-limit-source", "0.01", "--rate-limit", "0.01", "--rate-limit-burst", "3", "--threads", "1")
    with ScriptedMember(http_member()) as target:
        text = lb_file(listener("web", port, [member(target.port)], mode="http"))
        with Served(tmp_path, text, *options):
            assert statuses(port, 6, source="127.0.0.2") == [200] * 3 + [429] * 3
            assert statuses(port, 1, source="127.0.0.3") == [429]  # of all together there were three


def test_tcp_connections_beyond_the_rate_are_closed(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as target:
        text = lb_file(listener("tcp", port, [member(target.port)]))
        with Served(tmp_path, text, "--rate-limit", "0.01", "--rate-limit-burst", "3"):
            served = 0
            for _connection in range(6):
                with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                    try:
                        served += echoes(client)
                    except OSError:
                        pass
            assert served == 3
            assert target.sessions == 3


def test_rate_comes_back_with_time(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as target:
        text = lb_file(listener("web", port, [member(target.port)], mode="http"))
        with Served(tmp_path, text, "--rate-limit", "5", "--rate-limit-burst", "1", "--threads", "1"):
            found: list[int] = []
            while found.count(200) < 4 and len(found) < 100_000:
                found += statuses(port, 1)

    assert found.count(200) == 4
    assert 429 in found


def test_headers_for_members(tmp_path: Path) -> None:
    port = free_port()
    target = PlayedMember()
    options = ("--x-real-ip", "--x-forwarded-host", "--traceparent")
    ids = set()
    try:
        text = lb_file(listener("web", port, [member(target.port)], mode="http"))
        with Served(tmp_path, text, *options), Client(port) as client:
            for lines in (["X-Real-IP: 6.6.6.6", "X-Forwarded-Host: evil"], [f"traceparent: {OWN.decode()}"]):
                client.send(get("/", *lines))
                peer = target.accept()
                asked = peer.read_head()
                peer.send(response(b"ok"))
                peer.close()
                assert client.read_message().status == 200
                assert asked.get_all("x-real-ip") == [b"127.0.0.1"]
                assert asked.get_all("x-forwarded-host") == [asked.get("host")]
                (trace,) = asked.get_all("traceparent")
                ids.add(trace)
    finally:
        target.close()

    assert OWN in ids
    assert all(re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", each) for each in ids)
    assert len(ids) == 2


@pytest.mark.parametrize("given", [OWN, b"01" + OWN[2:] + b"-more", b"cc" + OWN[2:]])
def test_trace_that_can_be_read_goes_on(tmp_path: Path, given: bytes) -> None:
    (trace,), state = traced(tmp_path, [given])

    assert trace == given
    assert state == [b"a=b"]


@pytest.mark.parametrize(
    "given",
    [
        [OWN + b"-more"],
        [OWN[:-1]],
        [OWN.upper()],
        [b"ff" + OWN[2:]],
        [b"00-" + b"0" * 32 + OWN[35:]],
        [OWN[:36] + b"0" * 16 + OWN[52:]],
        [b"x"],
        [OWN, OWN],
    ],
)
def test_trace_that_cannot_be_read_is_replaced_with_its_state(tmp_path: Path, given: list[bytes]) -> None:
    """W3C Trace Context section 3.3."""
    (trace,), state = traced(tmp_path, given)

    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-01", trace)
    assert trace[3:35] != OWN[3:35]
    assert state == []


def traced(directory: Path, given: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """What a member gets of a trace."""
    port = free_port()
    target = PlayedMember()
    try:
        text = lb_file(listener("web", port, [member(target.port)], mode="http"))
        with Served(directory, text, "--traceparent"), Client(port) as client:
            client.send(get("/", *(f"TraceParent: {each.decode()}" for each in given), "tracestate: a=b"))
            peer = target.accept()
            asked = peer.read_head()
            peer.send(response(b"ok"))
            peer.close()
            assert client.read_message().status == 200
            return asked.get_all("traceparent"), asked.get_all("tracestate")
    finally:
        target.close()


@pytest.mark.parametrize(
    ("options", "plain", "tls"),
    [
        ([], b"path=/", b"path=/"),
        (["--secure-cookies"], b"path=/", b"path=/; Secure"),
        (
            ["--secure-cookies", "--http-only-cookies", "--same-site-cookies", "Strict"],
            b"path=/; HttpOnly; SameSite=Strict",
            b"path=/; Secure; HttpOnly; SameSite=Strict",
        ),
    ],
)
def test_attributes_of_the_cookie(tmp_path: Path, options: list[str], plain: bytes, tls: bytes) -> None:
    rig, port, target = TlsRig(tmp_path), free_port(), EchoMember()
    bind = f"ssl crt-list {rig.write_list(rig.authority.issue('lb.example'))}"
    text = tls_text(rig.port, target.port, bind, backend=COOKIE)
    text = text.replace("weight 1\n", "weight 1 cookie m1\n")
    bare = text.replace("    redirect scheme https if !{ ssl_fc }\n", "").replace(f"{rig.port} {bind}", str(port))
    try:
        with Served(tmp_path, bare, *options), Client(port) as client:
            client.send(get("/"))
            cookies = [client.read_message().get("set-cookie")]
        with Served(tmp_path, text, *options), rig.connect() as secure:
            found = re.search(r"(?i)set-cookie: (.*?)(\r|$)", rig.ask(secure).head)
            assert found is not None
            cookies.append(found[1].encode())
    finally:
        target.close()

    assert cookies == [b"SRV=m1; " + plain, b"SRV=m1; " + tls]
