"""What an apply does to the sessions, connections and counters that are there."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from amphorad.admin import AdminError
from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import (
    ScriptedMember,
    connect,
    echo,
    echoes,
    get,
    http_answer,
    http_member,
    is_reset_or_end,
    read_head,
    read_response,
    receive_all,
    refuses,
)
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from amphorad.admin import Client


def idle_of(admin: Client) -> list[int]:
    return [each.idle for each in admin.status().listeners[0].pools[0].members]


def test_removed_member_keeps_its_sessions_until_they_end(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as old, ScriptedMember(echo) as new:
        with Served(tmp_path, lb_file(listener("a", port, [member(old.port)]))) as served, served.ask() as admin:
            with connect(port) as held, connect(port) as other:
                assert echoes(held)
                assert echoes(other)

                receipt = admin.apply(lb_file(listener("a", port, [member(new.port)])), "lb.cfg")

                assert any(line.startswith("- member") for line in receipt.changes), receipt
                assert echoes(held)
                with connect(port) as client:
                    assert echoes(client)
                assert old.sessions == 2
                assert new.sessions == 1
                assert echoes(other)
            old.wait_ended(2)


def test_member_that_moves_to_another_address_gets_new_sessions_there(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as old, ScriptedMember(echo) as new:
        text = lb_file(listener("a", port, [member(old.port, name="m")]))
        with Served(tmp_path, text) as served, served.ask() as admin, connect(port) as held:
            assert echoes(held)

            admin.apply(lb_file(listener("a", port, [member(new.port, name="m")])), "lb.cfg")

            with connect(port) as client:
                assert echoes(client)
            assert new.sessions == 1
            assert echoes(held)
            counts = admin.status().listeners[0].pools[0].members[0].counts
            assert counts["connections"] == 2


def test_changed_weight_counts_from_the_next_session_on(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as one, ScriptedMember(echo) as other:
        members = [member(one.port), member(other.port)]
        with Served(tmp_path, lb_file(listener("a", port, members))) as served, served.ask() as admin:
            with connect(port) as first, connect(port) as second:
                assert echoes(first)
                assert echoes(second)

                drained = [member(one.port, weight=0), member(other.port, weight=7)]
                admin.apply(lb_file(listener("a", port, drained)), "lb.cfg")

                for _session in range(4):
                    with connect(port) as client:
                        assert echoes(client)
                assert (one.sessions, other.sessions) == (1, 5)
                assert echoes(first)
                assert echoes(second)
                assert admin.status().listeners[0].pools[0].members[0].state == "DRAIN"


def test_idle_connections_of_unchanged_members_survive(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as kept, ScriptedMember(http_member()) as removed:
        text = lb_file(listener("a", port, [member(kept.port), member(removed.port)], mode="http"))
        with Served(tmp_path, text, "--threads", "1") as served, served.ask() as admin, connect(port) as client:
            assert get(client) == get(client) == b"200 ok"
            wait_until(lambda: idle_of(admin) == [1, 1])

            admin.apply(lb_file(listener("a", port, [member(kept.port, weight=5)], mode="http")), "lb.cfg")

            removed.wait_ended(1)
            assert get(client) == get(client) == b"200 ok"
            assert kept.sessions == 1
            wait_until(lambda: idle_of(admin) == [1])


def test_counters_survive_an_apply(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as target:
        members = [member(target.port)]
        with Served(tmp_path, lb_file(listener("a", port, members, mode="http"))) as served, served.ask() as admin:
            with connect(port) as client:
                assert get(client) == get(client) == b"200 ok"
            wait_until(lambda: admin.status().listeners[0].counts.current == 0)
            before = admin.status().listeners[0]

            added = lb_file(listener("a", port, [*members, member(1, disabled=True)], mode="http", client_ms=40000))
            admin.apply(added, "lb.cfg")

            after = admin.status().listeners[0]
            assert after.counts.counters == before.counts.counters
            assert after.pools[0].members[0].counts.counters == before.pools[0].members[0].counts.counters
            assert after.counts["requests"] == 2


def test_removed_listener_keeps_tcp_sessions_and_frees_its_port(tmp_path: Path) -> None:
    kept, removed = free_port(), free_port()
    with ScriptedMember(echo) as target:
        members = [member(target.port)]
        text = lb_file(listener("kept", kept, members), listener("removed", removed, members))
        with Served(tmp_path, text) as served, served.ask() as admin, connect(removed) as held:
            assert echoes(held)

            receipt = admin.apply(lb_file(listener("kept", kept, members)), "lb.cfg")

            assert receipt.sockets_closed == 1
            wait_until(lambda: refuses(removed))
            with socket.create_server(("127.0.0.1", removed)):
                assert echoes(held)
            assert admin.status().data_plane.draining == 1
            held.shutdown(socket.SHUT_WR)
            assert held.recv(1) == b""
            wait_until(lambda: admin.status().data_plane.draining == 0)


def test_removed_listener_can_be_added_again_while_it_drains(tmp_path: Path) -> None:
    kept, port = free_port(), free_port()
    with ScriptedMember(echo) as target:
        members = [member(target.port)]
        both = lb_file(listener("kept", kept, members), listener("again", port, members))
        with Served(tmp_path, both) as served, served.ask() as admin, connect(port) as held:
            assert echoes(held)
            admin.apply(lb_file(listener("kept", kept, members)), "lb.cfg")

            admin.apply(both, "lb.cfg")

            with connect(port) as client:
                assert echoes(client)
                assert echoes(held)
                assert admin.status().listeners[1].counts.current == 2
            held.close()
            wait_until(lambda: admin.status().listeners[1].counts.current == 0)
            with connect(port) as client:
                assert echoes(client)


def test_removed_listener_finishes_http_requests_then_closes(tmp_path: Path) -> None:
    """The running request gets its answer with `Connection: close`; connections that wait for a request end at once."""
    go_on = threading.Event()

    def slow(connection: socket.socket) -> None:
        while head := read_head(connection):
            if b"/slow" in head:
                assert go_on.wait(10)
            connection.sendall(http_answer(b"done"))

    port = free_port()
    with ScriptedMember(slow) as target:
        text = lb_file(listener("a", port, [member(target.port)], mode="http"))
        with Served(tmp_path, text) as served, served.ask() as admin, connect(port) as busy, connect(port) as idle:
            assert get(idle) == b"200 done"
            assert get(busy) == b"200 done"
            busy.sendall(b"GET /slow HTTP/1.1\r\nHost: lb\r\n\r\n")
            wait_until(lambda: admin.status().listeners[0].counts["requests"] == 3)

            admin.apply(lb_file(), "lb.cfg")

            assert idle.recv(1) == b""
            go_on.set()
            answer = receive_all(busy)
            assert answer.endswith(b"done")
            assert b"\r\nconnection: close\r\n" in answer.lower()
            wait_until(lambda: admin.status().data_plane.sessions == 0)


def test_request_in_flight_to_a_removed_member_gets_its_answer(tmp_path: Path) -> None:
    go_on = threading.Event()

    def slow(connection: socket.socket) -> None:
        read_head(connection)
        assert go_on.wait(10)
        connection.sendall(http_answer(b"old"))
        is_reset_or_end(connection)

    port = free_port()
    with ScriptedMember(slow) as old, ScriptedMember(http_member(b"new")) as new:
        text = lb_file(listener("a", port, [member(old.port)], mode="http"))
        with Served(tmp_path, text) as served, served.ask() as admin, connect(port) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: lb\r\n\r\n")
            old.wait_sessions(1)

            admin.apply(lb_file(listener("a", port, [member(new.port)], mode="http")), "lb.cfg")

            go_on.set()
            assert read_response(client) == b"200 old"
            assert get(client) == b"200 new"
            old.wait_ended(1)  # its connection is not kept


def test_binds_added_and_removed_leave_the_others_alone(tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    with ScriptedMember(echo) as target:
        members = [member(target.port)]

        def text(*ports: int) -> str:
            return lb_file(listener("a", 0, members, binds=[("127.0.0.1", port) for port in ports]))

        with Served(tmp_path, text(first)) as served, served.ask() as admin, connect(first) as held:
            assert echoes(held)

            receipt = admin.apply(text(first, second), "lb.cfg")

            assert (receipt.sockets_kept, receipt.sockets_opened, receipt.sockets_closed) == (1, 1, 0)
            with connect(second) as client:
                assert echoes(client)
                admin.apply(text(second), "lb.cfg")
                assert echoes(client)
            wait_until(lambda: refuses(first))
            assert echoes(held)


def test_listener_takes_the_port_of_a_removed_one(tmp_path: Path) -> None:
    """One socket all along: nobody is refused in between."""
    port = free_port()
    with ScriptedMember(echo) as old, ScriptedMember(http_member()) as new:
        with Served(tmp_path, lb_file(listener("a", port, [member(old.port)]))) as served, served.ask() as admin:
            with connect(port) as held:
                assert echoes(held)

                admin.apply(lb_file(listener("b", port, [member(new.port)], mode="http")), "lb.cfg")

                with connect(port) as client:
                    assert get(client) == b"200 ok"
                assert echoes(held)


@pytest.mark.parametrize("change", ["garbage", "taken port", "not carried out", "too many addresses"])
def test_refused_apply_leaves_everything_as_it_was(tmp_path: Path, change: str) -> None:
    port = free_port()
    with ScriptedMember(echo) as target, ScriptedMember(echo) as unused:
        good = lb_file(listener("a", port, [member(target.port)]))
        changed = lb_file(listener("a", port, [member(target.port, disabled=True), member(unused.port)]))
        bad, code, words = {
            "garbage": (changed + "    frobnicate\n", "config", ["lb.cfg:", "frobnicate"]),
            "taken port": (
                changed + listener("shop", unused.port, [member(1)]),
                "listen",
                ["listener shop", f"port {unused.port}", "Address already in use"],
            ),
            "not carried out": (
                # the model is valid, the data plane has no room for it
                changed + listener("long" + "x" * 100, free_port(), [member(1)]),
                "config",
                ["long"],
            ),
            "too many addresses": (
                changed + listener("many", 0, [], binds=[(f"127.0.1.{last}", unused.port) for last in range(1, 34)]),
                "config",
                ["listener many", "32 addresses"],
            ),
        }[change]
        with Served(tmp_path, good) as served, served.ask() as admin, connect(port) as held:
            assert echoes(held)
            # counted just after the byte is on its way
            before = wait_until(lambda: (now := admin.status()).listeners[0].counts["bytes_out"] == 1 and now)

            with pytest.raises(AdminError) as refused:
                admin.apply(bad, "lb.cfg")

            assert refused.value.code == code
            assert all(word in str(refused.value) for word in words), refused.value
            after = admin.status()
            assert after.generation == before.generation
            assert after.data_plane.restarts == 0
            assert after.listeners[0].pools[0].members == before.listeners[0].pools[0].members
            assert echoes(held)
            for _session in range(3):
                with connect(port) as client:
                    assert echoes(client)
            assert unused.sessions == 0
            assert admin.apply(changed, "lb.cfg").changed
