"""Clients and members that are slow on purpose: cut in time, bounded in memory, and no trouble for the others."""

from __future__ import annotations

import select
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.lb_file import lb_file, listener, member
from tests.support.process_figures import memory_kb
from tests.support.scripted_member import (
    ScriptedMember,
    connect,
    get,
    http_answer,
    http_member,
    is_reset_or_end,
    read_head,
    receive_all,
)
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from amphorad.admin import Client

SLACK_S = 3.0
BODY = bytes(5_000_000)


def pause(seconds: float) -> None:
    """The slowness that is tested."""
    select.select([], [], [], seconds)


def current(admin: Client) -> int:
    return admin.status().listeners[0].counts.current


def data_plane_of(served: Served) -> int:
    return int(served.ready_line.split("data_plane=")[1].split()[0])


@pytest.fixture
def big() -> Iterator[ScriptedMember]:
    """A member that answers with 5 MB, and to `/small` with two bytes."""

    def script(connection: socket.socket) -> None:
        while head := read_head(connection):
            connection.sendall(http_answer(b"ok" if b"/small" in head else BODY))

    with ScriptedMember(script) as target:
        yield target


# --- requests ---


def test_slow_head_is_cut_by_408_within_timeout_client_in_total(tmp_path: Path) -> None:
    """Also when each byte comes in time: the clock runs from the first byte on (HAProxy waits for ever)."""
    port = free_port()
    with ScriptedMember(http_member()) as target:
        text = lb_file(listener("web", port, [member(target.port)], mode="http", client_ms=1000))
        with Served(tmp_path, text), connect(port) as client:
            client.settimeout(0.1)
            began = time.monotonic()
            answer = b""
            for byte in b"GET / HTTP/1.1\r\nHost: lb\r\nX-Slow: " + b"x" * 1000:
                try:
                    client.sendall(bytes([byte]))
                    answer = client.recv(4096)
                    break
                except TimeoutError:
                    continue

            assert answer.startswith(b"HTTP/1.1 408 ")
            assert 0.9 <= time.monotonic() - began < 1.0 + SLACK_S
            assert target.sessions == 0


def test_client_that_sends_nothing_is_cut_by_408(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as target:
        text = lb_file(listener("web", port, [member(target.port)], mode="http", client_ms=500))
        with Served(tmp_path, text), connect(port) as client:
            assert receive_all(client).startswith(b"HTTP/1.1 408 ")


def test_idle_keep_alive_connection_is_closed_without_an_answer(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as target:
        text = lb_file(listener("web", port, [member(target.port)], mode="http", client_ms=500))
        with Served(tmp_path, text), connect(port) as client:
            assert get(client) == b"200 ok"

            assert client.recv(1) == b""


def test_slow_body_below_the_minimum_rate_is_cut(tmp_path: Path) -> None:
    """Each byte comes within `timeout client`, but all of them together take too long."""

    def read_body(connection: socket.socket) -> None:
        read_head(connection)
        receive_all(connection)

    port = free_port()
    with ScriptedMember(read_body) as target:
        text = lb_file(listener("web", port, [member(target.port)], mode="http", client_ms=1000))
        with Served(tmp_path, text), connect(port) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: lb\r\nContent-Length: 100000\r\n\r\n")
            client.settimeout(0.1)
            began = time.monotonic()
            answer = b""
            while not answer and time.monotonic() - began < 10:
                try:
                    client.sendall(b"x")
                    answer = client.recv(4096)
                except TimeoutError:
                    continue

            assert answer.startswith(b"HTTP/1.1 408 ")
            assert 0.9 <= time.monotonic() - began < 1.5 + SLACK_S
            target.wait_ended(1)


def test_slow_body_above_the_minimum_rate_arrives(tmp_path: Path) -> None:
    """1 kB ten times a second, for longer than `timeout client`."""

    def read_body(connection: socket.socket) -> None:
        read_head(connection)
        left = 20_000
        while left and (data := connection.recv(left)):
            left -= len(data)
        connection.sendall(http_answer())

    port = free_port()
    with ScriptedMember(read_body) as target:
        text = lb_file(listener("web", port, [member(target.port)], mode="http", client_ms=1000))
        with Served(tmp_path, text), connect(port) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: lb\r\nContent-Length: 20000\r\n\r\n")
            for _part in range(20):
                pause(0.1)
                client.sendall(b"x" * 1000)

            assert client.recv(12) == b"HTTP/1.1 200"


def test_many_slow_heads_cost_the_others_nothing(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as target, ExitStack() as stack:
        text = lb_file(listener("web", port, [member(target.port)], mode="http"))
        served = stack.enter_context(Served(tmp_path, text))
        admin = stack.enter_context(served.ask())
        before = memory_kb(data_plane_of(served))
        for _client in range(1000):
            stack.enter_context(connect(port)).sendall(b"GET / HTTP/1.1\r\nHost: l")
        wait_until(lambda: current(admin) == 1000)

        with connect(port) as client:
            began = time.monotonic()
            for _request in range(50):
                assert get(client) == b"200 ok"
            assert time.monotonic() - began < SLACK_S
        grown = memory_kb(data_plane_of(served)) - before
        assert grown < 4000, f"{grown} kB for 1000 partial heads"


def test_idle_connections_cost_little(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as target, ExitStack() as stack:
        text = lb_file(listener("web", port, [member(target.port)], mode="http"))
        served = stack.enter_context(Served(tmp_path, text))
        admin = stack.enter_context(served.ask())
        clients = []
        before = 0
        for number in range(2000):
            clients.append(stack.enter_context(connect(port)))
            clients[-1].sendall(b"GET / HTTP/1.1\r\nHost: lb\r\n\r\n")
            if number % 50 == 49:
                for client in clients[-50:]:
                    assert b"200 OK" in client.recv(4096)
            if number == 99:
                before = memory_kb(data_plane_of(served))
        wait_until(lambda: current(admin) == 2000)

        per_connection = (memory_kb(data_plane_of(served)) - before) * 1024 / 1900
        print(f"{per_connection:.0f} bytes of user memory per idle connection")
        assert per_connection < 1200
        assert get(clients[0]) == get(clients[-1]) == b"200 ok"


# --- responses ---


def test_reader_that_makes_progress_is_not_cut(tmp_path: Path, big: ScriptedMember) -> None:
    """`timeout client` is about inactivity, however long the whole takes."""
    port = free_port()
    text = lb_file(listener("web", port, [member(big.port)], mode="http", client_ms=1000))
    with Served(tmp_path, text):
        client = socket.socket()
        with client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            client.settimeout(10)
            client.connect(("127.0.0.1", port))
            client.sendall(b"GET / HTTP/1.1\r\nHost: lb\r\n\r\n")
            received = 0
            while received < 1_000_000:  # what the kernel buffers may hide progress: fast enough for its steps
                data = client.recv(8192)
                assert data, f"cut after {received} bytes"
                received += len(data)
                pause(0.02)


def test_readers_that_never_read_are_bounded_in_memory_and_cut(tmp_path: Path, big: ScriptedMember) -> None:
    port = free_port()
    clients = 200
    text = lb_file(listener("web", port, [member(big.port)], mode="http", client_ms=4000))
    with Served(tmp_path, text) as served, served.ask() as admin, ExitStack() as stack:
        pid = data_plane_of(served)
        before = memory_kb(pid)
        for _client in range(clients):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            client.sendall(b"GET / HTTP/1.1\r\nHost: lb\r\n\r\n")
        wait_until(lambda: current(admin) == clients)
        with connect(port) as other:
            for _request in range(20):
                assert get(other, "/small") == b"200 ok"
        grown = memory_kb(pid) - before
        print(f"{grown} kB for {clients} clients that do not read")
        assert grown < 16_000  # 80 kB each; one scratch block would be 260

        wait_until(lambda: current(admin) == 0)

        with connect(port) as other:
            assert get(other, "/small") == b"200 ok"
        print(f"{memory_kb(pid) - before} kB afterwards")
        assert memory_kb(pid) - before < 16_000


def test_member_that_never_reads_an_upload_is_cut_by_timeout_server(tmp_path: Path) -> None:
    """504: the member is the one that does not go on."""

    def read_nothing(connection: socket.socket) -> None:
        waiting = select.poll()
        waiting.register(connection, 0)  # hang-up and errors only
        waiting.poll(10_000)

    port = free_port()
    with ScriptedMember(read_nothing) as target:
        text = lb_file(listener("web", port, [member(target.port)], mode="http", client_ms=8000, server_ms=1000))
        with Served(tmp_path, text) as served, served.ask() as admin, connect(port) as client:
            pid = data_plane_of(served)
            before = memory_kb(pid)
            client.sendall(b"POST / HTTP/1.1\r\nHost: lb\r\nContent-Length: 100000000\r\n\r\n")
            client.settimeout(0.1)
            sent = 0
            answer = b""
            began = time.monotonic()
            while not answer and time.monotonic() - began < 10:
                try:
                    sent += client.send(bytes(1 << 18))
                except TimeoutError:
                    pass
                except (BrokenPipeError, ConnectionResetError):
                    break
                if select.select([client], [], [], 0)[0]:
                    answer = client.recv(4096)

            assert answer.startswith(b"HTTP/1.1 504 ")
            assert sent < 100_000_000
            assert memory_kb(pid) - before < 4000
            client.close()
            wait_until(lambda: current(admin) == 0)


def test_tcp_reader_that_never_reads_is_cut_and_holds_the_member_up(tmp_path: Path) -> None:
    sent: list[int] = []

    def send_much(connection: socket.socket) -> None:
        total = 0
        try:
            while total < 200_000_000:
                total += connection.send(bytes(1 << 18))
        finally:
            sent.append(total)

    port = free_port()
    with ScriptedMember(send_much) as target:
        text = lb_file(listener("tcp", port, [member(target.port)], client_ms=1000))
        with Served(tmp_path, text) as served, served.ask() as admin, connect(port):
            before = memory_kb(data_plane_of(served))
            target.wait_ended(1)

            assert sent[0] < 50_000_000
            assert memory_kb(data_plane_of(served)) - before < 4000
            wait_until(lambda: current(admin) == 0)


def test_member_that_never_answers_is_cut_by_504(tmp_path: Path) -> None:
    def say_nothing(connection: socket.socket) -> None:
        read_head(connection)
        is_reset_or_end(connection)

    port = free_port()
    with ScriptedMember(say_nothing) as target:
        text = lb_file(listener("web", port, [member(target.port)], mode="http", server_ms=500))
        with Served(tmp_path, text), connect(port) as client:
            began = time.monotonic()

            assert get(client).startswith(b"504 ")

            assert 0.4 <= time.monotonic() - began < 0.5 + SLACK_S
            target.wait_ended(1)
