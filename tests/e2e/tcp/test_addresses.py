"""Where listeners accept and members are: both address families, several binds."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import ScriptedMember, connect, echo, get, http_answer, read_head
from tests.support.served import Served

if TYPE_CHECKING:
    from pathlib import Path

FAMILIES = [("127.0.0.1", "::1"), ("::1", "127.0.0.1"), ("::1", "::1"), ("127.0.0.1", "127.0.0.2")]


def free_port_of(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(("vip", "member_address"), FAMILIES)
def test_vip_and_member_of_any_family(tmp_path: Path, vip: str, member_address: str) -> None:
    port = free_port_of(vip)
    with ScriptedMember(echo, address=member_address) as target:
        text = lb_file(listener("tcp", 0, [member(target.port, address=member_address)], binds=[(vip, port)]))
        with Served(tmp_path, text), connect(port, address=vip) as client:
            client.sendall(b"x")

            assert client.recv(1) == b"x"


def test_several_binds_of_a_listener_all_accept(tmp_path: Path) -> None:
    """The VIP, an additional VIP of each family, and another port."""
    binds = [(address, free_port_of(address)) for address in ("127.0.0.1", "127.0.0.2", "::1", "127.0.0.1")]
    with ScriptedMember(echo) as target:
        text = lb_file(listener("tcp", 0, [member(target.port)], binds=binds))
        with Served(tmp_path, text) as served, served.ask() as admin:
            assert "sockets=4" in served.ready_line
            for address, port in binds:
                with connect(port, address=address) as client:
                    client.sendall(b"x")
                    assert client.recv(1) == b"x"
            assert admin.status().listeners[0].counts["connections"] == 4


def test_ipv6_client_address_is_forwarded_without_brackets(tmp_path: Path) -> None:
    heads: list[bytes] = []

    def script(connection: socket.socket) -> None:
        heads.append(read_head(connection))
        connection.sendall(http_answer())

    port = free_port_of("::1")
    with ScriptedMember(script, address="::1") as target:
        pool = ["    option forwardfor\n", member(target.port, address="::1")]
        text = lb_file(listener("web", 0, pool, binds=[("::1", port)], mode="http"))
        with Served(tmp_path, text), connect(port, address="::1") as client:
            assert get(client) == b"200 ok"

    assert b"\r\nx-forwarded-for: ::1\r\n" in heads[0].lower()
