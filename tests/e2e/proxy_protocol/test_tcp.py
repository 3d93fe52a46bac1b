"""PROXY headers on TCP listeners: first on every member connection, and in nobody's way."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.lb_file import lb_file, listener, member
from tests.support.proxy_headers import V1_AND_V2, RecordingMember, refusing_port, with_proxy
from tests.support.scripted_member import connect, receive_all
from tests.support.served import Served, free_port

if TYPE_CHECKING:
    from pathlib import Path


def serve(tmp_path: Path, port: int, *ports: int, word: str = "send-proxy-v2") -> Served:
    return Served(tmp_path, lb_file(listener("tcp", port, with_proxy([member(each) for each in ports], word))))


@V1_AND_V2
def test_header_tells_the_client_and_where_it_connected_to(tmp_path: Path, word: str) -> None:
    port = free_port()
    with RecordingMember(answer=b"") as target, serve(tmp_path, port, target.port, word=word), connect(port) as client:
        client.sendall(b"hello")
        visit = target.wait_visit(lambda visit: visit.data == b"hello")

        assert visit.header.startswith(
            b"PROXY TCP4 " if word == "send-proxy" else b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
        )
        assert visit.source == client.getsockname()
        assert visit.destination == ("127.0.0.1", port)


@V1_AND_V2
@pytest.mark.parametrize(
    ("vip", "target"), [("::1", "127.0.0.1"), ("127.0.0.1", "::1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1")]
)
def test_header_has_the_clients_family_not_the_members(tmp_path: Path, word: str, vip: str, target: str) -> None:
    """A wildcard bind is told as the address that the client really used."""
    address = {"0.0.0.0": "127.0.0.2", "::": "::1"}.get(vip, vip)
    port = free_port()
    with RecordingMember(answer=b"", address=target) as recording:
        members = with_proxy([member(recording.port, address=target)], word)
        text = lb_file(listener("tcp", 0, members, binds=[(vip, port)]))
        with Served(tmp_path, text), connect(port, address=address) as client:
            client.sendall(b"x")
            visit = recording.wait_visit(lambda visit: visit.data == b"x")

            assert visit.source == client.getsockname()[:2]
            assert visit.destination == (address, port)


@V1_AND_V2
def test_header_goes_out_before_the_client_says_anything(tmp_path: Path, word: str) -> None:
    """A protocol whose server speaks first works, and the server knows the client before it does."""
    port = free_port()
    with (
        RecordingMember(answer=b"", greeting=b"220 ready\r\n") as target,
        serve(tmp_path, port, target.port, word=word),
        connect(port) as client,
    ):
        assert client.recv(64) == b"220 ready\r\n"
        assert target.visits[0].source == client.getsockname()
        assert target.visits[0].data == b""


@pytest.mark.parametrize("data", [b"", b"abc"])
def test_header_then_the_clients_end_leaves_the_member_its_turn(tmp_path: Path, data: bytes) -> None:
    port = free_port()
    with (
        RecordingMember(answer=b"", greeting=b"hi") as target,
        serve(tmp_path, port, target.port),
        connect(port) as client,
    ):
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)

        assert receive_all(client) == b"hi"
        visit = target.wait_visit(lambda visit: visit.ended)
        assert (visit.source, visit.data) == (client.getsockname(), data)


def test_header_of_each_session_is_its_own(tmp_path: Path) -> None:
    port = free_port()
    with RecordingMember(answer=b"") as target, serve(tmp_path, port, target.port), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(port, source=f"127.0.0.{2 + number % 5}")) for number in range(40)]
        for number, client in enumerate(clients):
            client.sendall(b"<%d>" % number)

        for number, client in enumerate(clients):
            visit = target.wait_visit(lambda visit, number=number: visit.data == b"<%d>" % number)
            assert visit.source == client.getsockname()
        assert len(target.visits) == 40


def test_header_is_sent_to_the_member_that_a_retry_reaches(tmp_path: Path) -> None:
    port = free_port()
    with refusing_port() as refusing, refusing_port() as another, RecordingMember(answer=b"") as target:
        with serve(tmp_path, port, refusing, another, target.port):
            for number in range(4):
                with connect(port) as client:
                    client.sendall(b"<%d>" % number)
                    visit = target.wait_visit(lambda visit, number=number: visit.data == b"<%d>" % number)

                    assert visit.source == client.getsockname()


def test_long_upload_follows_its_header_unchanged(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    port = free_port()
    with RecordingMember(answer=b"") as target, serve(tmp_path, port, target.port), connect(port) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        visit = target.wait_visit(lambda visit: visit.ended)

        assert visit.data == data
        assert visit.source == client.getsockname()


def test_bytes_of_the_header_are_not_counted_as_the_clients(tmp_path: Path) -> None:
    port = free_port()
    with RecordingMember(answer=b"") as target, serve(tmp_path, port, target.port) as served, connect(port) as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        receive_all(client)
        target.wait_ended(1)
        with served.ask() as admin:
            assert admin.status().listeners[0].counts["bytes_in"] == 5
