"""What the traffic log says of policies: pool, member and termination letters, as HAProxy's line has them (contract 4.13)."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.http_peers import Client
from tests.support.naming_members import NamingMembers
from tests.support.reference_haproxy import ReferenceHAProxy
from tests.support.served import Served, free_port

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.haproxy, pytest.mark.timeout(60)]

# (request, what both lines must end in: frontend, backend, member, status, letters)
CASES = [
    (b"GET /deny?a=b HTTP/1.1\r\nHost: h\r\n\r\n", "f web web/<NOSRV> 403 PR"),
    (b"HEAD /url HTTP/1.1\r\nHost: h\r\n\r\n", "f web web/<NOSRV> 302 LR"),
    (b"POST /prefix?q HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", "f web web/<NOSRV> 308 LR"),
    (b"GET /blue HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "f web blue-pool:web/m1 200 --"),
    (b"GET / HTTP/1.0\r\n\r\n", "f web red-pool:web/m1 200 --"),
]
_TEXT = """\
global
    log {log} local0
    maxconn 100

defaults
    log global
    retries 3
    option redispatch

frontend web
    maxconn 100
    bind 127.0.0.1:{port}
    mode http
    acl d path -m beg /deny
    http-request deny if d
    acl u path -m beg /url
    redirect location http://x/ if u
    acl p path -m beg /prefix
    redirect code 308 prefix http://y if p
    acl b path -m beg /blue
    use_backend blue-pool:web if b
    default_backend red-pool:web
    timeout client 5000
    log-format f\\ %f\\ %b/%s\\ %ST\\ %ts\\ %{{+Q}}r

"""
_BACKEND = """\
backend {name}-pool:web
    mode http
    balance roundrobin
    fullconn 100
    option allbackups
    timeout connect 5000
    timeout server 5000
    server m1 127.0.0.1:{port} weight 1

"""


def test_lines_of_policies_are_those_of_haproxy(tmp_path: Path) -> None:
    lines: dict[str, list[str]] = {}
    with (
        NamingMembers(["red", "blue"]) as members,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log,
    ):
        log.bind(str(tmp_path / "log.sock"))
        log.settimeout(5)
        for proxy in ("haproxy", "amphorad"):
            port = free_port()
            path = str(tmp_path / "log.sock")
            text = _TEXT.format(log=f"unix@{path}" if proxy == "haproxy" else path, port=port)
            text += "".join(_BACKEND.format(name=name, port=port) for name, port in members.ports.items())
            running = ReferenceHAProxy(tmp_path, text) if proxy == "haproxy" else Served(tmp_path, text)
            with running:
                lines[proxy] = [_line(port, request, log) for request, _ending in CASES]

    assert lines["amphorad"] == lines["haproxy"]
    assert [line.split(" ", 5)[:5] for line in lines["amphorad"]] == [ending.split(" ") for _request, ending in CASES]


def _line(port: int, request: bytes, log: socket.socket) -> str:
    """The text of the line that this request leads to."""
    with Client(port) as client:
        client.send(request)
        client.read_message(request.split(b" ")[0].decode())
    while True:
        line = log.recv(65536).decode()
        found = re.search(r"f web .*", line)
        if found is not None and "<BADREQ>" not in line:  # HAProxy's fixture connects and says nothing
            return found[0].strip()
