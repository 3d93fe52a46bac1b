"""What a client gets from REJECT and from redirects, byte for byte, from HAProxy and from us (contract 4.9 and 4.12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import octavia_render as render
from tests.support.http_peers import Client, Message
from tests.support.l7_rig import run_both

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.l7_rig import L7Rig

pytestmark = [pytest.mark.haproxy, pytest.mark.timeout(60)]
render.require_octavia()

CODES = (301, 302, 303, 307, 308)
HOST = "Host: h\r\n"
FRAMES = {
    "kept": f"GET {{}} HTTP/1.1\r\n{HOST}\r\n",
    "closed": f"GET {{}} HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n",
    "head": f"HEAD {{}} HTTP/1.1\r\n{HOST}\r\n",
    "old": "GET {} HTTP/1.0\r\n\r\n",
    "old kept": "GET {} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "whole body": f"POST {{}} HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\nabc",
    "half body": f"POST {{}} HTTP/1.1\r\n{HOST}Content-Length: 6\r\n\r\nabc",
    "expecting": f"POST {{}} HTTP/1.1\r\n{HOST}Content-Length: 6\r\nExpect: 100-continue\r\n\r\n",
    "half chunks": f"POST {{}} HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "absolute": f"GET http://h{{}} HTTP/1.1\r\n{HOST}\r\n",
}
PATHS = [
    "/reject/x",
    *(f"/{kind}{code}/x?y=z&&/" for kind in ("url", "prefix") for code in CODES),
    "/self/x?y",
    "/same?",
]


def _policies(_pools: dict[str, Any]) -> list[list[Any]]:
    def starts(value: str) -> list[Any]:
        return [render.make_rule("PATH", "STARTS_WITH", value)]

    found = [render.make_policy("REDIRECT_PREFIX", starts("/self"), redirect_prefix="/")]
    found.append(render.make_policy("REDIRECT_TO_URL", starts("/same"), redirect_url="/other?%[path]=%s"))
    for code in CODES:
        fields = {"redirect_http_code": code}
        found.append(render.make_policy("REDIRECT_TO_URL", starts(f"/url{code}"), redirect_url="http://u/?q", **fields))
        found.append(
            render.make_policy("REDIRECT_PREFIX", starts(f"/prefix{code}"), redirect_prefix="https://p/q", **fields)
        )
    found.append(render.make_policy("REJECT", starts("/reject")))
    return [found]


@pytest.fixture(scope="module")
def l7_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[L7Rig]:
    with run_both(tmp_path_factory.mktemp("l7"), 1, _policies) as running:
        yield running


def _ask(rig: L7Rig, proxy: str, request: bytes) -> tuple[Message, bool]:
    """The answer, and whether another request is answered behind it."""
    with Client(rig.ports[proxy][0]) as client:
        client.send(request)
        answer = client.read_message(request.split(b" ")[0].decode())
        if b"connection: close" in answer.raw:
            assert client.read_to_end() == b""
            return answer, False
        client.send(b"GET /default HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.read_message().body == b"default"
        return answer, True


@pytest.mark.parametrize("frame", FRAMES)
def test_answers_of_policies_are_those_of_haproxy(l7_rig: L7Rig, frame: str) -> None:
    for path in PATHS:
        request = FRAMES[frame].format(path).encode()

        ours, kept = _ask(l7_rig, "amphorad", request)
        theirs, kept_there = _ask(l7_rig, "haproxy", request)

        assert (ours.raw, kept) == (theirs.raw, kept_there), path


def test_pipelined_requests_are_each_answered_by_their_policy(l7_rig: L7Rig) -> None:
    paths = ["/reject", "/x", "/url301", "/reject", "/prefix308/a?b"]
    with Client(l7_rig.ports["amphorad"][0]) as client:
        client.send(b"".join(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode() for path in paths))
        answers = [client.read_message() for _ in paths]

    assert [answer.status for answer in answers] == [403, 200, 301, 403, 308]
    assert answers[4].get("location") == b"https://p/q/prefix308/a?b"


def test_request_head_split_over_reads_is_judged_as_a_whole(l7_rig: L7Rig) -> None:
    with Client(l7_rig.ports["amphorad"][0]) as client:
        client.send_byte_by_byte(b"GET /reject HTTP/1.1\r\nHost: h\r\n\r\n")

        assert client.read_message().status == 403


def test_location_of_the_longest_target_is_complete(l7_rig: L7Rig) -> None:
    path = "/prefix302/" + "x" * 14000
    for proxy in ("amphorad", "haproxy"):
        with Client(l7_rig.ports[proxy][0]) as client:
            client.send(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())

            assert client.read_message().get("location") == f"https://p/q{path}".encode()
