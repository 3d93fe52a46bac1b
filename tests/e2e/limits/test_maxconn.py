"""Connection limits of a listener and of the whole load balancer: the excess waits in the kernel's queue."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import ScriptedMember, connect, echo, get, http_member
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from amphorad.admin import Client

LIMIT = 3


def limited(port: int, target: int, where: str, limit: int, mode: str = "tcp") -> str:
    if where == "listener":
        return lb_file(listener("a", port, [member(target)], maxconn=limit, mode=mode))
    return lb_file(listener("a", port, [member(target)], mode=mode), maxconn=limit)


def serves_now(client: socket.socket) -> bool:
    """Whether an echo comes; the byte was sent before."""
    try:
        return client.recv(1) == b"x"
    except TimeoutError:
        return False


def open_clients(stack: ExitStack, port: int, count: int) -> list[socket.socket]:
    clients = [stack.enter_context(connect(port)) for _number in range(count)]
    for client in clients:
        client.sendall(b"x")
    return clients


def current(admin: Client) -> int:
    return admin.status().listeners[0].counts.current


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("where", ["listener", "global"])
def test_limit_excess_waits_and_is_served_when_a_session_ends(tmp_path: Path, where: str, threads: str) -> None:
    port = free_port()
    with ScriptedMember(echo) as target, ExitStack() as stack:
        served = stack.enter_context(Served(tmp_path, limited(port, target.port, where, LIMIT), "--threads", threads))
        admin = stack.enter_context(served.ask())
        first = open_clients(stack, port, LIMIT)
        assert all(serves_now(client) for client in first)
        waiting = open_clients(stack, port, LIMIT)
        for client in waiting:
            client.settimeout(0.1)
        assert not any(serves_now(client) for client in waiting)
        assert current(admin) == LIMIT

        for client in first:
            client.close()

        for client in waiting:
            client.settimeout(10)
        assert all(serves_now(client) for client in waiting)
        assert admin.status().listeners[0].counts.max_current == LIMIT
        assert target.sessions == 2 * LIMIT


@pytest.mark.parametrize("where", ["listener", "global"])
def test_limit_raised_by_apply_serves_those_who_wait(tmp_path: Path, where: str) -> None:
    port = free_port()
    with ScriptedMember(echo) as target, ExitStack() as stack:
        served = stack.enter_context(Served(tmp_path, limited(port, target.port, where, LIMIT)))
        admin = stack.enter_context(served.ask())
        clients = open_clients(stack, port, LIMIT + 2)
        target.wait_sessions(LIMIT)
        wait_until(lambda: current(admin) == LIMIT)

        admin.apply(limited(port, target.port, where, LIMIT + 1), "lb.cfg")
        target.wait_sessions(LIMIT + 1)
        wait_until(lambda: current(admin) == LIMIT + 1)
        admin.apply(limited(port, target.port, where, LIMIT + 2), "lb.cfg")

        assert all(serves_now(client) for client in clients)


def test_limit_lowered_by_apply_keeps_the_sessions_that_are_there(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as target, ExitStack() as stack:
        served = stack.enter_context(Served(tmp_path, limited(port, target.port, "listener", 4)))
        admin = stack.enter_context(served.ask())
        clients = open_clients(stack, port, 4)
        assert all(serves_now(client) for client in clients)

        admin.apply(limited(port, target.port, "listener", 1), "lb.cfg")

        (late,) = open_clients(stack, port, 1)
        for client in clients:
            client.sendall(b"x")
        assert all(serves_now(client) for client in clients)
        for client in clients[:3]:
            client.close()
        late.settimeout(0.1)
        assert not serves_now(late)
        clients[3].close()
        late.settimeout(10)
        assert serves_now(late)


def test_global_limit_place_freed_on_one_listener_serves_the_other(tmp_path: Path) -> None:
    one, other = free_port(), free_port()
    with ScriptedMember(echo) as target, ExitStack() as stack:
        text = lb_file(
            listener("a", one, [member(target.port)]), listener("b", other, [member(target.port)]), maxconn=1
        )
        stack.enter_context(Served(tmp_path, text))
        (holder,) = open_clients(stack, one, 1)
        assert serves_now(holder)
        (waiting,) = open_clients(stack, other, 1)
        waiting.settimeout(0.1)
        assert not serves_now(waiting)

        holder.close()

        waiting.settimeout(10)
        assert serves_now(waiting)


def test_limit_counts_http_connections_and_many_clients_pass_it_in_turn(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as target, ExitStack() as stack:
        stack.enter_context(Served(tmp_path, limited(port, target.port, "listener", 2, "http")))
        clients = [stack.enter_context(connect(port)) for _number in range(20)]

        for client in clients:  # in the order of the queue
            assert get(client) == b"200 ok"
            client.close()
