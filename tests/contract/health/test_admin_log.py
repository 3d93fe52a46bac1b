"""Admin log lines at the syslog socket: the same file, the same members, HAProxy and a whole amphorad (contract 4.11, 7.9)."""

from __future__ import annotations

import re
import select
import socket
import subprocess
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.reference_haproxy import haproxy_program
from tests.support.scripted_member import ScriptedMember, http_member
from tests.support.served import Served, free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.haproxy, pytest.mark.timeout(120)]

WAIT_S = 30.0
_TEXT = """\
global
    log {socket} local0
    log {socket} local1 notice
    maxconn 100

defaults
    log global
    retries 3
    option redispatch

frontend l
    maxconn 100
    bind 127.0.0.1:{port}
    mode http
    default_backend p:l
    timeout client 5000
    log-format 12345678\\ l\\ %f\\ %ci\\ %cp\\ %t\\ %{{+Q}}r\\ %ST\\ %B\\ %U\\ %[ssl_c_verify]\\ %{{+Q}}[ssl_c_s_dn]\\ %b\\ %s\\ %Tt\\ %tsc

backend p:l
    mode http
    balance roundrobin
    timeout check 1s
    option httpchk GET /health
    http-check expect rstatus 200
    fullconn 100
    option allbackups
    timeout connect 1000
    timeout server 5000
{servers}"""


class SystemLog:
    """A log daemon's socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.lines: list[str] = []

    def wait(self, *texts: str) -> None:
        """Until each of these has come in a line to both targets."""
        deadline = time.monotonic() + WAIT_S
        while not all(sum(text in line for line in self.lines) >= 2 for text in texts):
            assert time.monotonic() < deadline, (texts, self.lines)
            if select.select([self._socket], [], [], 0.1)[0]:
                self.lines.append(self._socket.recv(8192).decode())

    def close(self) -> None:
        self._socket.close()


def text_of(log: SystemLog, ports: dict[str, int]) -> str:
    servers = [f"    server {name} 127.0.0.1:{at} weight 1 check inter 1s fall 1 rise 1" for name, at in ports.items()]
    servers[-1] += " backup"
    return _TEXT.format(socket=log.path, port=free_port(), servers="\n".join(servers) + "\n")


def play(log: SystemLog, ports: dict[str, int], begin: Callable[[], Any]) -> list[str]:
    """Members go and come back one after the other; the lines, without what differs from one run to the next.

    A member goes right after a check, so that none is under way.
    """
    with ExitStack() as stack:
        up = {name: stack.enter_context(ExitStack()) for name in ports}
        members = {name: up[name].enter_context(ScriptedMember(http_member(), port=at)) for name, at in ports.items()}
        begin()
        for name, member in members.items():
            member.wait_ended(member.ended + 1)
            up[name].close()
            log.wait(f"/{name} is DOWN")
        log.wait("has no server available!")
        for name in reversed(ports):
            up[name].enter_context(ScriptedMember(http_member(), port=ports[name]))
            log.wait(f"/{name} is UP")
    return [without_what_differs(line) for line in log.lines]


def without_what_differs(line: str) -> str:
    found = re.fullmatch(r"(<\d+>)[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d haproxy\[\d+\]: (.*\n)", line)
    assert found is not None, line
    return found[1] + re.sub(r"check duration: \d+ms", "check duration: Nms", found[2])


def test_state_changes_are_logged_as_haproxy_logs_them(tmp_path: Path) -> None:
    program = haproxy_program()
    assert program is not None
    ports = {name: free_port() for name in ("apple", "banana", "cherry")}
    with ExitStack() as stack:
        theirs_log, ours_log = (stack.enter_context(closing(SystemLog(tmp_path / name))) for name in ("theirs", "ours"))
        file = tmp_path / "haproxy.cfg"
        file.write_text(text_of(theirs_log, ports))

        def begin_theirs() -> None:
            haproxy = subprocess.Popen([program, "-db", "-f", str(file)], stderr=subprocess.DEVNULL)
            stack.callback(haproxy.wait)
            stack.callback(haproxy.kill)

        theirs = play(theirs_log, ports, begin_theirs)
        (tmp_path / "served").mkdir()
        served = text_of(ours_log, ports)
        ours = play(ours_log, ports, lambda: stack.enter_context(Served(tmp_path / "served", served)))

    assert ours == theirs
    assert len(ours) == 2 * 7
    assert ours[0].startswith("<129>Server p:l/apple is DOWN, reason: Layer4 connection problem, info: ")
    assert ours[1].startswith("<137>Server p:l/apple is DOWN, reason: ")
    assert "<136>backend p:l has no server available!\n" in ours
    assert ours[-1].startswith("<141>Server p:l/apple is UP, reason: Layer7 check passed, code: 200, check duration: N")
