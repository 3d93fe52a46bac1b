"""Our datagrams are HAProxy's, byte for byte, when the same things happened.

What a client can know (addresses, request, status, bytes, termination) is stated by the test; only what nobody outside
can observe (moments and durations) is taken from HAProxy's line.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import time
from typing import TYPE_CHECKING

import pytest

from amphorad.proxy.log_format import Formatter
from tests.contract.logs.conftest import (
    BALANCER,
    EVERYTHING,
    EVERYTHING_TCP,
    PROJECT,
    HAProxy,
    octavia_format,
    with_flags,
)

if TYPE_CHECKING:
    from amphorad.proxy.wire.log_line import Record

pytestmark = [
    pytest.mark.haproxy,
    pytest.mark.usefixtures("zone"),
    pytest.mark.timeout(90),  # importing octavia takes long on a cold cache
]

_HOME = socket.inet_aton("127.0.0.1")


def talk(port: int, request: bytes, *, abort: bool = False) -> tuple[int, bytes]:
    """Sends, reads to the end (or resets), and returns the client's port and the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        own = client.getsockname()[1]
        if abort:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return own, b""
        answer = b""
        while data := client.recv(65536):
            answer += data
    return own, answer


def epoch_us(text: str) -> int:
    """`20/Nov/2026:18:13:08.012` in local time -> microseconds since the epoch."""
    moment, _, milliseconds = text.partition(".")
    return int(time.mktime(time.strptime(moment, "%d/%b/%Y:%H:%M:%S"))) * 1_000_000 + int(milliseconds or 0) * 1000


def sent_at(line: bytes, accepted_us: int) -> int:
    """The header has no year and no zone: the moment within a minute after the accept that it names."""
    stamp = re.match(rb"<134>(\w{3} [ \d]\d \d\d:\d\d:\d\d) ", line)
    assert stamp, line
    for second in range(accepted_us // 1_000_000, accepted_us // 1_000_000 + 60):
        if time.strftime("%b %e %H:%M:%S", time.localtime(second)).encode() == stamp[1]:
            return second
    pytest.fail(f"header date of {line!r}")


def expected(haproxy: HAProxy, line: bytes, protocol: str, values: Record) -> bytes:
    """Our datagram; `line` gives the moments only."""
    text = octavia_format(protocol).replace("\\ ", " ")
    date = re.search(rb"\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d\.\d{3}", line)
    total = re.search(rb" (\d+) \S{4}\n$", line)
    assert date, line
    assert total, line
    accepted = epoch_us(date[0].decode())
    values["accept_wall_us"] = accepted
    values["total_ms"] = int(total[1])
    return Formatter(text, pid=haproxy.pid).line(now_s=sent_at(line, accepted), **values)


def head(method: bytes = b"GET", target: bytes = b"/", extra: bytes = b"") -> bytes:
    return b"%b %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n%b\r\n" % (method, target, extra)


def counted(line: bytes) -> Record:
    """HAProxy's byte counts of an HTTP exchange. They are of its inner form of the messages (some bytes more or fewer per
    message than on the wire), so nobody outside can tell them."""
    _, sent, received = line.split(b'" ')[1].split()[:3]
    return {"bytes_out": int(sent), "bytes_in": int(received)}


def test_octavia_renders_the_format_of_the_contract() -> None:
    ids = f"{PROJECT} {BALANCER} "

    http, tcp = octavia_format("HTTP").replace("\\ ", " "), octavia_format("TCP").replace("\\ ", " ")

    tail = "%B %U %[ssl_c_verify] %{+Q}[ssl_c_s_dn] %b %s %Tt %tsc"
    assert http == ids + "%f %ci %cp %t %{+Q}r %ST " + tail
    assert tcp == ids + "%f %ci %cp %t - - " + tail


CASES = [
    pytest.param("http", head(), 200, b"member-1", b"----", id="get"),
    pytest.param(
        "http", head(b"POST", b"/p?q=1", b"content-length: 3\r\n") + b"abc", 200, b"member-1", b"----", id="post"
    ),
    pytest.param("http", head(b"GET", b"/missing"), 404, b"member-1", b"----", id="not-found"),
    pytest.param("http", head(b"PURGE", b"/a[]|%20~?x={}\\^`"), 200, b"member-1", b"----", id="odd-target"),
    pytest.param("http", head(b"GET", b"http://x/absolute?a"), 200, b"member-1", b"----", id="absolute-form"),
    pytest.param("http", head(b"GET", b"/denied"), 403, None, b"PR--", id="rejected"),
    pytest.param("http", head(b"GET", b"/moved"), 302, None, b"LR--", id="redirected"),
    pytest.param("http", head(b"GET", b"/silent"), 504, b"member-1", b"sH--", id="member-timeout"),
    pytest.param("http", head(b"GET", b"/garbage"), 502, b"member-1", b"PH--", id="member-garbage"),
    pytest.param("refused", head(), 503, b"member-1", b"SC--", id="connect-refused"),
    pytest.param("poolless", head(), 503, None, b"SC--", id="no-pool"),
]


@pytest.mark.parametrize(("name", "request_bytes", "status", "member", "termination"), CASES)
def test_http_exchange_gives_the_line_of_haproxy(
    haproxy: HAProxy, name: str, request_bytes: bytes, status: int, member: bytes | None, termination: bytes
) -> None:
    port, answer = talk(haproxy.ports[name], request_bytes)

    line = haproxy.next_line()

    assert answer.split()[1] == str(status).encode()
    reached_pool = name != "poolless" and termination not in (b"PR--", b"LR--")
    values: Record = {
        "listener": f"{name}-listener".encode(),
        "pool": b"pool" if reached_pool else None,
        "member": member,
        "client": (_HOME, port),
        "request_line": request_bytes.partition(b"\r\n")[0],
        "status": status,
        **counted(line),
        "termination": termination,
    }
    assert expected(haproxy, line, "HTTP", values) == line


@pytest.mark.parametrize(
    "request_bytes", [b"BAD\r\n\r\n", b"GET /\x01 HTTP/1.1\r\n\r\n", b"\xff\xfe / HTTP/1.1\r\n\r\n"]
)
def test_http_unparsable_request_gives_the_line_of_haproxy(haproxy: HAProxy, request_bytes: bytes) -> None:
    port, answer = talk(haproxy.ports["http"], request_bytes)

    line = haproxy.next_line()

    assert answer.startswith(b"HTTP/1.1 400 ")
    values: Record = {
        "listener": b"http-listener",
        "client": (_HOME, port),
        "status": 400,
        **counted(line),
        "termination": b"PR--",
    }
    assert expected(haproxy, line, "HTTP", values) == line


def test_http_client_abort_in_the_head_gives_the_line_of_haproxy(haproxy: HAProxy) -> None:
    port, _ = talk(haproxy.ports["http"], b"GET /p HTTP/1.1\r\nhos", abort=True)

    line = haproxy.next_line()

    values: Record = {
        "listener": b"http-listener",
        "client": (_HOME, port),
        "status": 400,
        **counted(line),
        "termination": b"CR--",
    }
    assert expected(haproxy, line, "HTTP", values) == line


def test_http_client_abort_in_the_body_gives_the_line_of_haproxy(haproxy: HAProxy) -> None:
    request = b"POST /p HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc"
    for _ in range(10):
        port, _ = talk(haproxy.ports["http"], request, abort=True)
        line = haproxy.next_line()
        if not line.endswith(b" CR--\n"):  # gone before the request was looked at: another case
            break

    values: Record = {
        "listener": b"http-listener",
        "pool": b"pool",
        "member": b"member-1",
        "client": (_HOME, port),
        "request_line": b"POST /p HTTP/1.1",
        "status": -1,
        **counted(line),
        "termination": b"CL--" if line.endswith(b" CL--\n") else b"CD--",  # depends on who is faster
    }
    assert expected(haproxy, line, "HTTP", values) == line


def test_http_long_request_line_is_cut_where_haproxy_cuts_it(haproxy: HAProxy) -> None:
    target = b"/" + b"0123456789" * 200
    port, _ = talk(haproxy.ports["http"], head(b"GET", target))

    line = haproxy.next_line()

    date = re.search(rb"\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d\.\d{3}", line)
    assert date
    accepted = epoch_us(date[0].decode())
    formatter = Formatter(octavia_format("HTTP").replace("\\ ", " "), pid=haproxy.pid)
    values: Record = {
        "listener": b"http-listener",
        "client": (_HOME, port),
        "request_line": b"GET " + target + b" HTTP/1.1",
        "accept_wall_us": accepted,
    }
    assert formatter.line(now_s=sent_at(line, accepted), **values) == line


def test_tls_exchange_with_a_client_certificate_gives_the_line_of_haproxy(haproxy: HAProxy) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(haproxy.certificate)
    with (
        socket.create_connection(("127.0.0.1", haproxy.ports["tls"]), timeout=10) as plain,
        context.wrap_socket(plain) as client,
    ):
        port = client.getsockname()[1]
        client.sendall(head())
        while client.recv(65536):
            pass

    line = haproxy.next_line()

    values: Record = {
        "listener": b"tls-listener",
        "pool": b"pool",
        "member": b"member-1",
        "client": (_HOME, port),
        "request_line": b"GET / HTTP/1.1",
        "status": 200,
        **counted(line),
        "tls": 1,
        "tls_dn": b'/O=Tea "and" Co/CN=client 1',
        "termination": b"----",
    }
    assert expected(haproxy, line, "HTTP", values) == line


def test_tcp_session_gives_the_line_of_haproxy(haproxy: HAProxy) -> None:
    port, answer = talk(haproxy.ports["tcp"], b"echo\n")

    line = haproxy.next_line()

    values: Record = {
        "listener": b"tcp-listener",
        "pool": b"pool",
        "member": b"member-1",
        "client": (_HOME, port),
        "bytes_out": len(answer),
        "bytes_in": 5,
        "termination": b"----",
    }
    assert expected(haproxy, line, "TCP", values) == line


def observed(line: bytes, everything: str) -> dict[str, str]:
    """Value of each variable in a line, by name as written after the percent sign."""
    names = [word[1:] for word in everything.split(";")]
    return dict(zip(names, line.partition(b"]: ")[2].decode().split(";"), strict=True))


def record_of(seen: dict[str, str], known: Record) -> Record:
    """The record that an engine would have had; unobservable numbers from HAProxy."""

    def number(name: str, default: int = 0) -> int:
        return int(seen.get(name, default))

    source = None if seen["bi"] == "-" else (socket.inet_aton(seen["bi"]), number("bp"))
    target = None if seen["si"] == "-" else (socket.inet_aton(seen["si"]), number("sp"))
    values: Record = {
        "source": source,
        "target": target,
        "accept_wall_us": epoch_us(seen["t"]),
        "total_ms": number("Tt"),
        "handshake_ms": number("Th"),
        "idle_ms": number("Ti"),
        "request_ms": number("TR"),
        "queue_ms": number("Tw"),
        "connect_ms": number("Tc"),
        "response_ms": number("Tr"),
        "status": number("ST"),
        "bytes_out": number("B"),
        "bytes_in": number("U"),
        "process_connections": number("ac"),
        "listener_connections": number("fc"),
        "pool_connections": number("bc"),
        "member_connections": number("sc"),
        "retries": number("rc"),
        "member_queue": number("sq"),
        "pool_queue": number("bq"),
        "line_number": number("lc"),
        "request_number": number("rt"),
    }
    return values | known


@pytest.mark.parametrize(
    "request_bytes", [head(b"GET", b"http://x/a/b?c=[d]"), head(b"GET", b"/denied"), b"BAD\r\n\r\n"]
)
def test_every_variable_is_written_as_haproxy_writes_it(haproxy: HAProxy, request_bytes: bytes) -> None:
    port, _ = talk(haproxy.ports["plain"], request_bytes)
    line = haproxy.next_line()
    seen = observed(line, EVERYTHING)
    is_bad = request_bytes.startswith(b"BAD")
    known: Record = {
        "listener": b"plain-listener",
        "pool": b"pool" if b"/a/b" in request_bytes else None,
        "member": b"member-1" if b"/a/b" in request_bytes else None,
        "client": (_HOME, port),
        "bind": (_HOME, haproxy.ports["plain"]),
        "request_line": None if is_bad else request_bytes.partition(b"\r\n")[0],
        "termination": b"----" if b"/a/b" in request_bytes else b"PR--",
    }
    values = record_of(seen, known)

    ours = Formatter(with_flags("-Q"), pid=haproxy.pid).line(now_s=sent_at(line, values["accept_wall_us"]), **values)

    assert observed(ours, EVERYTHING) == seen
    assert ours == line


@pytest.mark.parametrize(("name", "flags"), [("quoted", "+Q"), ("hex", "+X"), ("escaped", "+E")])
def test_every_variable_takes_flags_as_haproxy_does(haproxy: HAProxy, name: str, flags: str) -> None:
    target = b"/a/b?c=[d]\\e"
    port, _ = talk(haproxy.ports[name], head(b"GET", target))

    line = haproxy.next_line()

    seen = {key: value.strip('"') for key, value in observed(line, EVERYTHING).items()}
    seen |= {"bi": "127.0.0.1", "si": "127.0.0.1"}
    if flags == "+X":
        seen |= {key: str(int(seen[key], 16)) for key in ("bp", "sp", "lc", "rt")}
    known: Record = {
        "listener": f"{name}-listener".encode(),
        "pool": b"pool",
        "member": b"member-1",
        "client": (_HOME, port),
        "bind": (_HOME, haproxy.ports[name]),
        "request_line": b"GET " + target + b" HTTP/1.1",
        "termination": b"----",
    }
    values = record_of(seen, known)
    ours = Formatter(with_flags(flags), pid=haproxy.pid).line(now_s=sent_at(line, values["accept_wall_us"]), **values)
    assert observed(ours, EVERYTHING) == observed(line, EVERYTHING)
    assert ours == line


def test_every_variable_of_a_tcp_listener_is_written_as_haproxy_writes_it(haproxy: HAProxy) -> None:
    port, _ = talk(haproxy.ports["all-tcp"], b"echo\n")
    line = haproxy.next_line()
    seen = observed(line, EVERYTHING_TCP)
    known: Record = {
        "listener": b"all-tcp-listener",
        "pool": b"pool",
        "member": b"member-1",
        "client": (_HOME, port),
        "bind": (_HOME, haproxy.ports["all-tcp"]),
        "termination": b"----",
    }
    values = record_of(seen, known)

    text = with_flags("-Q", EVERYTHING_TCP)
    ours = Formatter(text, pid=haproxy.pid).line(now_s=sent_at(line, values["accept_wall_us"]), **values)

    assert observed(ours, EVERYTHING_TCP) == seen, seen
    assert ours == line
