"""Members that are told who the client is: they read the PROXY header first, with a decoder that is not ours.

    with RecordingMember() as member:
        ...
        visit = member.wait_visit(lambda visit: b"token" in visit.data)
        assert visit.source == client.getsockname()[:2]

`answer` is sent after each HTTP request head; `greeting` right after the header, before any data.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from proxyprotocol.detect import ProxyProtocolDetect

from tests.support.scripted_member import ScriptedMember

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["V1_AND_V2", "RecordingMember", "Visit", "refusing_port", "with_proxy", "without_ports"]

WAIT_S = 10.0
_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1_AND_V2 = pytest.mark.parametrize("word", ["send-proxy", "send-proxy-v2"])
HTTP_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def with_proxy(lines: list[str], word: str = "send-proxy-v2") -> list[str]:
    """`server` lines with that option."""
    return [f"{line.rstrip()} {word}\n" for line in lines]


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else gets meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@dataclass
class Visit:
    """One connection as the member saw it."""

    header: bytes = b""
    data: bytes = b""
    ended: bool = False
    peer: tuple[str, int] = ("", 0)
    requests: int = field(default=0)

    @property
    def source(self) -> tuple[str, int]:
        """The client, as the header tells it."""
        address, port = ProxyProtocolDetect().unpack(self.header).source  # type: ignore[misc]
        return str(address), port

    @property
    def destination(self) -> tuple[str, int]:
        address, port = ProxyProtocolDetect().unpack(self.header).dest  # type: ignore[misc]
        return str(address), port


def read_header(connection: socket.socket) -> bytes:
    """A header of either version, and not a byte more; what there was, if it is none."""
    head = _exactly(connection, 12)
    if head == _V2_SIGNATURE:
        head += _exactly(connection, 4)
        return head + _exactly(connection, int.from_bytes(head[14:16], "big"))
    if head.startswith(b"PROXY "):
        while not head.endswith(b"\r\n"):
            head += _exactly(connection, 1)
    return head


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := connection.recv(count - len(data))):
        data += more
    return data


class RecordingMember(ScriptedMember):
    """Records every connection.

    Args:
        has_header: whether a PROXY header begins each connection.
        end_of_head: what ends a request head; something longer than the empty line where a header may not be taken off.
        limit: HTTP requests on one connection before the member closes it; 0 for any number.
    """

    def __init__(
        self,
        *,
        has_header: bool = True,
        answer: bytes = HTTP_ANSWER,
        greeting: bytes = b"",
        end_of_head: bytes = b"\r\n\r\n",
        limit: int = 0,
        address: str = "127.0.0.1",
    ) -> None:
        super().__init__(self._serve, address=address)
        self._has_header = has_header
        self._answer = answer
        self._greeting = greeting
        self._end_of_head = end_of_head
        self._limit = limit
        self._news = threading.Condition()
        self.visits: list[Visit] = []

    def _serve(self, connection: socket.socket) -> None:
        visit = Visit(peer=connection.getpeername()[:2])
        with self._news:
            self.visits.append(visit)
        try:
            if self._has_header:
                visit.header = read_header(connection)
            self._notify()
            connection.sendall(self._greeting)
            answered = 0
            while data := connection.recv(65536):
                visit.data += data
                visit.requests = visit.data.count(self._end_of_head)
                self._notify()
                while self._answer and answered < visit.requests:
                    connection.sendall(self._answer)
                    answered += 1
                if self._limit and answered >= self._limit:
                    return
        finally:
            visit.ended = True
            self._notify()

    def _notify(self) -> None:
        with self._news:
            self._news.notify_all()

    def wait_visit(self, fact: Callable[[Visit], bool]) -> Visit:
        """The first connection of which that is true."""
        found: list[Visit] = []

        def look() -> bool:
            found[:] = [visit for visit in self.visits if fact(visit)]
            return bool(found)

        with self._news:
            assert self._news.wait_for(look, WAIT_S), self.visits
        return found[0]


def without_ports(header: bytes) -> bytes:
    """The header with zeros for its two ports, which differ between two runs."""
    if header.startswith(b"PROXY "):
        return re.sub(rb" \d+ \d+\r\n", b" 0 0\r\n", header)
    at = len(header) - 4
    return header[:at] + bytes(4)
