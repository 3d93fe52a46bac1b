"""TLS under strain: certificates that change under load, long bodies on two threads, and clients that never finish."""

from __future__ import annotations

import contextlib
import hashlib
import resource
import select
import socket
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from tests.support.served import wait_until
from tests.support.tls_rig import Answer, TlsRig, run_tls_rig

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.timeout(120)]

HALF_OPEN = 2000


def _serial(connection: ssl.SSLSocket) -> int:
    der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def _hello(rig: TlsRig) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        rig.context().wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def _in_threads(count: int, run: Callable[[], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_certificates_change_under_load_without_a_failed_request(tmp_path: Path) -> None:
    rig = TlsRig(tmp_path)
    crt_list = rig.write_list(rig.authority.issue("first"))
    stop, failures, served_serials, asked = threading.Event(), [], set(), [0, 0]

    def fresh_connections() -> None:
        while not stop.is_set():
            try:
                with rig.connect() as connection:
                    served_serials.add(_serial(connection))
                    assert rig.ask(connection).status == 200
                    asked[0] += 1
            except (OSError, AssertionError) as error:
                failures.append(repr(error))

    def one_connection() -> None:
        try:
            with rig.connect() as connection:
                while not stop.is_set():
                    assert rig.ask(connection, "/size/20000").body == b"s" * 20000
                    asked[1] += 1
        except (OSError, AssertionError) as error:
            failures.append(repr(error))

    with run_tls_rig("amphorad", rig, f"ssl crt-list {crt_list}") as running:
        assert running.served is not None
        threads = _in_threads(2, fresh_connections) + _in_threads(2, one_connection)
        serials = []
        try:
            for _ in range(6):
                identity = rig.authority.issue("next")
                serials.append(identity.certificate.serial_number)
                rig.write_list(identity)
                assert running.served.apply(running.served.file.read_text()).returncode == 0
                serial = serials[-1]
                wait_until(lambda serial=serial: serial in served_serials)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert failures == []
    assert set(serials) <= served_serials
    assert min(asked) > 10


def test_long_bodies_both_ways_on_two_threads(tmp_path: Path) -> None:
    rig = TlsRig(tmp_path)
    crt_list = rig.write_list(rig.authority.issue("a"))
    size = 10 * 1024 * 1024
    failures: list[str] = []
    wanted = hashlib.sha256(b"s" * size).digest()

    def both_ways() -> None:
        try:
            with rig.connect() as connection:
                head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
                connection.sendall(head + b"q" * size)
                assert Answer.read(connection).status == 200
                assert hashlib.sha256(rig.ask(connection, f"/size/{size}").body).digest() == wanted
        except (OSError, AssertionError) as error:
            failures.append(repr(error))

    with run_tls_rig("amphorad", rig, f"ssl crt-list {crt_list}"):
        for thread in _in_threads(4, both_ways):
            thread.join()
    assert failures == []


@pytest.fixture
def many_files() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * HALF_OPEN:
        pytest.skip(f"no more than {hard} descriptors to be had")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.mark.usefixtures("many_files")
@pytest.mark.slow
def test_half_open_handshakes_cost_bounded_memory_and_end(tmp_path: Path) -> None:
    rig = TlsRig(tmp_path)
    crt_list = rig.write_list(rig.authority.issue("a"))
    hello = _hello(rig)
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(run_tls_rig("amphorad", rig, f"ssl crt-list {crt_list}", client_ms=4000))
        served = running.served
        assert served is not None
        served.apply(served.file.read_text().replace("maxconn 2000", "maxconn 3000"))
        with rig.connect() as connection:
            assert rig.ask(connection).status == 200
        data_plane = served.data_plane
        before = _resident_bytes(data_plane)
        clients = []
        for number in range(HALF_OPEN):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", rig.port), 10))
            client.sendall(hello if number % 2 else hello[:100])
            clients.append(client)
        with rig.connect() as connection:  # others are served
            assert rig.ask(connection).status == 200
        assert (_resident_bytes(data_plane) - before) / HALF_OPEN < 64 * 1024

        for client in clients:  # and these come to an end
            client.settimeout(60)
            with contextlib.suppress(ConnectionError):
                while client.recv(65536):
                    pass
        wait_until(lambda: served.status()["data_plane"]["sessions"] <= 1)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_stops_at_any_step_is_ended_and_others_are_served(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    rig = TlsRig(tmp_path)
    crt_list = rig.write_list(rig.authority.issue("a"))
    with run_tls_rig("amphorad", rig, f"ssl crt-list {crt_list}", client_ms=300):
        for steps in range(4):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = rig.context(maximum_version=version).wrap_bio(incoming, outgoing)
            with socket.create_connection(("127.0.0.1", rig.port), 10) as plain:
                for step in range(steps):
                    with contextlib.suppress(ssl.SSLWantReadError):
                        client.do_handshake()
                    flight = outgoing.read()
                    if not flight:
                        break
                    plain.sendall(flight if step < steps - 1 else flight[: len(flight) // 2])
                    if step < steps - 1:
                        incoming.write(plain.recv(65536))
                readable, _, _ = select.select([plain], [], [], 20)
                assert readable, f"still open after {steps} steps"
                with contextlib.suppress(ConnectionError):
                    while plain.recv(65536):
                        pass
            with rig.connect() as connection:
                assert rig.ask(connection).status == 200
