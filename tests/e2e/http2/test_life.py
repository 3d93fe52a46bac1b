"""HTTP/2 connections over an apply, a drain and an end; policies, persistence, certificates and the traffic log by stream."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.http2_client import Http2Client
from tests.support.http_peers import OK, PlayedMember, response
from tests.support.http_rig import BOTH
from tests.support.reference_haproxy import ReferenceHAProxy
from tests.support.served import Served, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


def _text(port: int, member: int, *, top: str = "", frontend: str = "", backend: str = "", server: str = "") -> str:
    return f"""\
global
{top}    maxconn 4000

defaults
    {"log global" if top else "no log"}
    retries 3
    option redispatch
    option http-keep-alive

frontend web
    maxconn 2000
{frontend}    bind 127.0.0.1:{port}
    mode http
    default_backend pool:web
    timeout client 15000

backend pool:web
    mode http
    http-reuse safe
    balance roundrobin
{backend}    fullconn 2000
    option allbackups
    timeout connect 5000
    timeout server 15000
    server m1 127.0.0.1:{member} weight 1{server}
"""


@pytest.fixture
def member() -> Iterator[PlayedMember]:
    played = PlayedMember()
    yield played
    played.close()


def test_a_removed_listener_finishes_its_streams_and_says_goaway(tmp_path: Path, member: PlayedMember) -> None:
    port, other = free_port(), free_port()
    with Served(tmp_path, _text(port, member.port)) as served, Http2Client(port) as client:
        stream = client.ask("GET", "/")
        peer = member.accept()
        peer.read_message()
        assert served.apply(_text(other, member.port).replace("frontend web", "frontend new")).returncode == 0
        client.wait(lambda: client.goaway is not None)
        assert client.goaway == 0
        assert client.last_stream == stream
        peer.send(OK)
        assert client.answer(stream).body == b"hello"
        assert client.wait_end() == 0


def test_an_idle_connection_of_a_removed_listener_ends(tmp_path: Path, member: PlayedMember) -> None:
    port, other = free_port(), free_port()
    with Served(tmp_path, _text(port, member.port)) as served, Http2Client(port) as client:
        client.wait(lambda: bool(client.settings))
        assert served.apply(_text(other, member.port).replace("frontend web", "frontend new")).returncode == 0
        assert client.wait_end() == 0


def test_at_the_end_of_the_process_streams_are_finished(tmp_path: Path, member: PlayedMember) -> None:
    port = free_port()
    with Served(tmp_path, _text(port, member.port), "--grace", "20") as served, Http2Client(port) as client:
        stream = client.ask("GET", "/")
        peer = member.accept()
        peer.read_message()
        served.process.send_signal(signal.SIGTERM)
        client.wait(lambda: client.goaway is not None)
        peer.send(OK)
        assert client.answer(stream).body == b"hello"
        assert client.wait_end() == 0


def test_a_stream_takes_the_new_configuration(tmp_path: Path, member: PlayedMember) -> None:
    port = free_port()
    second = PlayedMember()
    try:
        with Served(tmp_path, _text(port, member.port)) as served, Http2Client(port) as client:
            first = client.ask("GET", "/1")
            peer = member.accept()
            peer.read_message()
            assert served.apply(_text(port, second.port)).returncode == 0
            following = client.ask("GET", "/2")
            other = second.accept()
            assert other.read_message().target == b"/2"
            other.send(OK)
            assert client.answer(following).status == 200
            peer.send(OK)
            assert client.answer(first).status == 200
            assert client.goaway is None
    finally:
        second.close()


@pytest.mark.parametrize("proxy", BOTH)
def test_policies_and_cookies_work_by_stream(tmp_path: Path, member: PlayedMember, proxy: str) -> None:
    port = free_port()
    frontend = """\
    acl 1_1 path -m beg /forbidden
    http-request deny if 1_1
    acl 2_1 hdr(host) -m str moved.example
    redirect code 302 location https://new.example/ if 2_1
"""
    text = _text(
        port, member.port, frontend=frontend, backend="    cookie SRV insert indirect nocache\n", server=" cookie m1"
    )
    with (
        ReferenceHAProxy(tmp_path, text) if proxy == "haproxy" else Served(tmp_path, text),
        Http2Client(port) as client,
    ):
        assert client.answer(client.ask("GET", "/forbidden/x")).status == 403
        client.authority = "moved.example"
        moved = client.answer(client.ask("GET", "/"))
        assert (moved.status, moved.get("location")) == (302, b"https://new.example/")
        client.authority = "test"
        stream = client.ask("GET", "/")
        peer = member.accept()
        peer.read_message()
        peer.send(response(b"x"))
        assert client.answer(stream).get("set-cookie") == b"SRV=m1; path=/"
        stream = client.ask("GET", "/", [("cookie", "a=b"), ("cookie", "SRV=m1"), ("cookie", "c=d")])
        request = peer.read_message()
        assert request.get("cookie") == b"a=b; c=d"
        peer.send(OK)
        assert client.answer(stream).get("set-cookie") is None


@pytest.mark.parametrize("proxy", BOTH)
def test_the_traffic_log_tells_the_version(tmp_path: Path, member: PlayedMember, proxy: str) -> None:
    port = free_port()
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(str(tmp_path / "traffic"))
    log.settimeout(10)
    frontend = "    log-format %f|%s|%ST|%ts|%HM|%HV|%HU|%HP|%{+Q}r\n"
    text = _text(port, member.port, top=f"    log {tmp_path}/traffic local0\n", frontend=frontend)
    try:
        with ReferenceHAProxy(tmp_path, text) if proxy == "haproxy" else Served(tmp_path, text):
            with Http2Client(port) as client:
                client.authority = "some.example:81"
                stream = client.ask("POST", "/a/b?c=d", ended=True)
                peer = member.accept()
                peer.read_message()
                peer.send(OK)
                assert client.answer(stream).status == 200
                expected = "web|m1|200|--|POST|HTTP/2.0|http://some.example:81/a/b?c=d|"
                line = log.recv(65536).decode()
                while "Proxy" in line or ("server" in line.lower() and "web|" not in line):
                    line = log.recv(65536).decode()
                assert expected in line
                assert line.rstrip().endswith('"POST http://some.example:81/a/b?c=d HTTP/2.0"')
    finally:
        log.close()
