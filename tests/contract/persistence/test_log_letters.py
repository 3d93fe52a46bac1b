"""What the traffic log says of our cookie: the last two letters of the termination state, as HAProxy has them (HAProxy
configuration manual 8.5; Octavia contract section 4.13)."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support import octavia_render as render
from tests.support.persistence_rig import NAMES, ask, persistent_text
from tests.support.reference_haproxy import ReferenceHAProxy
from tests.support.served import Served, free_port
from tests.support.telling_members import TellingMembers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.haproxy, pytest.mark.timeout(90)]
render.require_octavia()

CASES = [
    (b"", "--NI"),
    (b"Cookie: SRV=m2\r\n", "--VN"),
    (b"Cookie: a=b; SRV=unknown\r\n", "--II"),
    (b"Cookie: SRV=m1\r\n", "--DI"),  # disabled
    (b"Cookie: SRV=m2; SRV=m3\r\n", "--VN"),
    (b"Cookie: SRV=\r\n", "--II"),
    (b"Cookie: SRV=m2\r\nx-reply: " + b"Set-Cookie: SRV=own\r\n".hex().encode() + b"\r\n", "--VD"),
    (b"Cookie: SRV=m3\r\n", "--DI"),  # refuses
]


def test_letters_of_the_cookie_are_those_of_haproxy(tmp_path: Path) -> None:
    letters: dict[str, list[str]] = {}
    path = str(tmp_path / "log.sock")
    with TellingMembers(NAMES) as members, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(path)
        log.settimeout(10)
        for proxy in ("haproxy", "amphorad"):
            port = free_port()
            text = persistent_text(
                port, members.ports, "HTTP_COOKIE", changes={"m1": {"enabled": False}}, connection_logging=True,
                log_format="letters=%tsc",
            )  # fmt: skip
            where = f"unix@{path}" if proxy == "haproxy" else path
            text = text.replace("/run/rsyslog/octavia/log", where)
            running = ReferenceHAProxy(tmp_path, text) if proxy == "haproxy" else Served(tmp_path, text)
            with running:
                letters[proxy] = []
                for number, (lines, _wanted) in enumerate(CASES):
                    if number == len(CASES) - 1:
                        members.close("m3")
                    assert ask(port, lines).member
                    letters[proxy].append(_letters(log))
            members.open("m3")

    assert letters["haproxy"] == [wanted for _lines, wanted in CASES]
    assert letters["amphorad"] == letters["haproxy"]


def _letters(log: socket.socket) -> str:
    """Of the next line about a request that has a member."""
    while True:
        found = re.search(r"letters=(\S+)", log.recv(65536).decode())
        if found is not None and found[1][0] == "-":
            return found[1]
