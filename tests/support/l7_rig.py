"""One rendered load balancer behind amphorad and behind HAProxy, and what each answers to the same request.

Both read the same text but for the ports that they listen on. Members answer with the name of their pool.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.support import octavia_render as render
from tests.support.http_peers import Client
from tests.support.naming_members import NamingMembers
from tests.support.reference_haproxy import ReferenceHAProxy
from tests.support.served import Served, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["POOLS", "L7Rig", "render_with", "run_both"]

POOLS = ("default", "red", "blue")


def render_with(
    policies: Callable[[dict[str, Any]], list[list[Any]]], ports: list[int], member_ports: dict[str, int]
) -> str:
    """The text of one listener per port; `policies` gets the pools by name and returns each listener's policies."""
    pools = {
        name: render.make_pool("HTTP", id=name, members=[render.make_member("127.0.0.1", port)])
        for name, port in member_ports.items()
    }
    listeners = [
        render.make_listener("HTTP", port, default_pool=pools["default"], policies=wanted, connection_limit=40)
        for port, wanted in zip(ports, policies(pools), strict=True)
    ]
    return render.render_load_balancer(
        listeners, vip="127.0.0.1", connection_logging=False, default_connection_limit=40
    )


class L7Rig:
    """Ports of both proxies, in the order of the listeners."""

    def __init__(self, ports: dict[str, list[int]]) -> None:
        self.ports = ports

    def ask(self, proxy: str, listener: int, request: bytes) -> bytes:
        """The pool's name, or the whole answer when the proxy made it; "..." at its end: the connection stays open."""
        method = request.split(b" ")[0].decode()
        with Client(self.ports[proxy][listener]) as client:
            client.send(request)
            answer = client.read_message(method)
            if answer.status == 200:
                return answer.body
            return answer.raw + (b"..." if b"connection: close" not in answer.raw.lower() else b"")


@contextmanager
def run_both(directory: Path, count: int, policies: Callable[[dict[str, Any]], list[list[Any]]]) -> Iterator[L7Rig]:
    """amphorad and HAProxy with `count` listeners."""
    ports = [free_port() for _ in range(2 * count)]
    own, others = ports[:count], ports[count:]
    with NamingMembers(POOLS) as members:
        text = render_with(policies, own, members.ports)
        other_text = render_with(policies, others, members.ports)
        with ReferenceHAProxy(directory, other_text), Served(directory, text, "--threads", "1", "--http-reuse", "safe"):
            yield L7Rig({"amphorad": own, "haproxy": others})
