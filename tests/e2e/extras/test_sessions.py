"""Timeouts of tunnels and the time to drain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.http_peers import Client, PlayedMember, get, response
from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import ScriptedMember, connect, echo, echoes, http_member
from tests.support.scripted_member import get as request
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    import socket
    from pathlib import Path

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"


def has_ended(client: socket.socket) -> bool:
    client.settimeout(15)
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_tcp_session_lives_as_long_as_the_tunnel_timeout_says(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as target:
        text = lb_file(listener("tcp", port, [member(target.port)], client_ms=300, server_ms=300))
        with Served(tmp_path, text, "--timeout-tunnel", "30"), connect(port) as client:
            assert echoes(client)
            client.settimeout(1.5)
            with pytest.raises(TimeoutError):
                client.recv(1)
            client.settimeout(10)
            assert echoes(client)


def test_shorter_tunnel_timeout_ends_a_session_too(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as target:
        text = lb_file(listener("tcp", port, [member(target.port)]))
        with Served(tmp_path, text, "--timeout-tunnel", "0.3"), connect(port) as client:
            assert echoes(client)
            assert has_ended(client)


def test_upgraded_connection_has_the_tunnel_timeout_and_requests_have_not(tmp_path: Path) -> None:
    port = free_port()
    target = PlayedMember()
    try:
        text = lb_file(listener("web", port, [member(target.port)], mode="http", server_ms=300, client_ms=300))
        with Served(tmp_path, text, "--timeout-tunnel", "30"):
            with Client(port) as client:
                client.send(get("/", "Connection: Upgrade", "Upgrade: x"))
                peer = target.accept()
                peer.read_head()
                peer.send(SWITCHING)
                assert client.read_head().status == 101
                assert client.is_silent(1.2)
                peer.send(b"still here")
                assert client.read_exactly(10) == b"still here"
            with Client(port) as client:
                client.send(get("/"))
                assert client.read_message().status == 504
    finally:
        target.close()


def lines(target: int, other: int, what: str) -> list[str]:
    drained = {
        "removed": [],
        "disabled": [member(target, disabled=True)],
        "weight 0": [member(target, weight=0)],
    }
    return [*drained[what], member(other)]


@pytest.mark.parametrize("what", ["removed", "disabled", "weight 0"])
def test_sessions_of_a_draining_member_end_after_the_drain_time(tmp_path: Path, what: str) -> None:
    port = free_port()
    with ScriptedMember(echo) as target, ScriptedMember(echo) as other:
        before = lb_file(listener("tcp", port, [member(target.port)]))
        after = lb_file(listener("tcp", port, lines(target.port, other.port, what)))
        with Served(tmp_path, before, "--drain-time", "1", "--threads", "2") as served:
            with connect(port) as old:
                assert echoes(old)
                served.apply(after)
                with connect(port) as new:
                    assert echoes(old)  # for now
                    assert echoes(new)
                    assert has_ended(old)
                    assert echoes(new)
            wait_until(lambda: served.status()["data_plane"]["sessions"] == 0)


def test_sessions_of_a_removed_listener_end_after_the_drain_time(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    target = PlayedMember()
    try:
        kept = listener("kept", other, [member(target.port)], mode="http")
        with Served(
            tmp_path, lb_file(kept, listener("web", port, [member(target.port)], mode="http")), "--drain-time", "1"
        ) as served:
            with Client(port) as client, Client(other) as stays:
                client.send(get("/"))
                peer = target.accept()
                peer.read_head()
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
                client.read_head()
                assert client.read_exactly(4) == b"half"
                served.apply(lb_file(kept))
                assert client.ended()
                stays.send(get("/"))
                answering = target.accept()
                answering.read_head()
                answering.send(response(b"ok"))
                assert stays.read_message().status == 200
            wait_until(lambda: served.status()["data_plane"]["draining"] == 0)
    finally:
        target.close()


def test_without_a_drain_time_sessions_stay(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as target, ScriptedMember(echo) as other:
        with Served(tmp_path, lb_file(listener("tcp", port, [member(target.port)]))) as served, connect(port) as old:
            assert echoes(old)
            served.apply(lb_file(listener("tcp", port, [member(other.port)])))
            old.settimeout(1.5)
            with pytest.raises(TimeoutError):
                old.recv(1)
            old.settimeout(10)
            assert echoes(old)


def test_client_that_sticks_to_a_drained_member_gets_another_one_after_the_drain_time(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member(b"old")) as target, ScriptedMember(http_member(b"new")) as other:
        text = lb_file(listener("web", port, [member(target.port)], mode="http"))
        text = text.replace(
            "    balance roundrobin\n", "    balance roundrobin\n    stick-table type ipv6 size 10k\n    stick on src\n"
        )
        drained = text.replace("weight 1\n", "weight 0\n") + member(other.port)
        with Served(tmp_path, text, "--drain-time", "1") as served:
            assert answer(port) == b"200 old"
            assert served.apply(drained).returncode == 0
            assert answer(port) == b"200 old"
            wait_until(lambda: answer(port) == b"200 new")
            assert served.apply(drained.replace("weight 0\n", "weight 1\n")).returncode == 0
            assert answer(port) == b"200 new"


def answer(port: int) -> bytes:
    with connect(port) as client:
        return request(client)
