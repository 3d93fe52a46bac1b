"""PROXY pools of the real renderer: members get the same bytes from amphorad as from HAProxy (Octavia contract 4.10.4).

One file with every kind of listener that may have a PROXY or PROXYV2 pool, on both address families. Ports of clients
differ between the two runs, so they are zeroed before the bytes are compared, and checked against the clients themselves.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.octavia_render import make_listener, make_member, make_pool, render_load_balancer, require_octavia
from tests.support.proxy_headers import RecordingMember, Visit, without_ports
from tests.support.reference_haproxy import ReferenceHAProxy, haproxy_program
from tests.support.scripted_member import connect, read_response
from tests.support.served import Served, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.haproxy, pytest.mark.timeout(90)]  # the renderer alone takes long to import
require_octavia()
if haproxy_program() is None:
    pytest.skip("the haproxy program is not installed", allow_module_level=True)

KINDS = [*itertools.product(("TCP", "HTTPS", "HTTP"), ("PROXY", "PROXYV2")), ("TCP", "HTTP")]
ADDRESSES = ("127.0.0.1", "::1")
SOURCES = {"127.0.0.1": "127.0.0.7", "::1": "::1"}
_numbers = itertools.count(1)


def free_port_of_both() -> int:
    """A port that is free on every address of ADDRESSES."""
    while True:
        port = free_port()
        with contextlib.suppress(OSError), socket.create_server(("::1", port), family=socket.AF_INET6):
            return port


class Setup:
    """Listeners by kind, each with its port, and the file that has them all."""

    def __init__(self, member: RecordingMember, plain: RecordingMember) -> None:
        self.member = member
        self.plain = plain
        self.ports = {kind: free_port_of_both() for kind in KINDS}
        listeners = []
        for (protocol, pool), port in self.ports.items():
            target = plain if pool == "HTTP" else member
            # two members at one address: each is a server of its own
            members = [make_member("127.0.0.1", target.port), make_member("127.0.0.1", target.port)]
            fields: dict[str, Any] = {"connection_limit": 500}  # HAProxy wants descriptors for all of them
            if pool == "HTTP":
                fields["insert_headers"] = {"X-Forwarded-For": "true"}
            listeners.append(make_listener(protocol, port, default_pool=make_pool(pool, members=members), **fields))
        self.text = render_load_balancer(
            listeners, vip="127.0.0.1", additional_vips=["::1"], haproxy_version=("2", "6", "12")
        )

    @contextlib.contextmanager
    def run(self, name: str, directory: Path, traffic_log: str = "") -> Iterator[None]:
        directory = directory / name
        directory.mkdir()
        if name == "haproxy":
            with ReferenceHAProxy(directory, self.text):
                yield
        else:
            with Served(directory, self.text, "--traffic-log", traffic_log):
                yield

    def talk(self, kind: tuple[str, str], address: str) -> tuple[list[Visit], tuple[str, int]]:
        """Three answered requests on one connection; returns what the members saw of it, and the client."""
        target = self.plain if kind[1] == "HTTP" else self.member
        token = b"GET /%d" % next(_numbers)
        with connect(self.ports[kind], address=address, source=SOURCES[address]) as client:
            for _request in range(3):
                client.sendall(token + b" HTTP/1.1\r\nhost: lb\r\n\r\n")
                assert read_response(client) == b"200 ok"
            end = client.getsockname()[:2]
        visits = [visit for visit in target.visits if token in visit.data]
        for visit in visits:
            visit.data = visit.data.replace(token, b"GET /")
        return visits, end


@pytest.fixture
def setup() -> Iterator[Setup]:
    with RecordingMember() as member, RecordingMember(has_header=False) as plain:
        yield Setup(member, plain)


def test_members_get_the_same_bytes_from_both(tmp_path: Path, setup: Setup) -> None:
    seen: dict[str, dict[tuple[tuple[str, str], str], list[tuple[bytes, bytes]]]] = {}
    connections = {}
    for name in ("haproxy", "amphorad"):
        seen[name] = {}
        with setup.run(name, tmp_path):
            for kind, address in itertools.product(KINDS, ADDRESSES):
                if kind == ("TCP", "HTTP"):
                    continue
                visits, client = setup.talk(kind, address)
                # by request: HAProxy now and then opens a third connection where the first one could be used again
                seen[name][kind, address] = sorted(
                    (without_ports(visit.header), request) for visit in visits for request in requests_of(visit)
                )
                connections[name, kind] = len(visits)
                for visit in visits:
                    assert (visit.source, visit.destination) == (client, (address, setup.ports[kind])), name

    assert seen["amphorad"] == seen["haproxy"]
    for (name, kind), count in connections.items():
        if kind[0] != "HTTP":
            assert count == 1, (name, kind)
        elif name == "amphorad":
            assert count == 2, (name, kind)


def requests_of(visit: Visit) -> list[bytes]:
    return re.findall(rb"GET /.*?\r\n\r\n", visit.data, re.DOTALL)


def test_http_pool_on_a_tcp_listener_gets_the_same_requests_from_both(tmp_path: Path, setup: Setup) -> None:
    seen = {}
    for name in ("haproxy", "amphorad"):
        with setup.run(name, tmp_path):
            visits, _client = setup.talk(("TCP", "HTTP"), "127.0.0.1")
            seen[name] = sorted(visit.data for visit in visits)

    assert b"x-forwarded-for: 127.0.0.7" in seen["haproxy"][0]
    assert b"".join(seen["amphorad"]).count(b"x-forwarded-for: 127.0.0.7") == 3
    assert seen["amphorad"] == seen["haproxy"]


def test_http_pool_on_a_tcp_listener_logs_each_request_in_the_format_of_a_tcp_listener(
    tmp_path: Path, setup: Setup
) -> None:
    """No request line and no status, which HAProxy has no words for there; pool, member and end of each request."""
    log = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(10)
        listening.bind(str(log))
        with setup.run("amphorad", tmp_path, str(log)):
            setup.talk(("TCP", "HTTP"), "127.0.0.1")
            lines = [listening.recv(4096).decode() for _request in range(3)]

    for line in lines:
        assert " 127.0.0.7 " in line
        assert re.search(r" - - \d+ \d+ - \S+ [0-9a-f-]{36}:[0-9a-f-]{36} [0-9a-f-]{36} \d+ ----\n", line)
