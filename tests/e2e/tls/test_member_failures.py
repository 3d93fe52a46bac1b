"""Members that fail in or behind the handshake: bounded time, the log's letters of HAProxy, other members take over."""

from __future__ import annotations

import re
import socket
import ssl
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Authority
from tests.support.http_rig import BOTH
from tests.support.scripted_member import ScriptedMember, connect, get, read_response, reset
from tests.support.served import free_port, wait_until
from tests.support.tls_members import TlsMember, member_context, pool_text, run_pool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.timeout(90)]
proxies = pytest.mark.parametrize("proxy", BOTH)

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def garbage(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    connection.recv(65536)


def half_a_record(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"\x16\x03\x03\x40\x00\x02\x00")
    silent(connection)


def alert(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"\x15\x03\x03\x00\x02\x02\x28")  # fatal, handshake_failure
    connection.recv(65536)


def ends_at_once(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def ends_after_hello(connection: socket.socket) -> None:
    connection.recv(65536)


def resets_at_once(connection: socket.socket) -> None:
    reset(connection)


def resets_after_hello(connection: socket.socket) -> None:
    connection.recv(65536)
    reset(connection)


def endless(connection: socket.socket) -> None:
    """Records of a handshake that never ends."""
    connection.recv(65536)
    while True:
        connection.sendall(b"\x16\x03\x03\x00\x04\x00\x00\x00\x00" * 100)


BAD = [
    silent,
    garbage,
    half_a_record,
    alert,
    ends_at_once,
    ends_after_hello,
    resets_at_once,
    resets_after_hello,
]


def run_logged(
    proxy: str, tmp_path: Path, servers: list[str], requests: int = 1, **more: object
) -> tuple[list[int], list[str]]:
    """Statuses of as many requests, and their log lines."""
    port = free_port()
    path = str(tmp_path / f"log.{proxy}")
    statuses, lines = [], []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(path)
        log.settimeout(10)
        text = pool_text(port, servers, log=f"unix@{path}" if proxy == "haproxy" else path, **more)  # type: ignore[arg-type]
        with run_pool(proxy, tmp_path, text):
            for _number in range(requests):
                with connect(port) as client:
                    client.settimeout(20)
                    client.sendall(b"GET /x/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    statuses.append(int(read_response(client).split()[0]))
                lines.append(_next_line(log))
    return statuses, lines


def _next_line(log: socket.socket) -> str:
    while True:
        found = re.search(r"f pool:web/(\S+ \d+ \S+)", log.recv(65536).decode())
        if found is not None and " 0 " not in found[1] and "400" not in found[1]:
            return found[1]


@proxies
@pytest.mark.parametrize("script", BAD)
def test_member_that_fails_in_the_handshake_costs_a_503_in_bounded_time(
    proxy: str, tmp_path: Path, script: Callable[[socket.socket], None]
) -> None:
    began = time.monotonic()
    with ScriptedMember(script) as member:
        found = run_logged(
            proxy, tmp_path, [f"127.0.0.1:{member.port} weight 1 ssl verify none"], connect_ms=300, retries=2
        )
        assert member.sessions == 3
    assert found == ([503], ["m1 503 sC--" if script in (silent, half_a_record) else "m1 503 SC--"])
    assert time.monotonic() - began < 20


def test_handshake_that_never_ends_costs_a_503_in_bounded_time(tmp_path: Path) -> None:
    """Not compared: HAProxy's watchdog sometimes ends the whole process here."""
    began = time.monotonic()
    with ScriptedMember(endless) as member:
        found = run_logged(
            "amphorad", tmp_path, [f"127.0.0.1:{member.port} weight 1 ssl verify none"], connect_ms=300, retries=2
        )
        assert member.sessions == 3
    assert found == ([503], ["m1 503 sC--"])
    assert time.monotonic() - began < 20


@proxies
@pytest.mark.parametrize("script", [silent, alert, resets_after_hello])
def test_another_member_takes_over(proxy: str, tmp_path: Path, script: Callable[[socket.socket], None]) -> None:
    identity = Authority().issue("m")
    with ScriptedMember(script) as bad, TlsMember(member_context(identity, tmp_path)) as good:
        statuses, lines = run_logged(
            proxy,
            tmp_path,
            [f"127.0.0.1:{port} weight 1 ssl verify none" for port in (bad.port, good.port)],
            requests=4,
            connect_ms=300,
        )
    assert statuses == [200] * 4
    assert set(lines) == {"m2 200 ----"}


@proxies
def test_tcp_session_ends_when_no_handshake_succeeds(proxy: str, tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(alert) as member:
        text = pool_text(
            port, [f"127.0.0.1:{member.port} weight 1 ssl verify none"], mode="tcp", connect_ms=300, retries=1
        )
        with run_pool(proxy, tmp_path, text), connect(port) as client:
            assert client.recv(100) == b""
        assert member.sessions >= 2  # HAProxy's fixture looks whether it listens


# --- behind the handshake ---


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", "m1 502 SH--"),
        (b"HTTP/1.1 200 OK\r\ncont", "m1 502 SH--"),
        (b"what?\r\n\r\n", "m1 502 PH--"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345", "m1 200 SD--"),
    ],
)
@pytest.mark.parametrize("ending", ["reset", "close", "garbage"])
def test_member_that_breaks_off_its_answer(tmp_path: Path, answer: bytes, expected: str, ending: str) -> None:
    """HAProxy 2.6 logs a body that breaks off as `----`, and waits on after a broken record."""
    possible = {expected}
    if ending == "reset":
        possible.add("m1 502 SH--")  # a reset may take away what the member has sent
    context = member_context(Authority().issue("m"), tmp_path)

    def script(plain: socket.socket) -> None:
        connection = context.wrap_socket(plain.dup(), server_side=True)
        with connection:
            connection.recv(65536)
            if answer:
                connection.sendall(answer)
            if ending == "garbage":
                plain.sendall(b"\x17\x03\x03\x00\x20" + b"?" * 32)
            elif ending == "reset":
                reset(plain)

    port = free_port()
    path = str(tmp_path / "log.socket")
    with ScriptedMember(script) as member, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(path)
        log.settimeout(10)
        text = pool_text(
            port,
            [f"127.0.0.1:{member.port} weight 1 ssl verify none"],
            log=path,
        )
        with run_pool("amphorad", tmp_path, text), connect(port) as client:
            client.sendall(b"GET /x/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            received = b""
            while chunk := client.recv(65536):
                received += chunk
            line = _next_line(log)
    assert line in possible
    assert received.split()[1] == line.split()[1].encode()


def test_failed_handshakes_are_told_of_with_their_reason(tmp_path: Path) -> None:
    authority = Authority()
    (tmp_path / "root.pem").write_bytes(authority.pem)
    port = free_port()
    with TlsMember(member_context(authority.issue("m", days=-1), tmp_path)) as member:
        text = pool_text(port, [f"127.0.0.1:{member.port} weight 1 ssl ca-file {tmp_path}/root.pem"], retries=0)
        with run_pool("amphorad", tmp_path, text) as served:
            assert served is not None
            with connect(port) as client:
                assert get_head(client).startswith(b"503")
            alarms = wait_until(
                lambda: [alarm for alarm in served.status()["alarms"] if "SSL handshake failure with a member" in alarm]
            )
    assert "pool pool of listener web" in alarms[0]
    assert "(1 so far, latest: certificate verify failed: certificate has expired)" in alarms[0]


def get_head(client: socket.socket) -> bytes:
    client.sendall(b"GET /x/1 HTTP/1.1\r\nHost: x\r\n\r\n")
    return read_response(client)


def test_many_bad_members_leave_nothing_behind(tmp_path: Path) -> None:
    """Descriptors of the data plane, after handshakes that failed at every step."""
    from pathlib import Path as RealPath

    identity = Authority().issue("m")
    scripts = (garbage, alert, ends_after_hello, resets_at_once, resets_after_hello)
    members = [ScriptedMember(script) for script in scripts]
    port = free_port()
    good = TlsMember(member_context(identity, tmp_path))
    try:
        for member in members:
            member.__enter__()
        ports = [*(member.port for member in members), good.port]
        text = pool_text(port, [f"127.0.0.1:{each} weight 1 ssl verify none" for each in ports])
        with run_pool("amphorad", tmp_path, text) as served:
            assert served is not None
            descriptors = RealPath(f"/proc/{served.data_plane}/fd")
            with connect(port) as client:
                get(client, "/x/1")
            before = len(list(descriptors.iterdir()))
            for _number in range(60):
                with connect(port) as client:
                    get(client, "/x/1")
            wait_until(lambda: len(list(descriptors.iterdir())) <= before + 8)
    finally:
        good.__exit__()
        for member in members:
            member.__exit__()


def test_old_version_of_a_member_is_refused_where_it_is_switched_off(tmp_path: Path) -> None:
    context = member_context(Authority().issue("m"), tmp_path, maximum_version=ssl.TLSVersion.TLSv1_2)
    port = free_port()
    with TlsMember(context) as member:
        text = pool_text(
            port,
            [f"127.0.0.1:{member.port} weight 1 ssl verify none no-sslv3 no-tlsv10 no-tlsv11 no-tlsv12"],
            retries=0,
        )
        with run_pool("amphorad", tmp_path, text), connect(port) as client:
            assert get_head(client).startswith(b"503")
