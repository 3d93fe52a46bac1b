"""JSON lines of the traffic log: valid whatever the values are, and the same values as the line of HAProxy's format."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.proxy.json_log import JSON_LINE_LIMIT, as_json
from amphorad.proxy.log_format import parse
from amphorad.proxy.wire.log_line import VARIABLES, LogProgram

OCTAVIA = "project lb %f %ci %cp %t %{+Q}r %ST %B %U %[ssl_c_verify] %{+Q}[ssl_c_s_dn] %b %s %Tt %tsc"  # contract 4.13


def line(text: str, **values: Any) -> dict[str, Any]:
    program = LogProgram(as_json(parse(text)), facility=16, tag=b"haproxy", pid=7, host=b"node", room=JSON_LINE_LIMIT)
    written = program.line(room=JSON_LINE_LIMIT, **values)
    head, _, body = written.partition(b": ")
    assert head.startswith(b"<134>")
    assert head.endswith(b" haproxy[7]")
    assert written.endswith(b"\n")
    found: dict[str, Any] = json.loads(body)
    return found


def test_line_of_octavias_format() -> None:
    found = line(
        OCTAVIA,
        listener=b"l",
        pool=b"p",
        member=b"m",
        client=(b"\x0a\x00\x00\x07", 4711),
        request_line=b"GET /a?b=c HTTP/1.1",
        status=200,
        bytes_out=10,
        bytes_in=20,
        total_ms=5,
        termination=b"----",
    )

    assert found == {
        "text": "project lb",
        "listener": "l",
        "client_address": "10.0.0.7",
        "client_port": 4711,
        "time": found["time"],
        "request": "GET /a?b=c HTTP/1.1",
        "status": 200,
        "bytes_out": 10,
        "bytes_in": 20,
        "client_certificate_verify": None,
        "client_certificate_subject": None,
        "pool": "p:l",
        "member": "m",
        "total_ms": 5,
        "termination": "----",
    }


def test_every_variable_is_valid_with_and_without_a_value() -> None:
    text = "%[nonsense] " + " ".join(f"%{name}" for name in sorted(VARIABLES))
    address = (b"\x20\x01" + bytes(13) + b"\x01", 80)
    full = {
        "listener": b"l", "pool": b"p", "member": b"m", "client": address, "bind": address, "source": address,
        "target": address, "request_line": b"GET / HTTP/1.1", "unique_id": b"u", "tls": 1, "tls_dn": b"/CN=a",
        "tls_version": b"TLSv1.3", "tls_cipher": b"x", "status": 200, "retries": 1, "redispatched": 1,
        "queue_ms": 0, "connect_ms": 1, "response_ms": 2,
    }  # fmt: skip

    empty, found = line(text), line(text, **full)

    assert empty.keys() == found.keys()
    assert empty["client_port"] is None
    assert empty["nonsense"] is None
    assert found["retries"] == "+1"
    assert found["listener_address"] == "2001::1"


@given(request=st.binary(max_size=3000), name=st.binary(max_size=300))
def test_line_is_valid_and_whole_whatever_a_client_sends(request: bytes, name: bytes) -> None:
    found = line(OCTAVIA, listener=name, pool=name, member=name, request_line=request, tls=1, tls_dn=name)

    assert found["termination"] == "----"


def test_backslash_and_quote_are_hexadecimal_as_in_a_request_line() -> None:
    assert line("%f %r", listener=b'a"\\b', request_line=b'GET /"\\') == {
        "listener": "a#22#5Cb",
        "request": "GET /#22#5C",
    }


@pytest.mark.parametrize("text", ["", "only text", "%%", '"{\\'])
def test_format_without_variables_is_an_object_too(text: str) -> None:
    assert line(text).keys() <= {"text"}
