"""`--tunnel-timeout` and `--drain-deadline`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import (
    ScriptedMember,
    connect,
    echo,
    echoes,
    get,
    http_member,
    is_reset_or_end,
    read_head,
    read_response,
    receive_all,
    still_echoes,
)
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    import socket
    from pathlib import Path


def upgrades(connection: socket.socket) -> None:
    read_head(connection)
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    echo(connection)


def upgraded(port: int) -> socket.socket:
    client = connect(port)
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    assert read_head(client).startswith(b"HTTP/1.1 101 ")
    return client


def silent(connection: socket.socket) -> None:
    """Reads a request and never answers."""
    read_head(connection)
    connection.recv(1)


# --- timeout tunnel ---


def test_tunnel_outlives_the_timeouts_of_listener_and_pool(tmp_path: Path) -> None:
    port, plain = free_port(), free_port()
    with ScriptedMember(upgrades) as apple, ScriptedMember(echo) as banana:
        text = lb_file(
            listener("web", port, [member(apple.port)], mode="http", client_ms=300, server_ms=300),
            listener("tcp", plain, [member(banana.port)], client_ms=300, server_ms=300),
        )
        with Served(tmp_path, text, "--tunnel-timeout", "60"), upgraded(port) as web, connect(plain) as tcp:
            assert echoes(web)
            assert echoes(tcp)
            for _wait in range(2):  # a connection without a tunnel ends by the listener's timeout, long after theirs
                with connect(port) as idle:
                    assert receive_all(idle).startswith(b"HTTP/1.1 408 ")
            assert echoes(web)
            assert echoes(tcp)


def test_silent_tunnel_ends_after_its_own_timeout(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(upgrades) as apple:
        text = lb_file(listener("web", port, [member(apple.port)], mode="http"))
        with Served(tmp_path, text, "--tunnel-timeout", "0.3"), upgraded(port) as client:
            assert is_reset_or_end(client)  # within the client's ten seconds; the file says 50


# --- drain deadline ---


def test_session_on_a_drained_member_ends_at_the_deadline_and_others_go_on(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as apple, ScriptedMember(echo) as banana:
        members = [member(apple.port, name="apple"), member(banana.port, name="banana")]
        text = lb_file(listener("tcp", port, members))
        drained = lb_file(listener("tcp", port, [member(apple.port, name="apple", weight=0), members[1]]))
        with Served(tmp_path, text, "--drain-deadline", "1") as served, connect(port) as one, connect(port) as other:
            assert echoes(one)
            assert echoes(other)
            assert served.apply(drained).returncode == 0
            assert echoes(one)
            assert echoes(other)
            apple.wait_ended(1)
            ended = [client for client in (one, other) if not still_echoes(client)]
            assert len(ended) == 1
            assert banana.ended == 0


def test_session_of_a_removed_listener_ends_at_the_deadline(tmp_path: Path) -> None:
    port, other_port = free_port(), free_port()
    with ScriptedMember(echo) as apple:
        stays = listener("stays", other_port, [member(apple.port)])
        goes = listener("goes", port, [member(apple.port)])
        with (
            Served(tmp_path, lb_file(stays, goes), "--drain-deadline", "1") as served,
            connect(port) as old,
            connect(other_port) as kept,
        ):
            assert echoes(old)
            assert echoes(kept)
            assert served.apply(lb_file(stays)).returncode == 0
            assert is_reset_or_end(old)
            assert echoes(kept)


def test_request_waiting_for_a_removed_member_is_answered_503(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(silent) as apple, ScriptedMember(http_member(b"banana")) as banana:
        text = lb_file(listener("web", port, [member(apple.port)], mode="http"))
        moved = lb_file(listener("web", port, [member(banana.port)], mode="http"))
        with Served(tmp_path, text, "--drain-deadline", "1") as served, connect(port) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            apple.wait_sessions(1)
            assert served.apply(moved).returncode == 0
            assert read_response(client)[:3] == b"503"
            assert get(client) == b"200 banana"


def test_member_back_in_use_before_the_deadline_keeps_its_sessions(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as apple:
        text = lb_file(listener("tcp", port, [member(apple.port)]))
        with Served(tmp_path, text, "--drain-deadline", "1.5") as served, connect(port) as client:
            assert echoes(client)
            assert served.apply(text.replace("weight 1", "weight 0")).returncode == 0
            assert served.apply(text).returncode == 0
            end = time.monotonic() + 3
            wait_until(lambda: time.monotonic() > end)
            assert echoes(client)
