"""How the traffic log says that an exchange with an HTTP/2 member ended, on amphorad and on HAProxy (configuration manual 8.5)."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Authority
from tests.support.http2_member import RESET, PlayedHttp2Member
from tests.support.http2_member_rig import ALPN, CANCEL, NO_ERROR, PROTOCOL_ERROR, REFUSED, proxies
from tests.support.http_peers import Client, get
from tests.support.served import free_port
from tests.support.tls_members import member_context, pool_text, run_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.http2_member import Asked, Http2Peer

pytestmark = [pytest.mark.timeout(60)]

SERVER_MS = 400
UPLOAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"
CONTENT = [("content-length", "10")]


@dataclass
class Exchange:
    """A request that has reached the member, with the first half of its response if there is to be one."""

    client: Client
    peer: Http2Peer
    asked: Asked

    @property
    def stream(self) -> int:
        return self.asked.stream

    def reset_by_client(self) -> None:
        self.client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.client.socket.close()


class Log:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(10)

    def next_exchange(self) -> str:
        """Member, status and termination of the next exchange that has reached a member."""
        while True:
            words = self.socket.recv(65536).decode().split()
            if "end" in words:
                member, *facts, _bytes = words[words.index("end") + 1 :]
                if not member.endswith("<NOSRV>"):
                    return " ".join([member, *facts])


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    found = Log(tmp_path / "log.sock")
    with found.socket:
        yield found


def _end(
    proxy: str, directory: Path, log: Log, act: Callable[[Exchange], object], request: bytes, begun: bool
) -> tuple[str, bytes]:
    """What the log and the client get to see of an exchange after `act`."""
    port = free_port()
    with PlayedHttp2Member(member_context(Authority().issue("m"), directory)) as member:
        target = f"unix@{log.path}" if proxy == "haproxy" else str(log.path)
        server = f"127.0.0.1:{member.port} weight 1 {ALPN}"
        text = pool_text(port, [server], server_ms=SERVER_MS, retries=0, log=target)
        # with the bytes in it HAProxy writes the line at the end of the exchange, not at its beginning
        text = text.replace(r"log-format f\ %b/%s\ %ST\ %tsc", r"log-format end\ %b/%s\ %ST\ %tsc\ %B")
        with run_pool(proxy, directory, text, "--threads", "1"), Client(port) as client:
            client.send(request)
            peer = member.accept()
            exchange = Exchange(client, peer, peer.wait_request(ended=False))
            if begun:
                peer.headers(exchange.stream, 200, CONTENT)
                peer.data(exchange.stream, b"12345")
                time.sleep(0.1)
            act(exchange)
            line = log.next_exchange()
            received = b""
            if client.socket.fileno() >= 0:
                client.socket.settimeout(0.5)
                try:
                    received = client.socket.recv(65536)
                except TimeoutError:
                    pass
    return line, received[9:12]


def _short(exchange: Exchange) -> None:
    exchange.peer.headers(exchange.stream, 200, CONTENT)
    exchange.peer.data(exchange.stream, b"12345", ended=True)


def _go_away(exchange: Exchange) -> None:
    exchange.peer.say_goaway(0)
    exchange.peer.close()


@proxies
@pytest.mark.parametrize(
    ("act", "before", "within"),
    [
        pytest.param(lambda _on: None, "504 sH--", "200 sD--", id="silence"),
        pytest.param(lambda on: on.peer.reset(on.stream, PROTOCOL_ERROR), "502 SH--", "200 SD--", id="reset"),
        pytest.param(lambda on: on.peer.reset(on.stream, CANCEL), "502 SH--", "200 SD--", id="cancel"),
        pytest.param(lambda on: on.peer.reset(on.stream, NO_ERROR), "502 SH--", "200 SD--", id="no error"),
        pytest.param(lambda on: on.peer.reset(on.stream, REFUSED), "502 SH--", "200 SD--", id="refused"),
        pytest.param(lambda on: on.peer.abort(), "502 SH--", "200 SD--", id="connection reset"),
        pytest.param(lambda on: on.peer.close(), "502 SH--", "200 SD--", id="connection closed"),
        pytest.param(_go_away, "502 SH--", "200 SD--", id="goaway"),
        pytest.param(lambda on: on.peer.raw(b"\xff" * 64), "502 SH--", "200 SD--", id="no frames"),
        pytest.param(lambda on: on.client.socket.close(), "504 sH--", "200 sD--", id="client closes"),
        pytest.param(Exchange.reset_by_client, "504 sH--", "200 sD--", id="client resets"),
    ],
)
@pytest.mark.parametrize("begun", [False, True], ids=["before the response", "within the response"])
def test_both_say_the_same_of_an_end_in_the_middle(
    proxy: str, tmp_path: Path, log: Log, act: Callable[[Exchange], object], before: str, within: str, begun: bool
) -> None:
    line, _received = _end(proxy, tmp_path, log, act, get("/"), begun)

    assert line == f"pool:web/m1 {within if begun else before}"


@proxies
@pytest.mark.parametrize(
    ("act", "wanted"),
    [
        pytest.param(lambda on: on.peer.respond(on.stream, 200, body=b"hello"), "200 ----", id="whole"),
        pytest.param(lambda on: on.peer.headers(on.stream, 204, ended=True), "204 ----", id="no content"),
        pytest.param(
            lambda on: on.peer.headers_raw(on.stream, [(b":status", b"200"), (b"Bad Name", b"x")]),
            "502 PH--",
            id="bad name",
        ),
        pytest.param(lambda on: on.peer.headers_raw(on.stream, [(b"x", b"1")], ended=True), "502 PH--", id="no status"),
        pytest.param(_short, "200 SD--", id="shorter than announced"),
    ],
)
def test_both_say_the_same_of_a_response(
    proxy: str, tmp_path: Path, log: Log, act: Callable[[Exchange], object], wanted: str
) -> None:
    line, received = _end(proxy, tmp_path, log, act, get("/"), False)

    assert line == f"pool:web/m1 {wanted}"
    assert received == wanted[:3].encode()


@proxies
def test_both_say_the_same_of_a_client_that_leaves_in_its_request(proxy: str, tmp_path: Path, log: Log) -> None:
    line, _received = _end(proxy, tmp_path, log, lambda on: on.client.socket.close(), UPLOAD, False)

    assert line == "pool:web/m1 -1 CD--"


@proxies
def test_a_member_that_resets_within_the_request_is_answered_for_where_haproxy_says_nothing(
    proxy: str, tmp_path: Path, log: Log
) -> None:
    line, received = _end(proxy, tmp_path, log, lambda on: on.peer.reset(on.stream, CANCEL), UPLOAD, False)

    assert (line, received) == (
        ("pool:web/m1 502 SH--", b"502") if proxy == "amphorad" else ("pool:web/m1 -1 SD--", b"")
    )
