"""A traffic-log socket whose reader stops or goes: traffic goes on, what is lost is counted and told."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import ScriptedMember, connect, get, http_member
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT = "    log-format line\\ %HP\n"
REQUESTS = 3000  # the kernel keeps max_dgram_qlen datagrams, 10 to 512 on usual machines


@contextlib.contextmanager
def reader(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(path))
        log.setblocking(False)
        yield log
    path.unlink()


def text(port: int, target: int) -> str:
    written = listener("web", port, [member(target)], mode="http")
    whole = lb_file(written.replace("    mode http\n", "    mode http\n" + FORMAT, 1))
    return whole.replace("    no log\n", "    log global\n")


def lines(log: socket.socket) -> list[bytes]:
    """What is there now."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(log.recv(65536).split(b": ", 1)[1].strip())
    return found


def line_comes(log: socket.socket, client: socket.socket, path: str) -> bool:
    assert get(client, path) == b"200 ok"
    return any(line == b"line " + path.encode() for line in lines(log))


@pytest.mark.timeout(60)
def test_reader_that_stops_costs_lines_and_no_request(tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "log.sock"
    with ScriptedMember(http_member()) as target, reader(path) as log:
        with Served(tmp_path, text(port, target.port), "--traffic-log", str(path)) as served, connect(port) as client:
            answers = {get(client, f"/{number}") for number in range(REQUESTS)}
            alarm = wait_until(
                lambda: next((text for text in served.status()["alarms"] if "traffic log" in text), None)
            )
            kept = lines(log)
            wait_until(lambda: line_comes(log, client, "/after"))

    assert answers == {b"200 ok"}
    assert "its reader is too slow" in alarm
    assert kept == [f"line /{number}".encode() for number in range(len(kept))]  # the first ones, in order
    assert 0 < len(kept) < REQUESTS


@pytest.mark.timeout(60)
def test_reader_that_goes_and_comes_back_gets_lines_again(tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "log.sock"
    with ScriptedMember(http_member()) as target:
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(reader(path))
            served = Served(tmp_path, text(port, target.port), "--traffic-log", str(path))
            with served, connect(port) as client:
                wait_until(lambda: line_comes(log, client, "/first"))
                stack.close()
                assert {get(client, f"/{number}") for number in range(50)} == {b"200 ok"}
                wait_until(lambda: any("traffic log lost" in alarm for alarm in served.status()["alarms"]))
                with reader(path) as again:
                    wait_until(lambda: line_comes(again, client, "/again"))
