"""How connections end: nothing that a client may still get is lost, and nothing waits for a peer that has gone.

`rig` says that HAProxy does the same; see `tests.support.http_rig`.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.http_peers import OK, Client, Peer, PlayedMember, chunked, exchange, get, response
from tests.support.lb_file import lb_file, listener, member
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.http_rig import Rig

SOON_S = 3.0  # far from the timeouts of the listeners here, which are 15 s and more
HALF_A_HEAD = b"GET /second HTTP/1.1\r\nHo"
REST_OF_THE_HEAD = b"st: test\r\n\r\n"


@pytest.fixture
def played() -> Iterator[PlayedMember]:
    target = PlayedMember()
    yield target
    target.close()


def send_with_end(client: Peer, data: bytes) -> None:
    """The bytes and the end of this direction in one segment: the receiver learns of both at once."""
    client.socket.send(data, socket.MSG_MORE)
    client.finish()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing meanwhile, so that it finds all that happens at once."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# ---- the client's end -------------------------------------------------------------------------------------------------


def test_half_a_head_with_the_end_on_a_new_connection_ends_at_once(rig: Rig) -> None:
    with rig.client() as client:
        began = time.monotonic()
        send_with_end(client, HALF_A_HEAD)

        client.read_to_end()

        assert time.monotonic() - began < SOON_S
    assert rig.member.is_left_alone()


@pytest.mark.parametrize("exchanges", [1, 3])
def test_half_a_head_with_the_end_on_a_kept_connection_ends_at_once(rig: Rig, exchanges: int) -> None:
    with rig.client() as client:
        exchange(client, get("/"), rig.accept, OK)
        for _ in range(exchanges - 1):
            exchange(client, get("/"), lambda: rig.member.connections[-1], OK)
        began = time.monotonic()
        send_with_end(client, HALF_A_HEAD)

        client.read_to_end()

        assert time.monotonic() - began < SOON_S


def test_half_a_head_in_two_parts_with_the_end_ends_at_once(rig: Rig) -> None:
    with rig.client() as client:
        exchange(client, get("/"), rig.accept, OK)
        client.send(HALF_A_HEAD[:5])
        began = time.monotonic()
        send_with_end(client, HALF_A_HEAD[5:])

        client.read_to_end()

        assert time.monotonic() - began < SOON_S


# ---- the last answer --------------------------------------------------------------------------------------------------


def slow_client(rig: Rig) -> Client:
    """Its kernel takes so little that most of an answer is still with the proxy when that closes."""
    client = Client.__new__(Client)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", rig.ports["web"]))
    Peer.__init__(client, connection)
    return client


def test_pipelining_client_gets_its_whole_last_answer(amphorad_rig: Rig) -> None:
    """Its further requests lie unread in the proxy's socket, and a plain close() would make a reset of that, as HAProxy's
    does: most of the answer would be lost.
    """
    body = bytes(range(256)) * 240
    with slow_client(amphorad_rig) as client:
        client.send(get("/1"))
        peer = amphorad_rig.accept()
        peer.read_message()
        client.send(*(get(f"/{number}") for number in range(2, 6)))
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        peer.finish()
        peer.ended()  # the proxy has done with it

        assert client.read_head().status == 200
        got = client.read_to_end()
        assert len(got) == len(body)
        assert got == body


# ---- a listener or a pool that is removed -----------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [False, True], ids=["first request", "later request"])
def test_half_a_head_before_its_listener_is_removed_is_still_served(
    tmp_path: Path, played: PlayedMember, kept: bool
) -> None:
    port, other = free_port(), free_port()
    members = [member(played.port)]
    with Served(tmp_path, lb_file(listener("web", port, members, mode="http"))) as served, served.ask() as admin:
        with Client(port) as client:
            if kept:
                exchange(client, get("/"), played.accept, OK)
            client.send(HALF_A_HEAD)
            wait_until(lambda: admin.status().listeners[0].counts["bytes_in"] % len(get("/")) == len(HALF_A_HEAD))
            # renamed too, so that nothing of the old listener is left in the new configuration
            admin.apply(lb_file(listener("web2", other, members, mode="http")), "lb.cfg")

            client.send(REST_OF_THE_HEAD)
            peer = played.connections[0] if kept else played.accept()
            assert peer.read_message().target == b"/second"
            peer.send(OK)
            assert client.read_message().body == b"hello"

            assert client.ended()  # a removed listener keeps nobody
        with Client(other) as client:
            assert exchange(client, get("/"), played.accept, OK).body == b"hello"
        wait_until(lambda: admin.status().data_plane.draining == 0)


def test_response_under_way_when_its_listener_is_removed_arrives(tmp_path: Path, played: PlayedMember) -> None:
    port = free_port()
    text = lb_file(listener("web", port, [member(played.port)], mode="http"))
    with Served(tmp_path, text) as served, served.ask() as admin, Client(port) as client:
        client.send(get("/"))
        peer = played.accept()
        peer.read_message()
        peer.send(response(b"x" * 1000)[:-500])
        client.read_until(b"\r\n\r\n")

        admin.apply(lb_file(), "lb.cfg")

        assert client.read_exactly(500) == b"x" * 500
        peer.send(b"x" * 500)
        assert client.read_exactly(500) == b"x" * 500
        assert client.ended()
        wait_until(lambda: admin.status().data_plane.draining == 0)


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_session_that_waits_for_a_member_of_a_removed_pool_goes_to_the_present_one(
    tmp_path: Path, played: PlayedMember, mode: str
) -> None:
    """The member refuses connections; the session pauses for a second before it tries again."""
    port = free_port()
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        text = lb_file(listener("web", port, [member(refusing.getsockname()[1])], mode=mode))
        with Served(tmp_path, text) as served, served.ask() as admin, Client(port) as client:
            client.send(get("/"))
            wait_until(lambda: admin.status().listeners[0].pools[0].counts["connect_errors"])

            text = lb_file(listener("web", port, [member(played.port)], mode=mode))
            admin.apply(text.replace("web-pool", "next-pool"), "lb.cfg")

            peer = played.accept()
            assert peer.read_message().target == b"/"
            peer.send(OK)
            assert client.read_message().body == b"hello"


# ---- long reads -------------------------------------------------------------------------------------------------------


def test_head_in_two_pieces_with_much_behind_it_after_a_long_body_arrives_unharmed(
    tmp_path: Path, played: PlayedMember
) -> None:
    """Chunked bodies are never spliced, so that the reads from this member connection have become as long as they may be;
    the next one has to leave room for the part of the head that is there already.
    """
    port = free_port()
    text = lb_file(listener("web", port, [member(played.port)], mode="http"))
    with Served(tmp_path, text, "--threads", "1") as served, Client(port) as client:
        pid = int(served.ready_line.split("data_plane=")[1].split()[0])
        client.send(get("/"))
        peer = played.accept()
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        long_body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(*[b"x" * 100_000] * 20)
        for _ in range(3):  # also makes the kernel's receive buffer grow
            peer.read_message()
            with in_one_burst(peer, long_body, pid):
                assert len(client.read_message().body) == 2_000_000
            client.send(get("/"))
        peer.read_message()

        body = os.urandom(300 * 1024)
        long_head = b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 15_000
        peer.send(long_head)
        wait_until(lambda: unread_bytes(peer) == 0)
        with in_one_burst(peer, b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body, pid):
            answer = client.read_message()

        assert answer.get("x-long") == b"a" * 15_000
        assert answer.body == body
        client.send(get("/"))
        peer.read_message()
        peer.send(OK)
        assert client.read_message().body == b"hello"
        assert served.data_plane == pid


@contextmanager
def in_one_burst(peer: Peer, data: bytes, pid: int) -> Iterator[None]:
    """The proxy finds as much of `data` as its kernel takes; the rest follows while the context lasts."""
    peer.socket.setblocking(False)
    rest = memoryview(data)
    with stopped(pid):
        try:
            while rest:
                rest = rest[peer.socket.send(rest) :]
        except BlockingIOError:
            pass
    peer.socket.settimeout(5)
    sending = threading.Thread(target=peer.socket.sendall, args=(rest,))
    sending.start()
    try:
        yield
    finally:
        sending.join(5)


def unread_bytes(peer: Peer) -> int:
    """What the proxy has not read yet of what this member sent (proc(5), /proc/net/tcp)."""
    ends = peer.socket.getpeername()[1], peer.socket.getsockname()[1]
    with open("/proc/net/tcp") as table:
        for line in list(table)[1:]:
            _number, here, there, _state, queues, *_rest = line.split()
            if tuple(int(address.split(":")[1], 16) for address in (here, there)) == ends:
                return int(queues.split(":")[1], 16)
    raise AssertionError("no such connection")
