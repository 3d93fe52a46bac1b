"""`timeout client` and `timeout server` count the inactivity of the peer that has to do something, and of nobody else.

Pauses are the behaviour under test here; the limits leave a factor of two or so for a loaded machine.
"""

from __future__ import annotations

import select
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.http_peers import Client, Peer, PlayedMember, get, post, response
from tests.support.lb_file import lb_file, listener, member
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.http_rig import Rig

SLACK_S = 3.0
ENDLESS = 1_000_000_000  # bytes announced; never sent
JAM_BYTES = 100_000_000  # the buffers on the way hold less


def pause(seconds: float) -> None:
    """The inactivity that is tested."""
    select.select([], [], [], seconds)


@contextmanager
def proxied(directory: Path, **timeouts: int) -> Iterator[tuple[Client, PlayedMember, Served]]:
    """A client of a listener with these timeouts (`client_ms`, `server_ms`, `connect_ms`)."""
    port = free_port()
    target = PlayedMember()
    try:
        text = lb_file(listener("web", port, [member(target.port)], mode="http", **timeouts))
        with Served(directory, text, "--threads", "1") as served, Client(port) as client:
            yield client, target, served
    finally:
        target.close()


def send_until_jammed(peer: Peer, quiet_s: float = 0.1) -> int:
    """Sends until nothing has moved for a moment; returns how much that was."""
    sent = 0
    while select.select([], [peer.socket], [], quiet_s)[1]:
        sent += peer.socket.send(bytes(65536), socket.MSG_DONTWAIT)
        assert sent < JAM_BYTES, "nothing stops it"
    return sent


# ---- the client is slow -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_client_that_jams_twice_has_its_whole_time_again(tmp_path: Path, coding: str) -> None:
    """The second jam comes when the deadline of the first one is near, and lasts beyond that."""
    with proxied(tmp_path, client_ms=2000) as (client, target, _served):
        client.send(get("/"))
        peer = target.accept()
        if coding == "length":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % ENDLESS)
            client.read_head()
        else:
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % ENDLESS)
            client.read_head()
            client.read_until(b"\r\n")

        client.read_exactly(send_until_jammed(peer))
        freed = time.monotonic()
        while time.monotonic() - freed < 1.3:  # an easy flow meanwhile
            peer.send(b"x")
            client.read_exactly(1)
            pause(0.05)
        sent = send_until_jammed(peer)
        pause(max(0.0, freed + 2.3 - time.monotonic()))
        client.read_exactly(sent)

        peer.send(b"x")
        assert client.read_exactly(1) == b"x"


def test_client_that_stays_jammed_is_cut_by_timeout_client(tmp_path: Path) -> None:
    with proxied(tmp_path, client_ms=500) as (client, target, served), served.ask() as admin:
        client.send(get("/"))
        peer = target.accept()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % ENDLESS)
        began = time.monotonic()
        sent = send_until_jammed(peer)

        wait_until(lambda: admin.status().listeners[0].counts.current == 0)

        assert time.monotonic() - began >= 0.5
        client.read_head()
        assert len(client.read_to_end()) < sent


def test_head_request_is_not_remembered_by_a_later_408(rig: Rig) -> None:
    """The answer to half a head after a HEAD has its body: nobody knows what the new request would have been."""
    with rig.client("quick") as client:
        client.send(get("/", method="HEAD"))
        peer = rig.accept()
        peer.read_message()
        peer.send(response(b"", status="200 OK").replace(b": 0", b": 5"))
        client.read_message("HEAD")
        client.send(b"GET /half")

        answer = client.read_message()

        assert answer.status == 408
        assert answer.body
        assert client.ended()


# ---- the member is slow -----------------------------------------------------------------------------------------------


def begin_upload(client: Client, target: PlayedMember) -> Peer:
    """Returns the member's connection, the head read."""
    client.send(get("/", f"Content-Length: {ENDLESS}", method="POST"))
    peer = target.accept()
    peer.read_head()
    # what has piled up is read in less than the client's time, also by a slow machine
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    return peer


def test_upload_that_its_member_holds_up_is_not_answered_408(tmp_path: Path) -> None:
    """The client would send if it could. It has its whole time again each time that the member goes on."""
    with proxied(tmp_path, client_ms=1000, server_ms=15000) as (client, target, _served):
        peer = begin_upload(client, target)
        for _ in range(2):
            # so long that it is the member, and not a busy machine, that holds it up
            sent = send_until_jammed(client, quiet_s=2.0)
            assert client.is_silent()
            peer.read_exactly(sent)

        client.send(b"more")
        assert peer.read_exactly(4) == b"more"


def test_upload_that_the_client_stops_is_answered_408_also_after_the_member_held_it_up(tmp_path: Path) -> None:
    with proxied(tmp_path, client_ms=600, server_ms=15000) as (client, target, _served):
        peer = begin_upload(client, target)
        peer.read_exactly(send_until_jammed(client))
        began = time.monotonic()

        assert client.read_message().status == 408

        assert 0.3 < time.monotonic() - began < 0.6 + SLACK_S
        assert peer.ended()


def test_upload_that_stops_after_a_pause_between_attempts_is_answered_408(tmp_path: Path) -> None:
    """The pause before the next attempt at a member that refuses does not end the client's own time limit."""
    with socket.socket() as late:
        late.bind(("127.0.0.1", 0))  # refuses until it listens
        late.settimeout(5)
        port = free_port()
        members = [member(late.getsockname()[1])]
        text = lb_file(listener("web", port, members, mode="http", client_ms=500, connect_ms=200))
        with Served(tmp_path, text) as served, served.ask() as admin, Client(port) as client:
            client.send(post(b"whole body")[:-3])
            wait_until(lambda: admin.status().listeners[0].pools[0].counts["connect_errors"])

            late.listen()

            with Peer(late.accept()[0]) as peer:
                peer.read_head()
                assert client.read_message().status == 408


def test_download_after_an_early_final_response_outlives_a_pause_of_the_upload(tmp_path: Path) -> None:
    """The client has its answer coming; it is not cut because it waits for it before it sends the rest."""
    with proxied(tmp_path, client_ms=500, server_ms=15000) as (client, target, _served):
        client.send(get("/", "Content-Length: 1000000", method="POST") + b"abc")
        peer = target.accept()
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n")
        assert client.read_head().status == 200
        for _ in range(16):
            pause(0.1)
            peer.send(b"x")
            assert client.read_exactly(1) == b"x"


# ---- nothing is held back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["length", "chunked", "until the end"])
def test_pieces_of_a_slowly_produced_body_arrive_without_delay(amphorad_rig: Rig, coding: str) -> None:
    """The kernel may hold back for 200 ms what does not fill a segment (tcp(7), TCP_CORK); it must not be told to."""
    sizes = (20, 3_000, 40_000, 70_000)
    fields = {
        "length": "Content-Length: 10000000\r\n",
        "chunked": "Transfer-Encoding: chunked\r\n",
        "until the end": "",
    }
    head = f"HTTP/1.1 200 OK\r\n{fields[coding]}\r\n".encode()
    shortest: dict[int, float] = {}
    for _round in range(3):
        with amphorad_rig.client() as client:
            client.send(get("/"))
            peer = amphorad_rig.accept()
            peer.read_message()
            for size in (0, *sizes):
                mark = b"%x\r\n%b#\r\n" % (size + 1, bytes(size)) if coding == "chunked" else bytes(size) + b"#"
                began = time.monotonic()
                peer.send((b"" if size else head) + mark)
                client.read_until(b"#")
                shortest[size] = min(shortest.get(size, 60.0), time.monotonic() - began)

    # a delay that is ours comes every time; one that comes from a busy machine does not
    assert max(shortest.values()) < 0.15, shortest
