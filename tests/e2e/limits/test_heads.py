"""Request heads beyond the limits: refused, and nothing of them reaches a member."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import ScriptedMember, connect, get, http_member, receive_all
from tests.support.served import Served, free_port

if TYPE_CHECKING:
    from pathlib import Path

HEADS = {
    "one long field": b"X-Long: " + b"x" * 20_000 + b"\r\n",
    "many fields of 20 kB together": b"".join(b"X-%04d: %s\r\n" % (number, b"x" * 190) for number in range(100)),
    "200 fields": b"".join(b"X-%d: x\r\n" % number for number in range(200)),
    "a long target": b"",
}


@pytest.mark.parametrize("what", HEADS)
def test_head_beyond_the_limits_is_refused(tmp_path: Path, what: str) -> None:
    port = free_port()
    path = b"/" + b"x" * 20_000 * (what == "a long target")
    with ScriptedMember(http_member()) as target:
        text = lb_file(listener("web", port, [member(target.port)], mode="http"))
        with Served(tmp_path, text):
            with connect(port) as client, connect(port) as other:
                client.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: lb\r\n" + HEADS[what] + b"\r\n")

                assert receive_all(client)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 414", b"HTTP/1.1 431")
                assert target.sessions == 0
                assert get(other) == b"200 ok"


def test_head_of_14_kb_and_90_fields_passes(tmp_path: Path) -> None:
    port = free_port()
    fields = b"".join(b"X-%02d: %s\r\n" % (number, b"x" * 148) for number in range(90))
    with ScriptedMember(http_member()) as target:
        text = lb_file(listener("web", port, [member(target.port)], mode="http"))
        with Served(tmp_path, text), connect(port) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: lb\r\n" + fields + b"\r\n")

            assert client.recv(12) == b"HTTP/1.1 200"
