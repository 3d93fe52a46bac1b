"""`amphorad serve` and the commands that talk to it, as an operator uses them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from amphorad.cli.files import read_file
from amphorad.supervisor import Options, Supervisor
from tests.support.lb_file import balancer_text
from tests.support.served import Served, amphorad, exists, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def member() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def test_serve_ready_line_then_accepts_and_ends_clean(tmp_path: Path, member: int) -> None:
    port = free_port()
    with Served(tmp_path, balancer_text(("web", port, [member]))) as served:
        data_plane = served.data_plane

        assert re.fullmatch(r"ready listeners=1 sockets=1 threads=2 generation=1 .*\n", served.ready_line)
        assert accepts(port)
        assert stat.S_IMODE((served.state_dir / "admin.sock").stat().st_mode) == 0o600
        assert stat.S_IMODE(served.state_dir.stat().st_mode) == 0o700
        assert served.end() == 0

    assert not accepts(port)
    assert not exists(data_plane)
    assert not (served.state_dir / "admin.sock").exists()


def test_serve_refused_file_exits_1_with_every_error(tmp_path: Path) -> None:
    file = tmp_path / "bad.cfg"
    file.write_text(balancer_text(("web", 1, [])).replace("mode tcp", "mode x"))

    result = amphorad("serve", "-f", str(file), "--state-dir", str(tmp_path / "state"))

    assert result.returncode == 1
    assert result.stderr.count(f"{file}:") == 2
    assert result.stdout == ""


def test_serve_taken_port_exits_3_naming_the_listener(tmp_path: Path, member: int) -> None:
    file = tmp_path / "lb.cfg"
    file.write_text(balancer_text(("shop", member, [1])))

    result = amphorad("serve", "-f", str(file), "--state-dir", str(tmp_path / "state"))

    assert result.returncode == 3
    assert f"listener shop: cannot listen on address 127.0.0.1 port {member}: Address already in use" in result.stderr


def test_serve_second_one_in_same_state_directory_exits_5(tmp_path: Path, member: int) -> None:
    with Served(tmp_path, balancer_text(("web", free_port(), [member]))) as served:
        other = tmp_path / "other.cfg"
        other.write_text(balancer_text(("web", free_port(), [member])))

        result = amphorad("serve", "-f", str(other), "--state-dir", str(served.state_dir))

        assert result.returncode == 5
        assert served.data_plane


def test_apply_opens_and_closes_what_changed_only(tmp_path: Path, member: int) -> None:
    kept, removed, added = free_port(), free_port(), free_port()
    with Served(tmp_path, balancer_text(("a", kept, [member]), ("b", removed, [member]))) as served:
        data_plane = served.data_plane

        result = served.apply(balancer_text(("a", kept, [member]), ("c", added, [member])))

        assert result.returncode == 0, result.stderr
        assert "generation 2" in result.stdout
        assert "1 kept, 1 opened, 1 closed" in result.stdout
        assert accepts(kept)
        assert accepts(added)
        wait_until(lambda: not accepts(removed))
        assert served.data_plane == data_plane


def test_apply_same_text_changes_nothing(tmp_path: Path, member: int) -> None:
    text = balancer_text(("a", free_port(), [member]))
    with Served(tmp_path, text) as served:
        result = served.apply(text)

        assert result.returncode == 0
        assert "nothing to change" in result.stdout
        assert served.status()["generation"] == 1


def test_apply_refused_file_exits_1_and_the_old_one_serves(tmp_path: Path, member: int) -> None:
    port = free_port()
    with Served(tmp_path, balancer_text(("a", port, [member]))) as served:
        result = served.apply(balancer_text(("a", port, [member])) + "    frobnicate\n")

        assert result.returncode == 1
        assert re.search(r"lb\.cfg:\d+: ", result.stderr)
        assert accepts(port)
        assert served.status()["generation"] == 1


def test_apply_taken_port_exits_3_and_the_old_one_serves(tmp_path: Path, member: int) -> None:
    port = free_port()
    with Served(tmp_path, balancer_text(("a", port, [member]))) as served:
        result = served.apply(balancer_text(("a", port, [member]), ("b", member, [port])))

        assert result.returncode == 3
        assert "listener b" in result.stderr
        assert accepts(port)


def test_apply_port_that_changes_its_listener_is_never_closed(tmp_path: Path, member: int) -> None:
    port = free_port()
    with Served(tmp_path, balancer_text(("a", port, [member]))) as served:
        result = served.apply(balancer_text(("b", port, [member])))

        assert "1 kept, 0 opened, 0 closed" in result.stdout
        assert accepts(port)


def test_hangup_applies_the_file_again(tmp_path: Path, member: int) -> None:
    port, added = free_port(), free_port()
    with Served(tmp_path, balancer_text(("a", port, [member]))) as served:
        served.file.write_text(balancer_text(("a", port, [member]), ("b", added, [member])))

        served.process.send_signal(signal.SIGHUP)

        wait_until(lambda: accepts(added))
        assert served.status()["generation"] == 2


def test_hangup_with_refused_file_keeps_serving_and_says_why(tmp_path: Path, member: int) -> None:
    port = free_port()
    with Served(tmp_path, balancer_text(("a", port, [member]))) as served:
        served.file.write_text("nonsense\n")

        served.process.send_signal(signal.SIGHUP)

        wait_until(lambda: "lb.cfg:1: " in served.log)
        assert accepts(port)


def test_data_plane_killed_is_replaced_on_the_same_sockets(tmp_path: Path, member: int) -> None:
    port = free_port()
    with Served(tmp_path, balancer_text(("a", port, [member]))) as served:
        first = served.data_plane

        os.kill(first, signal.SIGKILL)

        assert accepts(port)  # the socket never closes: the kernel keeps the connection until the new one takes it
        second = wait_until(lambda: (pid := served.data_plane) != first and pid)
        status = served.status()
        assert status["data_plane"]["restarts"] == 1
        assert status["data_plane"]["pid"] == second
        assert "SIGKILL" in status["alarms"][0]
        assert served.apply(balancer_text(("a", port, [member]), ("b", free_port(), [member]))).returncode == 0


def test_supervisor_killed_ends_the_data_plane(tmp_path: Path, member: int) -> None:
    port = free_port()
    with Served(tmp_path, balancer_text(("a", port, [member])), "--grace", "1") as served:
        data_plane = served.data_plane

        served.process.kill()

        wait_until(lambda: not exists(data_plane))
        wait_until(lambda: not accepts(port))


def test_dead_supervisor_leaves_nothing_in_the_way_of_the_next(tmp_path: Path, member: int) -> None:
    text = balancer_text(("a", free_port(), [member]))
    with Served(tmp_path, text, "--grace", "0") as served:
        data_plane = served.data_plane
        served.process.kill()
        wait_until(lambda: not exists(data_plane))

    with Served(tmp_path, text) as served:
        assert served.data_plane


def test_status_and_top_show_every_object(tmp_path: Path, member: int) -> None:
    with Served(tmp_path, balancer_text(("web", free_port(), [member]))) as served:
        status = served.command("status")
        top = served.command("top", "--once", "--interval", "0.1")

    for result in (status, top):
        assert result.returncode == 0
        for word in ("listener web", "pool web-pool", f"m{member}", "data plane pid"):
            assert word in result.stdout


def test_no_listeners_is_a_valid_configuration(tmp_path: Path) -> None:
    with Served(tmp_path, balancer_text()) as served:
        assert "sockets=0" in served.ready_line


def test_log_goes_to_the_named_file(tmp_path: Path, member: int) -> None:
    target = tmp_path / "amphorad.log"
    with Served(tmp_path, balancer_text(("a", free_port(), [member])), "--log-target", str(target)) as served:
        assert served.end() == 0

    assert "stopped" in target.read_text()


def test_second_signal_ends_the_grace_period(tmp_path: Path, member: int) -> None:
    port = free_port()
    with (
        Served(tmp_path, balancer_text(("a", port, [member])), "--grace", "60") as served,
        socket.create_connection(("127.0.0.1", port)) as client,
    ):
        wait_until(lambda: served.status()["data_plane"]["sessions"] == 1)

        served.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not accepts(port))
        client.sendall(b"still open")

        assert served.end() == 0


def test_session_of_another_generation_goes_on_through_an_apply(tmp_path: Path) -> None:
    port, added = free_port(), free_port()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        first = listening.getsockname()[1]
        with (
            Served(tmp_path, balancer_text(("a", port, [first]))) as served,
            socket.create_connection(("127.0.0.1", port), timeout=5) as client,
        ):
            client.sendall(b"before")
            member_side, _address = listening.accept()
            with member_side:
                assert member_side.recv(100) == b"before"

                assert served.apply(balancer_text(("b", added, [first]))).returncode == 0
                wait_until(lambda: served.status()["data_plane"]["draining"] == 1)

                client.sendall(b"after")
                assert member_side.recv(100) == b"after"
                member_side.sendall(b"answer")
                assert client.recv(100) == b"answer"


def test_demo_for_some_seconds_answers_and_leaves_nothing() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "amphorad", "demo", "--seconds", "3", "--rate", "100"],
        capture_output=True,
        text=True,
        timeout=18,
    )

    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if line.startswith("t=")]
    assert len(lines) >= 2
    assert " bad=0 " in lines[-1]
    for name in ("apple", "banana", "cherry"):
        assert re.search(rf"{name}=(2\d|3\d|4\d)%", lines[-1]), lines


def test_serve_more_threads_in_the_file_than_there_can_be_are_cut_to_the_limit(tmp_path: Path, member: int) -> None:
    """The controller renders the number of CPUs."""
    port = free_port()
    file = tmp_path / "many.cfg"
    file.write_text(balancer_text(("a", port, [member])).replace("    daemon\n", "    daemon\n    nbthread 100\n"))
    options = Options(file=file, state_dir=tmp_path / "s", admin_socket=tmp_path / "admin.sock", grace_s=0)

    async def threads() -> int:
        supervisor = Supervisor(options, read_file)
        try:
            await supervisor.start()
            return supervisor.status().data_plane.threads
        finally:
            await supervisor.stop()

    assert asyncio.run(threads()) == 64
