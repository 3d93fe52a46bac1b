"""A TCP listener whose default pool is an HTTP one serves HTTP (Octavia contract section 4.10, `mode`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import ScriptedMember, connect, echo, get, http_member, receive_all
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    from pathlib import Path


def upgraded(port: int, *lines: str, client_ms: int = 50000) -> str:
    """The listener in mode tcp, its pool in mode http."""
    text = lb_file(listener("web", port, lines, mode="http", client_ms=client_ms))
    return text.replace("    mode http\n", "    mode tcp\n", 1)


def test_each_request_of_a_connection_is_balanced(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member(b"one")) as one, ScriptedMember(http_member(b"two")) as two:
        with Served(tmp_path, upgraded(port, member(one.port), member(two.port))), connect(port) as client:
            assert {get(client), get(client)} == {b"200 one", b"200 two"}


def test_pool_without_members_answers_503(tmp_path: Path) -> None:
    port = free_port()
    with Served(tmp_path, upgraded(port)), connect(port) as client:
        assert get(client).startswith(b"503 ")


def test_what_is_no_request_is_answered_400(tmp_path: Path) -> None:
    port = free_port()
    with Served(tmp_path, upgraded(port)), connect(port) as client:
        client.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")

        assert receive_all(client).startswith(b"HTTP/1.1 400 ")


def test_client_that_says_nothing_is_answered_408(tmp_path: Path) -> None:
    port = free_port()
    with Served(tmp_path, upgraded(port, client_ms=300)), connect(port) as client:
        assert receive_all(client).startswith(b"HTTP/1.1 408 ")


def test_listener_that_becomes_tcp_closes_idle_clients_and_relays_new_ones(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as web, ScriptedMember(echo) as plain:
        with Served(tmp_path, upgraded(port, member(web.port))) as served, connect(port) as client:
            assert get(client) == b"200 ok"
            applied = served.apply(lb_file(listener("web", port, [member(plain.port)])))
            assert applied.returncode == 0, applied.stderr

            assert client.recv(1) == b""
            with connect(port) as other:
                other.sendall(b"abc")
                assert other.recv(3) == b"abc"


def test_listener_that_becomes_http_relays_old_sessions_to_their_end(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as web, ScriptedMember(echo) as plain:
        with Served(tmp_path, lb_file(listener("web", port, [member(plain.port)]))) as served, connect(port) as client:
            client.sendall(b"abc")
            assert client.recv(3) == b"abc"
            applied = served.apply(upgraded(port, member(web.port)))
            assert applied.returncode == 0, applied.stderr
            with connect(port) as other:
                wait_until(lambda: get(other) == b"200 ok")

            client.sendall(b"def")
            assert client.recv(3) == b"def"
