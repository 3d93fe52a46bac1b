"""The end of the server: what has begun ends, what is idle is closed, and the address is free again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.api_rig import TIMEOUT_S, ApiRig, Reply, read_reply, served_api
from tests.support.served import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.api_certificates import Identities

AMPHORA = "5f1a9f6c-0f0e-4c52-9a6e-3d1a52a2a001"
LB = "5f1a9f6c-0f0e-4c52-9a6e-3d1a52a2a002"
UPLOAD = f"/1.0/loadbalancer/{AMPHORA}/{LB}/haproxy"


def close_gate(rig: ApiRig) -> asyncio.Event:
    """Makes every mutating call wait; gives what lets them go on."""
    gate: asyncio.Event = rig.on_loop(asyncio.Event)
    rig.recorder.gate = gate
    return gate


def open_gate(rig: ApiRig, gate: asyncio.Event) -> None:
    rig.loop.call_soon_threadsafe(gate.set)


def is_running(rig: ApiRig) -> bool:
    return bool(rig.on_loop(lambda: rig.server._mutations._running is not None))


def test_close_lets_a_call_end_and_answers_it(tmp_path: Path, identities: Identities) -> None:
    replies: list[Reply] = []
    with served_api(tmp_path, identities) as rig:
        gate = close_gate(rig)
        caller = threading.Thread(target=lambda: replies.append(rig.call("PUT", UPLOAD, b"text")))
        caller.start()
        wait_until(lambda: is_running(rig))
        ending = asyncio.run_coroutine_threadsafe(rig.server.close(), rig.loop)
        wait_until(lambda: not accepts(rig.port))

        open_gate(rig, gate)
        ending.result(TIMEOUT_S)
        caller.join(TIMEOUT_S)

    assert [reply.status for reply in replies] == [202]
    assert rig.recorder.calls == [("upload", AMPHORA, LB, b"text")]


def test_close_refuses_calls_that_wait_for_their_turn(tmp_path: Path, identities: Identities) -> None:
    with served_api(tmp_path, identities) as rig, contextlib.ExitStack() as stack:
        gate = close_gate(rig)
        connections = []
        for number, text in enumerate(("first", "second")):
            connection = stack.enter_context(rig.connected())
            head = f"PUT {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n\r\n{text}"
            connection.sendall(head.encode())
            wait_until(lambda wanted=number: waiting(rig) == wanted)
            connections.append(connection)

        ending = asyncio.run_coroutine_threadsafe(rig.server.close(), rig.loop)
        wait_until(lambda: not accepts(rig.port))
        open_gate(rig, gate)
        replies = [read_reply(connection) for connection in connections]
        ending.result(TIMEOUT_S)

        assert [reply.status for reply in replies] == [202, 500]
        assert replies[1].json()["details"] == "the agent ends; nothing has been changed"
        assert [call[3] for call in rig.recorder.calls] == [b"first"]


def test_close_does_not_wait_for_half_a_body(tmp_path: Path, identities: Identities) -> None:
    with served_api(tmp_path, identities, agent_request_read_timeout="180") as rig, rig.connected() as connection:
        connection.sendall(f"PUT {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf".encode())
        wait_until(lambda: rig.on_loop(lambda: rig.server._connections.requests_count) == 1)

        asyncio.run_coroutine_threadsafe(rig.server.close(), rig.loop).result(5)

        assert rig.recorder.calls == []


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S).close()
    except ConnectionRefusedError:
        return False
    return True


def test_close_does_not_wait_for_clients_that_say_nothing(tmp_path: Path, identities: Identities) -> None:
    with contextlib.ExitStack() as stack:
        with served_api(tmp_path, identities) as rig:
            idle = stack.enter_context(rig.connected())
            stranger = stack.enter_context(socket.create_connection(("127.0.0.1", rig.port), timeout=TIMEOUT_S))
            wait_until(lambda: rig.on_loop(lambda: rig.server._connections.open_count) == 1)

            asyncio.run_coroutine_threadsafe(rig.server.close(), rig.loop).result(2)

            assert idle.recv(1) == b""
            with contextlib.suppress(ConnectionError):
                assert stranger.recv(1) == b""


def test_client_that_goes_away_does_not_stop_what_it_began(rig: ApiRig) -> None:
    gate = close_gate(rig)
    with rig.connected() as connection:
        connection.sendall(f"PUT {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ntext".encode())
        wait_until(lambda: is_running(rig))

    open_gate(rig, gate)

    wait_until(lambda: rig.recorder.calls == [("upload", AMPHORA, LB, b"text")])


def test_reading_calls_do_not_wait_for_a_mutating_one(rig: ApiRig) -> None:
    gate = close_gate(rig)
    with rig.connected() as connection:
        connection.sendall(f"PUT {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ntext".encode())
        wait_until(lambda: is_running(rig))

        assert rig.call("GET", "//").status == 200
        assert rig.call("GET", "/1.0/details").status == 200
        assert rig.recorder.calls == []

        open_gate(rig, gate)
        assert read_reply(connection).status == 202


@pytest.mark.parametrize("order", [("first", "second", "third")])
def test_mutating_calls_take_effect_in_the_order_of_their_arrival(rig: ApiRig, order: tuple[str, ...]) -> None:
    gate = close_gate(rig)
    with contextlib.ExitStack() as stack:
        connections = []
        for number, text in enumerate(order):
            connection = stack.enter_context(rig.connected())
            head = f"PUT {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n\r\n{text}"
            connection.sendall(head.encode())
            wait_until(lambda wanted=number: waiting(rig) == wanted)
            connections.append(connection)

        open_gate(rig, gate)
        assert [read_reply(connection).status for connection in connections] == [202] * len(order)

    assert [call[3].decode() for call in rig.recorder.calls] == list(order)


def waiting(rig: ApiRig) -> int:
    """How many calls wait for their turn; -1 when none runs."""

    def count() -> int:
        mutations = rig.server._mutations
        return len(mutations._turn._waiters or ()) if mutations._running is not None else -1

    return int(rig.on_loop(count))
