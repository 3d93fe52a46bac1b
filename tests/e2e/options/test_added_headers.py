"""Cookie attributes and request headers of the operator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.persistence_rig import ask, persistent_text
from tests.support.served import Served, free_port
from tests.support.telling_members import TellingMembers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
HEADERS = ("--x-real-ip", "--x-forwarded-host", "--traceparent")


@pytest.fixture
def member() -> Iterator[TellingMembers]:
    with TellingMembers(("m1",)) as members:
        yield members


def fields(request: bytes, name: bytes) -> list[bytes]:
    pairs = [line.partition(b":") for line in request.split(b"\r\n")]
    return [value.strip() for field, _colon, value in pairs if field.lower() == name]


# --- cookies ---


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ((), b"set-cookie: SRV=m1; path=/"),
        (("--cookie-secure",), b"set-cookie: SRV=m1; path=/"),  # no TLS
        (("--cookie-http-only",), b"set-cookie: SRV=m1; path=/; HttpOnly"),
        (("--cookie-http-only", "--cookie-same-site", "lax"), b"set-cookie: SRV=m1; path=/; HttpOnly; SameSite=Lax"),
    ],
)
def test_cookie_has_the_attributes_that_were_asked_for(
    tmp_path: Path, member: TellingMembers, options: tuple[str, ...], line: bytes
) -> None:
    port = free_port()
    with Served(tmp_path, persistent_text(port, member.ports, "HTTP_COOKIE"), *options):
        first = ask(port)
        again = ask(port, b"Cookie: SRV=m1\r\n")

    assert line in first.head.split(b"\r\n")
    assert b"set-cookie" not in again.head.lower()


# --- headers ---


def test_members_get_the_headers_and_none_that_a_client_made_up(tmp_path: Path, member: TellingMembers) -> None:
    port = free_port()
    with Served(tmp_path, persistent_text(port, member.ports, "SOURCE_IP"), *HEADERS):
        request = ask(port, b"X-Real-IP: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nx-real-ip: 7.7.7.7\r\n").request

    assert fields(request, b"x-real-ip") == [b"127.0.0.1"]
    assert fields(request, b"x-forwarded-host") == [b"a"]
    assert fields(request, b"host") == [b"a"]


def test_without_the_options_they_are_the_clients_business(tmp_path: Path, member: TellingMembers) -> None:
    port = free_port()
    with Served(tmp_path, persistent_text(port, member.ports, "SOURCE_IP")):
        request = ask(port, b"X-Real-IP: 6.6.6.6\r\n").request

    assert fields(request, b"x-real-ip") == [b"6.6.6.6"]
    assert fields(request, b"x-forwarded-host") == fields(request, b"traceparent") == []


def test_traces_begin_here_each_with_identifiers_of_its_own(tmp_path: Path, member: TellingMembers) -> None:
    port = free_port()
    with Served(tmp_path, persistent_text(port, member.ports, "SOURCE_IP"), *HEADERS):
        found = [fields(ask(port).request, b"traceparent") for _request in range(20)]

    assert all(len(values) == 1 for values in found)
    assert all(re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-01", values[0]) for values in found)
    assert len({values[0][3:35] for values in found}) == len({values[0][36:52] for values in found}) == 20


@pytest.mark.parametrize("given", [GOOD, b"01" + GOOD[2:] + b"-more", b"cc" + GOOD[2:]])
def test_trace_of_the_client_goes_on(tmp_path: Path, member: TellingMembers, given: bytes) -> None:
    port = free_port()
    with Served(tmp_path, persistent_text(port, member.ports, "SOURCE_IP"), *HEADERS):
        request = ask(port, b"TraceParent: " + given + b"\r\ntracestate: a=b\r\n").request

    assert fields(request, b"traceparent") == [given]
    assert fields(request, b"tracestate") == [b"a=b"]


@pytest.mark.parametrize(
    "lines",
    [
        b"traceparent: " + GOOD + b"-more",
        b"traceparent: " + GOOD[:-1],
        b"traceparent: " + GOOD.upper(),
        b"traceparent: ff" + GOOD[2:],
        b"traceparent: 00-" + b"0" * 32 + GOOD[35:],
        b"traceparent: " + GOOD[:36] + b"0" * 16 + GOOD[52:],
        b"traceparent:",
        b"traceparent: " + GOOD + b"\r\ntraceparent: " + GOOD,
    ],
)
def test_trace_that_cannot_be_read_is_replaced_with_its_state(
    tmp_path: Path, member: TellingMembers, lines: bytes
) -> None:
    port = free_port()
    with Served(tmp_path, persistent_text(port, member.ports, "SOURCE_IP"), *HEADERS):
        request = ask(port, lines + b"\r\ntracestate: a=b\r\n").request

    (found,) = fields(request, b"traceparent")
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-01", found)
    assert found[3:35] != GOOD[3:35]
    assert fields(request, b"tracestate") == []
