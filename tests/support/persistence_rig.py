"""One rendered load balancer with a persistent pool, behind amphorad and behind HAProxy, and what each answers."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.support import octavia_render as render
from tests.support.http_peers import Client
from tests.support.reference_haproxy import ReferenceHAProxy
from tests.support.served import Served, free_port
from tests.support.telling_members import TellingMembers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Answer", "PersistenceRig", "ask", "persistent_text", "run_both"]

NAMES = ("m1", "m2", "m3")


class Answer(NamedTuple):
    """The member that answered ("" for the proxy itself), what it was sent, and the head of the answer."""

    member: str
    request: bytes
    head: bytes


def persistent_text(
    port: int,
    members: Mapping[str, int],
    persistence: str,
    *,
    protocol: str = "HTTP",
    cookie_name: str | None = None,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    **options: Any,
) -> str:
    """The text of one listener `l` with pool `p`. `changes` are fields of single members, such as weight=0."""
    changes = changes or {}
    pool = render.make_pool(
        protocol,
        id="p",
        persistence=persistence,
        cookie_name=cookie_name,
        members=[
            render.make_member("127.0.0.1", number, id=name, **changes.get(name, {}))
            for name, number in members.items()
        ],
    )
    listener = render.make_listener(protocol, port, id="l", default_pool=pool, connection_limit=200)
    options = {"connection_logging": False, "default_connection_limit": 200} | options
    return render.render_load_balancer([listener], vip="127.0.0.1", lb_id="lb", **options)


def ask(port: int, lines: bytes = b"", *, method: bytes = b"GET", pieces: Sequence[int] = ()) -> Answer:
    """One request on a connection of its own; `pieces` are places at which it is sent in parts."""
    request = method + b" / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n"
    with Client(port) as client:
        start = 0
        for end in sorted({place for place in pieces if 0 < place < len(request)}):
            client.send(request[start:end])
            start = end
        client.send(request[start:])
        answer = client.read_message(method.decode())
    head, _, seen = answer.raw.partition(b"\r\n\r\n")
    member = re.search(rb"(?i)x-member: (\S+)\r\n", head)
    if member is None:
        return Answer("", b"", head)
    head = re.sub(rb"content-length: \d+", b"content-length: N", head.replace(member[0], b""))
    return Answer(member[1].decode(), seen, head)


class PersistenceRig:
    def __init__(self, ports: dict[str, int], members: TellingMembers, served: Served) -> None:
        self.ports = ports
        self.members = members
        self.served = served


@contextmanager
def run_both(directory: Path, persistence: str, **options: Any) -> Iterator[PersistenceRig]:
    """amphorad and HAProxy on the same file but for the port."""
    ports = {"amphorad": free_port(), "haproxy": free_port()}
    with TellingMembers(NAMES) as members:
        texts = {name: persistent_text(port, members.ports, persistence, **options) for name, port in ports.items()}
        arguments = ("--threads", "2", "--http-reuse", "safe")
        with (
            ReferenceHAProxy(directory, texts["haproxy"]),
            Served(directory, texts["amphorad"], *arguments) as served,
        ):
            yield PersistenceRig(ports, members, served)
