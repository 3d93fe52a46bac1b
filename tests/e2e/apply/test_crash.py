"""Processes that die or are told to end, with traffic on them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

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
    receive_all,
    refuses,
)
from tests.support.served import Served, exists, free_port, wait_until
from tests.support.traffic import Load, Members

if TYPE_CHECKING:
    import socket

    from amphorad.admin import Client


def wait_spare(admin: Client) -> int:
    """Until a spare data plane has loaded its code."""
    named = "amphorad-spare\n"
    return wait_until(lambda: (pid := admin.status().data_plane.spare) and (name_of(pid) == named and pid))


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_killed_data_plane_new_connections_wait_and_are_served_within_100_ms(tmp_path: Path) -> None:
    """Connections made while there is none are in the queue of the socket, which never closes."""
    port = free_port()
    gaps = []
    with ScriptedMember(http_member()) as target:
        text = lb_file(listener("web", port, [member(target.port)], mode="http"))
        with Served(tmp_path, text) as served, served.ask() as admin:
            for kills in range(1, 4):
                first, spare = admin.status().data_plane.pid, wait_spare(admin)

                began = time.monotonic()
                os.kill(first, signal.SIGKILL)
                wait_until(lambda pid=first: not os.path.exists(f"/proc/{pid}/exe"))
                with connect(port) as client:
                    assert get(client) == b"200 ok"
                gaps.append(time.monotonic() - began)

                plane = admin.status().data_plane
                assert (plane.pid, plane.restarts) == (spare, kills)
                assert plane.spare != spare

    print(f"served again after {[f'{gap * 1000:.0f} ms' for gap in gaps]}")
    assert min(gaps) < 0.1  # the least of them, for the machine may be busy


def test_killed_data_plane_without_a_spare_is_replaced(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as target:
        text = lb_file(listener("web", port, [member(target.port)], mode="http"))
        with Served(tmp_path, text) as served, served.ask() as admin:
            first, spare = admin.status().data_plane.pid, wait_spare(admin)

            os.kill(spare, signal.SIGKILL)
            wait_until(lambda: not os.path.exists(f"/proc/{spare}/exe"))
            os.kill(first, signal.SIGKILL)

            wait_until(lambda: admin.status().data_plane.pid not in (0, first, spare))
            with connect(port) as client:
                assert get(client) == b"200 ok"


def test_killed_spare_raises_an_alarm_and_costs_nothing(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as target:
        with Served(tmp_path, lb_file(listener("a", port, [member(target.port)]))) as served, served.ask() as admin:
            with connect(port) as client:
                assert echoes(client)

                os.kill(wait_spare(admin), signal.SIGKILL)

                wait_until(lambda: "spare data plane died signal SIGKILL" in " ".join(admin.status().alarms))
                assert echoes(client)
                assert admin.status().data_plane.restarts == 0


def test_hanging_data_plane_raises_one_alarm_and_is_left_alone(tmp_path: Path) -> None:
    """A stopped process hangs as a whole; the supervisor cannot tell, and a main loop that hangs costs no session."""
    port = free_port()
    with ScriptedMember(echo) as target:
        with Served(tmp_path, lb_file(listener("a", port, [member(target.port)]))) as served, served.ask() as admin:
            with connect(port) as client:
                assert echoes(client)
                pid = admin.status().data_plane.pid
                os.kill(pid, signal.SIGSTOP)
                try:
                    wait_until(lambda: admin.status().alarms)
                finally:
                    os.kill(pid, signal.SIGCONT)
                wait_until(lambda: "data plane answers again" in served.log)

                assert echoes(client)
                (alarm,) = admin.status().alarms
                assert f"data plane pid={pid} has not answered for" in alarm
                assert admin.status().data_plane.pid == pid


def test_killed_data_plane_under_load_only_open_sessions_are_lost(tmp_path: Path) -> None:
    http, tcp = free_port(), free_port()

    async def scenario() -> None:
        async with Members(4) as members:
            lines = [member(port) for port in members.ports]
            text = lb_file(listener("http", http, lines, mode="http"), listener("tcp", tcp, lines))
            with Served(tmp_path, text) as served, served.ask() as admin:
                async with Load(http, tcp, short=6) as load:
                    await load.wait_answered(100)
                    os.kill(admin.status().data_plane.pid, signal.SIGKILL)
                    await load.wait_answered(200)

                print(f"longest request {load.longest_s * 1000:.0f} ms, lost {len(load.failures)} of {load.answered}")
                # each client can have had one request on the process that died
                assert len(load.failures) <= 6, load.failures
                assert not [failure for failure in load.failures if "Refused" in failure]
                assert admin.status().data_plane.restarts == 1

    asyncio.run(scenario())


def test_killed_data_plane_counters_survive_and_gauges_start_again(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as target:
        with Served(tmp_path, lb_file(listener("a", port, [member(target.port)]))) as served, served.ask() as admin:
            with connect(port) as one, connect(port) as two:
                assert echoes(one)
                assert echoes(two)
                before = admin.status().listeners[0]
                assert before.counts.current == 2

                os.kill(admin.status().data_plane.pid, signal.SIGKILL)

                assert is_reset_or_end(one)
                assert is_reset_or_end(two)
            wait_until(lambda: admin.status().data_plane.restarts == 1)
            with connect(port) as client:
                assert echoes(client)
                after = admin.status().listeners[0]
                assert after.counts.current == 1
                assert after.pools[0].members[0].counts.current == 1
                assert after.counts["connections"] == before.counts["connections"] + 1


def test_killed_data_plane_rotation_and_limits_still_hold(tmp_path: Path) -> None:
    """What the board keeps of balancing is usable by the next process, whoever held its locks."""
    port = free_port()
    with ScriptedMember(echo) as one, ScriptedMember(echo) as two:
        text = lb_file(listener("a", port, [member(one.port), member(two.port)], maxconn=2))
        with Served(tmp_path, text) as served, served.ask() as admin:
            for _round in range(3):
                restarts = admin.status().data_plane.restarts
                with connect(port) as first, connect(port) as second:
                    assert echoes(first)
                    assert echoes(second)
                    os.kill(admin.status().data_plane.pid, signal.SIGKILL)
                    wait_until(lambda restarts=restarts: admin.status().data_plane.restarts > restarts)
            with connect(port) as first, connect(port) as second:
                assert echoes(first)
                assert echoes(second)
                assert abs(one.sessions - two.sessions) <= 2


def test_stop_finishes_the_running_request_and_refuses_new_connections(tmp_path: Path) -> None:
    go_on = threading.Event()

    def slow(connection: socket.socket) -> None:
        read_head(connection)
        assert go_on.wait(10)
        connection.sendall(http_answer(b"done"))
        is_reset_or_end(connection)

    port = free_port()
    with ScriptedMember(slow) as target:
        text = lb_file(listener("a", port, [member(target.port)], mode="http"))
        with Served(tmp_path, text, "--grace", "10") as served, connect(port) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: lb\r\n\r\n")
            target.wait_sessions(1)

            served.process.send_signal(signal.SIGTERM)
            wait_until(lambda: refuses(port))
            go_on.set()

            answer = receive_all(client)
            assert answer.endswith(b"done")
            assert b"\r\nconnection: close\r\n" in answer.lower()
            assert served.process.wait(10) == 0


def test_stop_closes_idle_connections_and_ends_at_once(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as target:
        text = lb_file(listener("a", port, [member(target.port)], mode="http"))
        with Served(tmp_path, text, "--grace", "60") as served, connect(port) as client:
            assert get(client) == b"200 ok"

            assert served.end() == 0

            assert client.recv(1) == b""
            target.wait_ended(1)


def test_stop_cuts_what_outlives_the_grace_period(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as target:
        text = lb_file(listener("a", port, [member(target.port)]))
        with Served(tmp_path, text, "--grace", "0.5") as served, connect(port) as client:
            assert echoes(client)
            pid = served.data_plane
            with served.ask() as admin:
                spare = wait_spare(admin)
            began = time.monotonic()

            assert served.end() == 0

            assert 0.4 < time.monotonic() - began < 5
            assert is_reset_or_end(client)
            assert not exists(pid)
            assert not exists(spare)


def test_killed_supervisor_sessions_get_the_grace_period(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as target:
        text = lb_file(listener("a", port, [member(target.port)]))
        with Served(tmp_path, text, "--grace", "10") as served, connect(port) as client:
            assert echoes(client)
            pid = served.data_plane
            with served.ask() as admin:
                spare = wait_spare(admin)

            served.process.kill()
            served.process.wait()
            assert echoes(client)
            wait_until(lambda: not exists(spare))
            client.close()

            wait_until(lambda: not exists(pid))
            assert refuses(port)


def test_stopped_member_process_costs_only_its_own_sessions(tmp_path: Path) -> None:
    """SIGSTOP: the kernel still accepts for it, so nothing is refused, and nothing answers."""
    program = """if True:
        import socket
        listening = socket.create_server(("127.0.0.1", 0))
        print(listening.getsockname()[1], flush=True)
        while True:
            connection = listening.accept()[0]
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\nConnection: close\\r\\n\\r\\ns")
            connection.close()
    """
    port = free_port()
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other, ScriptedMember(http_member()) as target:
        try:
            assert other.stdout is not None
            members = [member(int(other.stdout.readline())), member(target.port)]
            text = lb_file(listener("web", port, members, mode="http", server_ms=400))
            with Served(tmp_path, text, "--threads", "1"), connect(port) as client:
                assert {get(client), get(client)} == {b"200 s", b"200 ok"}
                os.kill(other.pid, signal.SIGSTOP)

                answers = sorted(get(client)[:3] for _request in range(4))

                assert answers == [b"200", b"200", b"504", b"504"]
                os.kill(other.pid, signal.SIGCONT)
                wait_until(lambda: get(client)[:3] == get(client)[:3] == b"200")
        finally:
            other.kill()
