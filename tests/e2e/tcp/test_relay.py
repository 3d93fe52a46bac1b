"""TCP listeners: bytes in both directions, and how each side's end reaches the other."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import (
    ScriptedMember,
    connect,
    echo,
    is_reset_or_end,
    receive_all,
    reset,
)
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    from pathlib import Path

LONG_BYTES = 50_000_000
BLOCK = os.urandom(1 << 20)
LONG = (BLOCK * (LONG_BYTES // len(BLOCK) + 1))[:LONG_BYTES]
LONG_SUM = hashlib.md5(LONG).hexdigest()


def serve(tmp_path: Path, port: int, *members: ScriptedMember, threads: int = 2) -> Served:
    text = lb_file(listener("tcp", port, [member(each.port) for each in members]))
    return Served(tmp_path, text, "--threads", str(threads))


def receive_exactly(connection: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length and (data := connection.recv(length - len(received))):
        received += data
    return received


def test_relay_echoes_what_the_client_sends(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as target, serve(tmp_path, port, target), connect(port) as client:
        client.sendall(b"hello")

        assert receive_exactly(client, 5) == b"hello"


def test_relay_member_speaks_first(tmp_path: Path) -> None:
    def greet(connection: socket.socket) -> None:
        connection.sendall(b"220 ready\r\n")
        connection.recv(1)

    port = free_port()
    with ScriptedMember(greet) as target, serve(tmp_path, port, target), connect(port) as client:
        assert receive_exactly(client, 11) == b"220 ready\r\n"


def test_relay_client_eof_lets_the_member_answer(tmp_path: Path) -> None:
    def answer_after_eof(connection: socket.socket) -> None:
        request = receive_all(connection)
        connection.sendall(request[::-1])

    port = free_port()
    with ScriptedMember(answer_after_eof) as target, serve(tmp_path, port, target), connect(port) as client:
        client.sendall(b"abc")
        client.shutdown(socket.SHUT_WR)

        assert receive_all(client) == b"cba"


def test_relay_member_eof_lets_the_client_go_on(tmp_path: Path) -> None:
    heard: list[bytes] = []

    def close_our_side_first(connection: socket.socket) -> None:
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        heard.append(receive_all(connection))

    port = free_port()
    with ScriptedMember(close_our_side_first) as target, serve(tmp_path, port, target), connect(port) as client:
        assert receive_all(client) == b"bye"
        client.sendall(b"still here")
        client.shutdown(socket.SHUT_WR)
        target.wait_ended(1)

    assert heard == [b"still here"]


def test_relay_session_ends_when_both_sides_have(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as target, serve(tmp_path, port, target) as served, served.ask() as admin:
        with connect(port) as client:
            client.sendall(b"x")
            client.shutdown(socket.SHUT_WR)

            assert receive_all(client) == b"x"
            wait_until(lambda: admin.status().listeners[0].counts.current == 0)
            assert admin.status().listeners[0].pools[0].members[0].counts.current == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_relay_long_transfers_both_ways_at_once_arrive_whole(tmp_path: Path, threads: int) -> None:
    """50 MB each way: long enough for the spliced path."""
    heard: list[str] = []

    def exchange(connection: socket.socket) -> None:
        sender = threading.Thread(target=connection.sendall, args=(LONG,))
        sender.start()
        digest = hashlib.md5()
        while data := connection.recv(1 << 18):
            digest.update(data)
        heard.append(digest.hexdigest())
        sender.join()

    port = free_port()
    with (
        ScriptedMember(exchange) as target,
        serve(tmp_path, port, target, threads=threads) as served,
        served.ask() as admin,
    ):
        with connect(port) as client:
            sender = threading.Thread(
                target=lambda: (client.sendall(LONG), client.shutdown(socket.SHUT_WR))  # type: ignore[func-returns-value]
            )
            sender.start()
            received = receive_all(client)
            sender.join()
        target.wait_ended(1)

        assert hashlib.md5(received).hexdigest() == LONG_SUM
        assert heard == [LONG_SUM]
        counts = admin.status().listeners[0].counts
        assert counts["bytes_in"] == counts["bytes_out"] == LONG_BYTES


def test_relay_long_transfer_then_short_messages_on_the_same_session(tmp_path: Path) -> None:
    """The spliced direction goes back to copying; no byte is stuck in the pipe."""

    def script(connection: socket.socket) -> None:
        connection.sendall(LONG[:20_000_000])
        echo(connection)

    port = free_port()
    with ScriptedMember(script) as target, serve(tmp_path, port, target), connect(port) as client:
        assert hashlib.md5(_read_long(client, 20_000_000)).digest() == hashlib.md5(LONG[:20_000_000]).digest()
        for number in range(300):
            message = b"%06d" % number
            client.sendall(message)
            assert receive_exactly(client, 6) == message


def _read_long(client: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length and (data := client.recv(min(1 << 18, length - len(received)))):
        received += data
    return bytes(received)


def test_relay_many_small_messages_stay_in_order(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as target, serve(tmp_path, port, target), connect(port) as client:
        for number in range(2000):
            message = b"%08d" % number
            client.sendall(message)
            assert receive_exactly(client, 8) == message


def test_relay_slow_reader_gets_everything(tmp_path: Path) -> None:
    """Back-pressure: the member is held up, nothing is dropped."""

    def send(connection: socket.socket) -> None:
        connection.sendall(LONG[:8_000_000])

    port = free_port()
    with ScriptedMember(send) as target, serve(tmp_path, port, target):
        client = socket.socket()
        with client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(10)
            client.connect(("127.0.0.1", port))
            target.wait_sessions(1)
            digest = hashlib.md5()
            while data := client.recv(3000):
                digest.update(data)

    assert digest.digest() == hashlib.md5(LONG[:8_000_000]).digest()


def test_relay_member_reset_ends_the_client_and_nothing_else(tmp_path: Path) -> None:
    def script(connection: socket.socket) -> None:
        if connection.recv(1) == b"r":
            reset(connection)
        else:
            echo(connection)

    port = free_port()
    with ScriptedMember(script) as target, serve(tmp_path, port, target) as served, served.ask() as admin:
        with connect(port) as doomed, connect(port) as other:
            other.sendall(b"e1")
            assert receive_exactly(other, 1) == b"1"
            doomed.sendall(b"r")

            assert is_reset_or_end(doomed)
            other.sendall(b"2")
            assert receive_exactly(other, 1) == b"2"
            wait_until(lambda: admin.status().listeners[0].counts.current == 1)
            assert admin.status().listeners[0].pools[0].members[0].counts["member_aborts"] == 1


def test_relay_client_reset_ends_the_member_side(tmp_path: Path) -> None:
    ends: list[bool] = []

    def script(connection: socket.socket) -> None:
        connection.sendall(b"x")
        ends.append(is_reset_or_end(connection))

    port = free_port()
    with ScriptedMember(script) as target, serve(tmp_path, port, target) as served, served.ask() as admin:
        client = connect(port)
        assert client.recv(1) == b"x"
        reset(client)

        target.wait_ended(1)
        assert ends == [True]
        wait_until(lambda: admin.status().listeners[0].counts.current == 0)
        assert admin.status().listeners[0].pools[0].members[0].counts["client_aborts"] == 1


def test_relay_resets_in_the_middle_of_long_transfers_leave_nothing(tmp_path: Path) -> None:
    """Sessions that die with bytes in their pipe: descriptors and gauges come back to what they were."""

    def send_for_ever(connection: socket.socket) -> None:
        while True:
            connection.sendall(BLOCK)

    port = free_port()
    with ScriptedMember(send_for_ever) as target, serve(tmp_path, port, target) as served, served.ask() as admin:
        for _round in range(20):
            client = connect(port)
            _read_long(client, 3_000_000)
            reset(client)

        wait_until(lambda: admin.status().listeners[0].counts.current == 0)
        with connect(port) as client:
            assert _read_long(client, 3_000_000) == (BLOCK * 3)[:3_000_000]


def test_listener_without_pool_closes_at_once(tmp_path: Path) -> None:
    port = free_port()
    with Served(tmp_path, lb_file(listener("tcp", port, None))), connect(port) as client:
        assert is_reset_or_end(client)


def test_pool_without_members_closes_at_once(tmp_path: Path) -> None:
    port = free_port()
    with Served(tmp_path, lb_file(listener("tcp", port, []))), connect(port) as client:
        assert is_reset_or_end(client)
