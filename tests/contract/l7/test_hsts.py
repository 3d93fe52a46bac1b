"""Strict-Transport-Security: what clients get of members' responses, byte for byte from HAProxy and from us (contract 4.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.http_peers import Client, PlayedMember
from tests.support.http_rig import BOTH
from tests.support.reference_haproxy import ReferenceHAProxy
from tests.support.served import Served, free_port
from tests.support.tls_rig import TlsRig, run_tls_rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.timeout(60), pytest.mark.may_leak]

VALUE = "max-age=31536000; includeSubDomains; preload;"
LINE = f"strict-transport-security: {VALUE}\r\n".encode()
HSTS = f'    http-response set-header Strict-Transport-Security "{VALUE}"\n'
RULES = """\
    acl d path -m beg /deny
    http-request deny if d
    acl u path -m beg /url
    redirect location http://x/ if u
"""
_TEXT = """\
global
    maxconn 100

defaults
    no log
    retries 3
    option redispatch

frontend web
    maxconn 100
{hsts}    bind 127.0.0.1:{port}
    mode http
{rules}    default_backend pool:web
    timeout client 5000

backend pool:web
    mode http
    balance roundrobin
    {persistence}fullconn 100
    option allbackups
    timeout connect 5000
    timeout server 5000
    server m1 127.0.0.1:{member} weight 1 cookie m1
"""
# the member's answer, and what the client gets
RESPONSES = {
    "plain": (
        b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 2\r\n" + LINE + b"\r\nok",
    ),
    "its own is replaced": (
        b"HTTP/1.1 200 OK\r\nstrict-transport-security: max-age=0\r\nContent-Length: 0\r\n"
        b"Strict-Transport-Security: max-age=1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n" + LINE + b"\r\n",
    ),
    "chunked": (
        b"HTTP/1.1 404 Gone\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 404 Gone\r\ntransfer-encoding: chunked\r\n" + LINE + b"\r\n1\r\na\r\n0\r\n\r\n",
    ),
    "no content": (b"HTTP/1.1 204 No\r\n\r\n", b"HTTP/1.1 204 No\r\n" + LINE + b"\r\n"),
    "not modified": (b"HTTP/1.1 304 Not\r\nETag: x\r\n\r\n", b"HTTP/1.1 304 Not\r\netag: x\r\n" + LINE + b"\r\n"),
    "a member's own error": (
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n" + LINE + b"\r\n",
    ),
    "after an interim one": (
        b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n" + LINE + b"\r\n",
    ),
}
UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"


class _Rig:
    def __init__(self, port: int, member: PlayedMember) -> None:
        self.port = port
        self.member = member

    def ask(self, request: bytes, response: bytes, wanted: bytes) -> bytes:
        with Client(self.port) as client:
            client.send(request)
            with self.member.accept() as peer:
                peer.read_message()
                peer.send(response)
                return client.read_exactly(len(wanted))


def _run(proxy: str, directory: Path, persistence: str = "") -> Iterator[_Rig]:
    member = PlayedMember()
    port = free_port()
    text = _TEXT.format(port=port, member=member.port, hsts=HSTS, rules=RULES, persistence=persistence)
    try:
        with ReferenceHAProxy(directory, text) if proxy == "haproxy" else Served(directory, text):
            yield _Rig(port, member)
    finally:
        member.close()


@pytest.fixture(scope="module", params=BOTH)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Rig]:
    yield from _run(request.param, tmp_path_factory.mktemp("hsts"))


@pytest.mark.parametrize("name", RESPONSES)
def test_hsts_is_in_every_final_response_of_a_member(rig: _Rig, name: str) -> None:
    response, wanted = RESPONSES[name]
    assert rig.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", response, wanted) == wanted


def test_hsts_is_in_the_answer_to_an_upgrade(rig: _Rig) -> None:
    with Client(rig.port) as client:
        client.send(UPGRADE)
        with rig.member.accept() as peer:
            peer.read_head()
            peer.send(SWITCHING)
            answer = client.read_head()
    assert answer.status == 101
    assert answer.get("strict-transport-security") == VALUE.encode()


@pytest.mark.parametrize(("path", "status"), [("/deny", 403), ("/url", 302)])
def test_hsts_is_not_in_answers_of_the_load_balancer(rig: _Rig, path: str, status: int) -> None:
    with Client(rig.port) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        answer = client.read_message()
    assert answer.status == status
    assert answer.get("strict-transport-security") is None


def test_hsts_is_not_in_the_answer_for_a_member_that_fails(rig: _Rig) -> None:
    with Client(rig.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        with rig.member.accept() as peer:
            peer.read_message()
            peer.send(b"nonsense\r\n\r\n")
            answer = client.read_message()
    assert answer.status == 502
    assert answer.get("strict-transport-security") is None


@pytest.mark.parametrize("proxy", BOTH)
def test_hsts_stands_before_the_cookie(proxy: str, tmp_path: Path) -> None:
    wanted = (
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n" + LINE + b"set-cookie: SRV=m1; path=/\r\nconnection: close\r\n\r\n"
    )
    for rig in _run(proxy, tmp_path, "cookie SRV insert indirect nocache\n    "):
        request = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        response = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        assert rig.ask(request, response, wanted) == wanted


@pytest.mark.parametrize("proxy", BOTH)
def test_hsts_is_there_over_tls(proxy: str, tmp_path: Path) -> None:
    rig = TlsRig(tmp_path)
    options = f"ssl crt-list {rig.write_list(rig.authority.issue('server'))}"
    with run_tls_rig(proxy, rig, options, frontend=HSTS), rig.connect() as connection:
        for size in (0, 1, 200_000):
            answer = rig.ask(connection, f"/size/{size}")
            assert answer.head.encode() + b"\r\n" == b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n" % size + LINE
            assert len(answer.body) == size
