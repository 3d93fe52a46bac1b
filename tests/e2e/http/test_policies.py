"""L7 policies in a running amphorad: intent of escaped values, counters and log letters, applies, and patterns that run away."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.http_peers import Client
from tests.support.lb_file import lb_file, listener, member
from tests.support.naming_members import NamingMembers
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BACKEND = """
backend other:web
    mode http
    balance roundrobin
    fullconn 50000
    option allbackups
    timeout connect 5000
    timeout server 50000
    server o 127.0.0.1:{port} weight 1
"""


@pytest.fixture
def members() -> Iterator[NamingMembers]:
    with NamingMembers(["default", "other"]) as running:
        yield running


def text(port: int, members: NamingMembers, *lines: str) -> str:
    """One HTTP listener with `lines` in its frontend, a default pool and the pool `other`."""
    front = listener("web", port, [member(members.ports["default"])], mode="http")
    front = front.replace("    default_backend", "".join(f"    {line}\n" for line in lines) + "    default_backend")
    return lb_file(front + _BACKEND.format(port=members.ports["other"]))


def ask(port: int, target: str = "/", *lines: str) -> tuple[int, bytes]:
    """Status, and the member's name or the Location."""
    with Client(port) as client:
        client.send("\r\n".join([f"GET {target} HTTP/1.1", "Host: h", *lines, "", ""]).encode())
        answer = client.read_message()
        return answer.status, answer.get("location") or (answer.body if answer.status == 200 else b"")


@pytest.mark.parametrize(
    ("value", "target", "header"),
    [
        ("/a\\ b\\\\c", None, "/a b\\c"),
        ("&#34;q\\ v&#34;", None, '"q v"'),
        ("a&amp;b", None, "a&b"),
        ("a&amp;amp;b", None, "a&amp;b"),
        ("x#y", None, "x#y"),
    ],
)
def test_escaped_value_means_what_the_tenant_wrote(
    tmp_path: Path, members: NamingMembers, value: str, target: str | None, header: str
) -> None:
    """Octavia contract section 4.16."""
    port = free_port()
    lines = (f"acl r req.hdr(X-A) -m str {value}", "use_backend other:web if r")

    with Served(tmp_path, text(port, members, *lines)):
        assert ask(port, "/", f"X-A: {header}") == (200, b"other")
        assert ask(port, "/", "X-A: something else") == (200, b"default")


def test_redirect_url_is_sent_as_the_tenant_wrote_it(tmp_path: Path, members: NamingMembers) -> None:
    port = free_port()
    lines = ("acl r path -m beg /r", "redirect location http://x/?a=1&amp;b=2#f if r")

    with Served(tmp_path, text(port, members, *lines)):
        assert ask(port, "/r") == (302, b"http://x/?a=1&b=2#f")
        assert ask(port, "/") == (200, b"default")


def test_apply_changes_policies_of_a_kept_connection(tmp_path: Path, members: NamingMembers) -> None:
    port = free_port()
    deny = ("acl r path -m beg /r", "http-request deny if r")

    with Served(tmp_path, text(port, members, *deny)) as served, Client(port) as client:
        answers = []
        for lines in ((), deny, ("use_backend other:web",)):
            client.send(b"GET /r HTTP/1.1\r\nHost: h\r\n\r\n")
            answers.append(client.read_message())
            assert served.apply(text(port, members, *lines)).returncode == 0
        client.send(b"GET /r HTTP/1.1\r\nHost: h\r\n\r\n")
        answers.append(client.read_message())

    assert [(answer.status, answer.body if answer.status == 200 else b"") for answer in answers] == [
        (403, b""),
        (200, b"default"),
        (403, b""),
        (200, b"other"),
    ]


def test_apply_of_a_bad_pattern_is_refused_and_the_old_policies_serve(tmp_path: Path, members: NamingMembers) -> None:
    port = free_port()
    good = ("acl r path -m reg ^/r$", "http-request deny if r")

    with Served(tmp_path, text(port, members, *good)) as served:
        refused = served.apply(text(port, members, "acl bad-rule path -m reg (r", "http-request deny if bad-rule"))

        assert refused.returncode != 0
        assert "bad-rule" in refused.stderr + refused.stdout
        assert "missing closing parenthesis" in refused.stderr + refused.stdout
        assert ask(port, "/r")[0] == 403


def test_pattern_that_runs_away_costs_little_and_is_reported(tmp_path: Path, members: NamingMembers) -> None:
    port = free_port()
    lines = ("acl bomb path -m reg ^/(a|aa)+$", "http-request deny if bomb")

    with Served(tmp_path, text(port, members, *lines)) as served:
        assert ask(port, "/aaa")[0] == 403
        began = time.monotonic()
        for length in (60, 1000, 14000):
            assert ask(port, "/" + "a" * length + "!") == (200, b"default")

        assert time.monotonic() - began < 5  # unbounded: for ever
        wait_until(lambda: "L7 rule bomb of listener web" in served.log + json.dumps(served.status()))


def test_reject_is_counted_as_denied(tmp_path: Path, members: NamingMembers) -> None:
    port = free_port()

    with Served(tmp_path, text(port, members, "acl r path -m beg /r", "http-request deny if r")) as served:
        assert ask(port, "/r")[0] == 403

        assert wait_until(lambda: '"denied": 1' in json.dumps(served.status()))
