"""Certificates that change, expire or cannot be used."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from tests.support.served import wait_until
from tests.support.tls_rig import TlsRig, run_tls_rig

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


def _serial(connection: ssl.SSLSocket) -> int:
    der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def _read_to_end(connection: ssl.SSLSocket) -> None:
    while connection.recv(65536):
        pass


def test_changed_bytes_are_served_and_sessions_stay(tmp_path: Path) -> None:
    rig = TlsRig(tmp_path)
    first, second = rig.authority.issue("a"), rig.authority.issue("a")
    crt_list = rig.write_list(first)
    with run_tls_rig("amphorad", rig, f"ssl crt-list {crt_list}") as running, running.connect() as old:
        assert running.served is not None
        assert _serial(old) == first.certificate.serial_number
        assert running.ask(old).status == 200
        rig.write_list(second)
        text = running.served.file.read_text()
        assert running.served.apply(text).returncode == 0
        with running.connect() as fresh:
            assert _serial(fresh) == second.certificate.serial_number
        assert running.ask(old).status == 200
        generation = running.served.status()["generation"]
        assert running.served.apply(text).returncode == 0
        assert running.served.status()["generation"] == generation


def test_a_key_of_another_certificate_is_refused_by_name_and_the_old_one_serves(tmp_path: Path) -> None:
    rig = TlsRig(tmp_path)
    crt_list = rig.write_list(rig.authority.issue("a"))
    with run_tls_rig("amphorad", rig, f"ssl crt-list {crt_list}") as running:
        assert running.served is not None
        wrong = rig.authority.issue("a").certificate_pem + rig.authority.issue("b").key_pem
        rig.write("certificate0.pem", wrong)
        refused = running.served.apply(running.served.file.read_text())
        assert refused.returncode != 0
        assert "certificate0.pem" in refused.stderr + refused.stdout
        assert "PRIVATE" not in refused.stderr + refused.stdout + running.served.log
        with running.connect() as connection:
            assert running.ask(connection).status == 200


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    rig = TlsRig(tmp_path)
    crt_list = rig.write_list(rig.authority.issue("a"))
    with run_tls_rig("amphorad", rig, f"ssl crt-list {crt_list}") as running:
        assert running.served is not None
        (tmp_path / "certificate0.pem").unlink()
        refused = running.served.apply(running.served.file.read_text())
        assert refused.returncode != 0
        assert "certificate0.pem" in refused.stderr + refused.stdout
        with running.connect() as connection:
            assert running.ask(connection).status == 200


def test_an_expired_certificate_is_served_with_a_warning(tmp_path: Path) -> None:
    rig = TlsRig(tmp_path)
    crt_list = rig.write_list(rig.authority.issue("a", days=-1))
    with run_tls_rig("amphorad", rig, f"ssl crt-list {crt_list}") as running, running.connect() as connection:
        assert running.served is not None
        assert running.ask(connection).status == 200
        served = running.served
        wait_until(lambda: any("certificate0.pem has expired" in text for text in served.status()["alarms"]))


def test_a_handshake_that_stops_is_ended_after_timeout_client(tmp_path: Path) -> None:
    rig = TlsRig(tmp_path)
    crt_list = rig.write_list(rig.authority.issue("a"))
    with (
        run_tls_rig("amphorad", rig, f"ssl crt-list {crt_list}", client_ms=300),
        socket.create_connection(("127.0.0.1", rig.port), 10) as plain,
    ):
        plain.sendall(b"\x16\x03\x01")
        assert plain.recv(100) == b""


def test_a_failed_handshake_is_told_of(tmp_path: Path) -> None:
    rig = TlsRig(tmp_path)
    crt_list = rig.write_list(rig.authority.issue("a"))
    with run_tls_rig("amphorad", rig, f"ssl crt-list {crt_list}") as running:
        assert running.served is not None
        with socket.create_connection(("127.0.0.1", rig.port), 10) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while True:
                try:
                    if not plain.recv(100):
                        break
                except ConnectionError:
                    break
        served = running.served
        wait_until(lambda: any("SSL handshake failure (1 so far" in text for text in served.status()["alarms"]))


def test_a_connection_that_says_nothing_is_no_failed_handshake(tmp_path: Path) -> None:
    rig = TlsRig(tmp_path)
    crt_list = rig.write_list(rig.authority.issue("a"))
    with run_tls_rig("amphorad", rig, f"ssl crt-list {crt_list}") as running:
        assert running.served is not None
        for _ in range(5):  # as a check of whoever watches the port does
            socket.create_connection(("127.0.0.1", rig.port), 10).close()
        with socket.create_connection(("127.0.0.1", rig.port), 10) as plain:
            plain.sendall(b"no handshake")
            assert plain.recv(100)[:1] in (b"", b"\x15")
        served = running.served
        wait_until(lambda: any("SSL handshake failure" in text for text in served.status()["alarms"]))
        assert [text for text in served.status()["alarms"] if "SSL handshake failure (1 so far" not in text] == []


def test_a_response_without_length_that_breaks_off_does_not_look_complete(tmp_path: Path) -> None:
    rig = TlsRig(tmp_path)
    crt_list = rig.write_list(rig.authority.issue("a"))
    with run_tls_rig("amphorad", rig, f"ssl crt-list {crt_list}") as running, running.connect() as connection:
        connection.sendall(b"GET /endless/1000000 HTTP/1.0\r\n\r\n")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _read_to_end(connection)
