"""TCP listeners: members that refuse or do not answer, and the three timeouts."""

from __future__ import annotations

import select
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import ScriptedMember, connect, echo, is_reset_or_end
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLACK_S = 3.0  # what a busy machine may add


@pytest.fixture
def refused() -> Iterator[int]:
    """A port that refuses connections and that nobody else takes."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def silent() -> Iterator[int]:
    """A port whose queue is full: connection attempts get no answer at all."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _filler in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def greets(client: socket.socket) -> bool:
    client.sendall(b"x")
    return client.recv(1) == b"x"


def pause() -> None:
    """Of a peer that is neither silent nor busy: 0.1 s."""
    select.select([], [], [], 0.1)


def test_refused_member_session_goes_to_another_at_once(tmp_path: Path, refused: int) -> None:
    port = free_port()
    with ScriptedMember(echo) as target:
        text = lb_file(listener("tcp", port, [member(refused), member(target.port)]))
        with Served(tmp_path, text) as served, served.ask() as admin:
            began = time.monotonic()
            for _session in range(10):
                with connect(port) as client:
                    assert greets(client)

            assert time.monotonic() - began < SLACK_S
            dead, alive = admin.status().listeners[0].pools[0].members
            assert dead.counts["redispatches"] + alive.counts["redispatches"] >= 1
            assert dead.counts["connect_errors"] >= 1
            assert alive.counts["connect_errors"] == 0


def test_refused_members_all_but_one_every_session_arrives(tmp_path: Path, refused: int) -> None:
    """As many dead members as retries: a retry goes to none that has just failed."""
    port = free_port()
    with ScriptedMember(echo) as target:
        dead = [member(refused, name=f"dead{number}") for number in range(3)]
        with Served(tmp_path, lb_file(listener("tcp", port, [*dead, member(target.port)]))):
            for _session in range(10):
                with connect(port) as client:
                    assert greets(client)


def test_refused_only_member_is_tried_four_times_then_closed(tmp_path: Path, refused: int) -> None:
    """`retries 3`, one pause of min(timeout connect, 1 s) before each."""
    port = free_port()
    text = lb_file(listener("tcp", port, [member(refused)], connect_ms=100))
    with Served(tmp_path, text) as served, served.ask() as admin, connect(port) as client:
        began = time.monotonic()

        assert is_reset_or_end(client)

        assert 0.3 <= time.monotonic() - began < 0.3 + SLACK_S
        counts = admin.status().listeners[0].pools[0].members[0].counts
        assert counts["connect_errors"] == 4
        assert counts["retries"] == 3


def test_refused_only_member_that_comes_back_gets_the_waiting_session(tmp_path: Path) -> None:
    port = free_port()
    with socket.socket() as listening:
        listening.settimeout(10)
        listening.bind(("127.0.0.1", 0))
        text = lb_file(listener("tcp", port, [member(listening.getsockname()[1])], connect_ms=300))
        with Served(tmp_path, text) as served, served.ask() as admin, connect(port) as client:
            wait_until(lambda: admin.status().listeners[0].pools[0].counts["connect_errors"])

            listening.listen()

            with listening.accept()[0] as session:
                session.sendall(b"x")
                assert client.recv(1) == b"x"


def test_waiting_session_goes_to_the_member_that_an_apply_brings(tmp_path: Path, refused: int) -> None:
    port = free_port()
    with ScriptedMember(echo) as target:
        text = lb_file(listener("tcp", port, [member(refused)]))
        with Served(tmp_path, text) as served, served.ask() as admin, connect(port) as client:
            wait_until(lambda: admin.status().listeners[0].pools[0].counts["connect_errors"])

            admin.apply(lb_file(listener("tcp", port, [member(target.port)])), "lb.cfg")

            assert greets(client)


def test_connect_timeout_leads_to_another_member(tmp_path: Path, silent: int) -> None:
    port = free_port()
    with ScriptedMember(echo) as target:
        text = lb_file(listener("tcp", port, [member(silent), member(target.port)], connect_ms=200))
        with Served(tmp_path, text, "--threads", "1"):
            for _session in range(2):
                with connect(port) as client:
                    assert greets(client)


def test_connect_timeout_of_the_only_member_ends_the_session(tmp_path: Path, silent: int) -> None:
    port = free_port()
    text = lb_file(listener("tcp", port, [member(silent)], connect_ms=100), retries=1)
    with Served(tmp_path, text), connect(port) as client:
        began = time.monotonic()

        assert is_reset_or_end(client)
        assert time.monotonic() - began < 0.3 + SLACK_S


@pytest.mark.parametrize(("client_ms", "server_ms", "side"), [(300, 20000, "client"), (20000, 300, "server")])
def test_idle_session_is_ended_by_the_shorter_timeout(
    tmp_path: Path, client_ms: int, server_ms: int, side: str
) -> None:
    port = free_port()
    with ScriptedMember(echo) as target:
        text = lb_file(listener("tcp", port, [member(target.port)], client_ms=client_ms, server_ms=server_ms))
        with Served(tmp_path, text), connect(port) as client:
            assert greets(client)
            began = time.monotonic()

            assert is_reset_or_end(client), side

            assert 0.25 <= time.monotonic() - began < 0.3 + SLACK_S
            target.wait_ended(1)


def test_busy_session_outlives_its_timeouts(tmp_path: Path) -> None:
    """Activity on either side counts for both, as in HAProxy."""
    port = free_port()
    with ScriptedMember(echo) as target:
        text = lb_file(listener("tcp", port, [member(target.port)], client_ms=1000, server_ms=1000))
        with Served(tmp_path, text), connect(port) as client:
            began = time.monotonic()
            while time.monotonic() - began < 2.0:
                assert greets(client)
                pause()


def test_one_way_stream_outlives_the_timeout_of_the_side_that_is_silent(tmp_path: Path) -> None:
    def drip(connection: socket.socket) -> None:
        for _turn in range(25):
            connection.sendall(b".")
            pause()

    port = free_port()
    with ScriptedMember(drip) as target:
        text = lb_file(listener("tcp", port, [member(target.port)], client_ms=1000, server_ms=1000))
        with Served(tmp_path, text), connect(port) as client:
            received = 0
            while client.recv(1):
                received += 1

    assert received == 25
