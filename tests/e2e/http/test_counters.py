"""What the board counts of HTTP exchanges: the same at listener, pool and member, and by the bytes that were sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.http_peers import OK, Client, Peer, PlayedMember, chunked, exchange, get, post, response
from tests.support.lb_file import lb_file, listener, member
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from amphorad.admin import Client as Admin


class Counted:
    """A listener with one member, and what the board says of the three."""

    def __init__(self, port: int, target: PlayedMember, admin: Admin) -> None:
        self.port, self.target, self.admin = port, target, admin

    def counts(self, name: str) -> list[int]:
        """Of the listener, its pool and the member."""
        status = self.admin.status().listeners[0]
        return [each.counts[name] for each in (status, status.pools[0], status.pools[0].members[0])]

    def current(self) -> list[int]:
        status = self.admin.status().listeners[0]
        return [each.counts.current for each in (status, status.pools[0], status.pools[0].members[0])]

    def wait(self, name: str, *wanted: int) -> None:
        """Until the three counters say this."""
        try:
            wait_until(lambda: self.counts(name) == [*wanted])
        except AssertionError:
            raise AssertionError(f"{name}: {self.counts(name)}, not {[*wanted]}") from None


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Counted]:
    port = free_port()
    target = PlayedMember()
    try:
        text = lb_file(listener("web", port, [member(target.port)], mode="http"))
        with Served(tmp_path, text) as served, served.ask() as admin:
            yield Counted(port, target, admin)
    finally:
        target.close()


@pytest.mark.parametrize(
    "request_sent",
    [get("/"), post(b"0123456789"), post(b"x" * 100_000), post(b"x" * 3_000_000),
     get("/", "Transfer-Encoding: chunked", method="POST") + chunked(b"x" * 1000, b"y" * 50_000)],
    ids=["no body", "short body", "body", "long body", "chunked body"],
)  # fmt: skip
def test_bytes_in_are_those_of_the_request_at_listener_pool_and_member(counted: Counted, request_sent: bytes) -> None:
    """Head and body as the client sent them, whatever the head becomes on its way."""
    with Client(counted.port) as client:
        client.send(request_sent)
        peer = counted.target.accept()
        peer.read_message()
        peer.send(OK)
        client.read_message()

        counted.wait("bytes_in", *[len(request_sent)] * 3)
        counted.wait("requests", 1, 1, 1)


def test_bytes_in_of_a_request_whose_body_comes_later_are_counted_once(counted: Counted) -> None:
    request_sent = post(b"x" * 30_000)
    with Client(counted.port) as client:
        client.send(request_sent[:500])
        peer = counted.target.accept()
        peer.read_head()
        client.send(request_sent[500:9_000], request_sent[9_000:])
        peer.read_exactly(30_000)
        peer.send(OK)
        client.read_message()

        counted.wait("bytes_in", *[len(request_sent)] * 3)


def test_bytes_out_are_those_of_the_response_at_listener_pool_and_member(counted: Counted) -> None:
    body = b"x" * 1_000_000
    with Client(counted.port) as client:
        answer = exchange(client, get("/"), counted.target.accept, response(body))

        counted.wait("bytes_out", *[len(answer.raw)] * 3)


def test_requests_on_one_connection_count_each_and_the_connections_once(counted: Counted) -> None:
    with Client(counted.port) as client:
        exchange(client, get("/"), counted.target.accept, OK)
        for _ in range(4):
            exchange(client, get("/"), lambda: counted.target.connections[0], OK)

        counted.wait("requests", 5, 5, 5)
        counted.wait("bytes_in", *[5 * len(get("/"))] * 3)
        assert counted.counts("connections")[0] == 1
        assert counted.counts("responses_2xx")[0] == 5


def test_pipelined_requests_count_their_bytes_once(counted: Counted) -> None:
    requests = [get(f"/{number}") for number in range(6)]
    with Client(counted.port) as client:
        client.send(b"".join(requests))
        peer = counted.target.accept()
        for _ in requests:
            peer.read_message()
            peer.send(OK)
            client.read_message()

        counted.wait("requests", 6, 6, 6)
        counted.wait("bytes_in", *[sum(map(len, requests))] * 3)


def test_request_that_no_member_got_counts_at_listener_and_pool_only(tmp_path: Path) -> None:
    port, nobody = free_port(), free_port()
    text = lb_file(listener("web", port, [member(nobody)], mode="http", connect_ms=100), retries=0)
    with Served(tmp_path, text) as served, served.ask() as admin, Client(port) as client:
        client.send(get("/"))
        assert client.read_message().status == 503

        seen = Counted(port, PlayedMember.__new__(PlayedMember), admin)
        seen.wait("requests", 1, 1, 0)
        seen.wait("bytes_in", len(get("/")), len(get("/")), 0)


def test_repeated_request_counts_twice_at_the_member_and_once_before_it(counted: Counted) -> None:
    """RFC 9112 section 9.3.1: a request that met a connection in the moment of its end is sent once more."""
    with Client(counted.port) as client:
        exchange(client, get("/"), counted.target.accept, OK)
        client.send(get("/again"))
        counted.target.connections[0].read_message()
        counted.target.connections[0].close()
        peer = counted.target.accept()
        peer.read_message()
        peer.send(OK)
        assert client.read_message().status == 200

        counted.wait("requests", 2, 2, 3)
        counted.wait("retries", 0, 1, 1)


def test_sessions_in_progress_are_counted_at_listener_pool_and_member(counted: Counted) -> None:
    """A client between two requests is one of the listener alone."""
    with Client(counted.port) as client:
        client.send(get("/"))
        peer = counted.target.accept()
        peer.read_message()
        wait_until(lambda: counted.current() == [1, 1, 1])
        peer.send(OK)
        client.read_message()
        wait_until(lambda: counted.current() == [1, 0, 0])
    wait_until(lambda: counted.current() == [0, 0, 0])


def test_exchange_that_the_client_abandons_is_counted_with_its_status(counted: Counted) -> None:
    with Client(counted.port) as client:
        client.send(get("/"))
        peer: Peer = counted.target.accept()
        peer.read_message()
        peer.send(response(b"x" * 100)[:-50])
        client.read_head()
        client.reset()
        peer.send(b"x" * 50)

        wait_until(lambda: counted.counts("client_aborts")[0] == 1)
        assert counted.counts("responses_2xx")[0] == 1
