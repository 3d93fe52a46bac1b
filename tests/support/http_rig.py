"""One proxy with one played member behind several HTTP listeners: amphorad, or the real HAProxy on the same file.

A test that takes `rig` runs on both, so that what it says of amphorad is also known to be so in HAProxy. One that takes
`amphorad_rig` says where amphorad is stricter, or has a policy of its own.

    listener    what is special about it
    web         timeouts that no test reaches
    forwarding  X-Forwarded-For, -Port and -Proto are inserted
    quick       timeouts of 0.4 s on both sides
    refused     its member refuses connections; a failed one is tried again after 0.1 s
    redispatch  two members that refuse, and the played one
    poolless    no default pool
    never       no `http-reuse`
"""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.http_peers import Client, Peer, PlayedMember
from tests.support.reference_haproxy import ReferenceHAProxy
from tests.support.served import Served, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["BOTH", "Rig", "amphorad_rig", "haproxy_rig", "rig", "run_rig"]

LISTENERS = ("web", "forwarding", "quick", "refused", "redispatch", "poolless", "never")
BOTH = ("amphorad", pytest.param("haproxy", marks=pytest.mark.haproxy))

_GLOBAL = """\
global
    maxconn 4000

defaults
    no log
    retries 3
    option redispatch
    option splice-request
    option splice-response
    option http-keep-alive
"""
_FRONTEND = """
frontend {name}
    maxconn 2000
    bind 127.0.0.1:{port}
    mode http
    {default_backend}timeout client {client_ms}
"""
_BACKEND = """
backend {name}-pool:{name}
    mode http
    {reuse}balance roundrobin
    {insertions}fullconn 2000
    option allbackups
    timeout connect {connect_ms}
    timeout server {member_ms}
"""
_INSERTIONS = """option forwardfor
    http-request set-header X-Forwarded-Port %[dst_port]
    http-request set-header X-Forwarded-Proto http
    """


def rig_text(ports: dict[str, int], member: int, refusing: list[int]) -> str:
    """The file. `refusing` are two ports that nobody listens on."""
    text = _GLOBAL
    for name, port in ports.items():
        quick = name == "quick"
        text += _FRONTEND.format(
            name=name,
            port=port,
            client_ms=400 if quick else 15000,
            default_backend="" if name == "poolless" else f"default_backend {name}-pool:{name}\n    ",
        )
        if name == "poolless":
            continue
        text += _BACKEND.format(
            name=name,
            reuse="" if name == "never" else "http-reuse safe\n    ",
            insertions=_INSERTIONS if name == "forwarding" else "",
            connect_ms=100 if name in ("refused", "redispatch") else 5000,
            member_ms=400 if quick else 15000,
        )
        members = {"refused": refusing[:1], "redispatch": [*refusing, member]}.get(name, [member])
        text += "".join(f"    server m{index} 127.0.0.1:{at} weight 1\n" for index, at in enumerate(members))
    return text


class Rig:
    """Ports by listener, the member, and which proxy it is."""

    def __init__(self, name: str, ports: dict[str, int], member: PlayedMember) -> None:
        self.name = name
        self.ports = ports
        self.member = member

    @property
    def is_amphorad(self) -> bool:
        return self.name == "amphorad"

    def client(self, listener: str = "web") -> Client:
        return Client(self.ports[listener])

    def accept(self) -> Peer:
        return self.member.accept()


@contextmanager
def run_rig(name: str, directory: Path, *options: str) -> Iterator[Rig]:
    """A proxy for as long as the context lasts. `options` are further ones of `amphorad serve`."""
    # Bound and not listening: connections are refused, and nobody else gets the port.
    refusing = [socket.socket() for _ in range(2)]
    for one in refusing:
        one.bind(("127.0.0.1", 0))
    member = PlayedMember()
    ports = {listener: free_port() for listener in LISTENERS}
    text = rig_text(ports, member.port, [one.getsockname()[1] for one in refusing])
    try:
        if name == "haproxy":
            with ReferenceHAProxy(directory, text):
                yield Rig(name, ports, member)
        else:
            with Served(directory, text, "--threads", "1", "--http-reuse", "safe", *options):
                yield Rig(name, ports, member)
    finally:
        member.close()
        for one in refusing:
            one.close()


@pytest.fixture(scope="session")
def _running_amphorad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with run_rig("amphorad", tmp_path_factory.mktemp("amphorad")) as running:
        yield running


@pytest.fixture(scope="session")
def _running_haproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with run_rig("haproxy", tmp_path_factory.mktemp("haproxy")) as running:
        yield running


@pytest.fixture
def amphorad_rig(_running_amphorad: Rig) -> Iterator[Rig]:
    """amphorad with `--http-reuse safe`."""
    yield _running_amphorad
    _running_amphorad.member.hang_up()


@pytest.fixture
def haproxy_rig(_running_haproxy: Rig) -> Iterator[Rig]:
    yield _running_haproxy
    _running_haproxy.member.hang_up()


@pytest.fixture(scope="session", params=BOTH)
def _running(request: pytest.FixtureRequest) -> Rig:
    """Of session scope as what it returns, so that the leak fixture sees it before a test begins."""
    found: Rig = request.getfixturevalue(f"_running_{request.param}")
    return found


@pytest.fixture
def rig(_running: Rig) -> Iterator[Rig]:
    """One after the other: amphorad with `--http-reuse safe`, and HAProxy."""
    yield _running
    _running.member.hang_up()
