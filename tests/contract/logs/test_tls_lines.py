"""What the traffic log says of TLS: variables of a request's line, and a line for every handshake that fails, on amphorad and
on HAProxy (Octavia contract sections 4.8 and 4.13; HAProxy configuration manual 8.2.6 and 8.2.5)."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes

from tests.support.certificates import Authority, Identity
from tests.support.http_rig import BOTH
from tests.support.tls_rig import TlsRig, run_tls_rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography import x509

# may_leak: the played member lives as long as the module, and with it the proxy's connections to it
pytestmark = [pytest.mark.timeout(60), pytest.mark.may_leak]

VARIABLES = (
    "%ft %[ssl_fc] %sslv %sslc %[ssl_fc_protocol] %[ssl_fc_cipher] %[ssl_fc_sni] %[ssl_fc_has_sni] %[ssl_fc_alpn]"
    " %[ssl_fc_is_resumed] %[ssl_c_used] %[ssl_c_verify] %{+Q}[ssl_c_s_dn] %{+Q}[ssl_c_s_dn(cn)] %{+Q}[ssl_c_i_dn]"
    " %[ssl_c_sha1,hex] %{+Q}[ssl_c_notbefore] %[ssl_c_notafter]"
)
CLIENT_MS = 400
CLOSED = "Connection closed during SSL handshake"
FAILED = "SSL handshake failure"
TIMED_OUT = "Timeout during SSL handshake"
NOT_TRUSTED = "SSL client certificate not trusted"
CA_NOT_VERIFIED = "SSL client CA chain cannot be verified"


class _Rig:
    def __init__(self, rig: TlsRig, log: socket.socket, clients: dict[str, Identity]) -> None:
        self.rig = rig
        self.log = log
        self.clients = clients

    def context(self, client: str | None = None, **options: object) -> ssl.SSLContext:
        context = self.rig.context(**options)
        if client is not None:
            context.load_cert_chain(self.rig.write(f"client-{client}.pem", self.clients[client].pem))
        return context

    def lines_of(self, port: int) -> str:
        """The text of the next line about that client, which must be the right one in full."""
        while True:
            line = self.log.recv(65536).decode()
            assert line.endswith("\n")
            found = re.fullmatch(
                r"<134>\w{3} [ \d]\d [\d:]{8} haproxy\[\d+\]: 127\.0\.0\.1:(\d+)"
                r" \[\d\d/\w{3}/\d{4}:[\d:]{8}\.\d{3}\] (.*)",
                line.strip(),
            )
            if found is not None and int(found[1]) == port:
                return found[2]


@pytest.fixture(scope="module", params=BOTH)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Rig]:
    rig = TlsRig(tmp_path_factory.mktemp("lines"))
    authority = rig.authority
    clients = {
        "good": authority.issue("good"),
        "revoked": authority.issue("revoked"),
        "expired": authority.issue("expired", days=-1),
        "foreign": Authority("another").issue("foreign"),
    }
    options = f"ssl crt-list {rig.write_list(authority.issue('server'))}"
    options += f" ca-file {rig.write('ca.pem', authority.pem)} verify optional"
    options += f" crl-file {rig.write('crl.pem', authority.revoke(clients['revoked']))} alpn http/1.1"
    form = f"%ci:%cp [%t] {VARIABLES}".replace(" ", "\\ ")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        path = str(rig.directory / "log.sock")
        log.bind(path)
        log.settimeout(10)
        target = f"unix@{path}" if request.param == "haproxy" else path
        frontend = f"    log-format {form}\n"
        with run_tls_rig(request.param, rig, options, client_ms=CLIENT_MS, frontend=frontend, log=target, strict=True):
            yield _Rig(rig, log, clients)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_line_of_a_client_with_a_certificate(served: _Rig, version: ssl.TLSVersion) -> None:
    context = served.context("good", maximum_version=version)
    context.set_alpn_protocols(["http/1.1"])
    with served.rig.connect(context, name="a.example") as connection:
        assert served.rig.ask(connection).status == 200
        cipher = connection.cipher()
        assert cipher is not None
        port, session = connection.getsockname()[1], connection.session
    certificate = served.clients["good"].certificate
    name = "TLSv1.2" if version is ssl.TLSVersion.TLSv1_2 else "TLSv1.3"
    facts = (
        f'1 0 "/C=DE/O=Tests/CN=good" "good" "/C=DE/O=Tests/CN=root" {_sha1(certificate)}'
        f' "{certificate.not_valid_before_utc:%y%m%d%H%M%SZ}" {certificate.not_valid_after_utc:%y%m%d%H%M%SZ}'
    )
    wanted = f"web~ 1 {name} {cipher[0]} {name} {cipher[0]} a.example 1 http/1.1"
    assert served.lines_of(port) == f"{wanted} 0 {facts}"

    with served.rig.connect(context, name="a.example", session=session) as connection:
        assert served.rig.ask(connection).status == 200
        port = connection.getsockname()[1]
    assert served.lines_of(port) == f"{wanted} 1 {facts}"


def test_line_of_a_client_without_a_certificate(served: _Rig) -> None:
    with served.rig.connect() as connection:
        assert served.rig.ask(connection).status == 200
        port = connection.getsockname()[1]
    cipher = "TLS_AES_256_GCM_SHA384"
    wanted = f'web~ 1 TLSv1.3 {cipher} TLSv1.3 {cipher} - 0 - 0 0 0 "" "" "" - "" -'
    assert served.lines_of(port) == wanted


def _hello(rig: TlsRig) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        rig.context().wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    ("sent", "then", "reason"),
    [
        (0, "close", CLOSED),
        (0, "wait", TIMED_OUT),
        (5, "close", CLOSED),
        (50, "close", CLOSED),
        (50, "reset", FAILED),
        (50, "wait", TIMED_OUT),
        (9999, "close", FAILED),
        (9999, "wait", TIMED_OUT),
    ],
)
def test_line_of_a_client_that_stops_in_the_handshake(served: _Rig, sent: int, then: str, reason: str) -> None:
    with socket.create_connection(("127.0.0.1", served.rig.port), 10) as plain:
        port = plain.getsockname()[1]
        plain.sendall(_hello(served.rig)[:sent])
        if sent > 1000:
            assert plain.recv(1)  # its answer has come, so the hello was complete
        if then == "reset":
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if then == "wait":
            assert served.lines_of(port) == f"web/1: {reason}"
            return
    assert served.lines_of(port) == f"web/1: {reason}"


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\0" * 600])
def test_line_of_what_is_no_handshake(served: _Rig, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.rig.port), 10) as plain:
        port = plain.getsockname()[1]
        plain.sendall(garbage)
        assert served.lines_of(port) == f"web/1: {FAILED}"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("client", ["revoked", "expired", "foreign"])
def test_line_of_a_certificate_that_is_not_accepted(served: _Rig, client: str, version: ssl.TLSVersion) -> None:
    with socket.create_connection(("127.0.0.1", served.rig.port), 10) as plain:
        port = plain.getsockname()[1]
        context = served.context(client, maximum_version=version)
        with contextlib.suppress(ssl.SSLError, ConnectionError), context.wrap_socket(plain) as connection:
            served.rig.ask(connection)
        assert served.lines_of(port) == f"web/1: {NOT_TRUSTED}"


@pytest.mark.parametrize("proxy", BOTH)
def test_line_of_an_issuer_that_is_not_accepted(proxy: str, tmp_path: Path) -> None:
    rig = TlsRig(tmp_path)
    rig.authority = Authority("root", days=-1)
    client = rig.authority.issue("client")
    options = f"ssl crt-list {rig.write_list(client)} ca-file {rig.write('ca.pem', rig.authority.pem)} verify required"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        path = str(tmp_path / "log.sock")
        log.bind(path)
        log.settimeout(10)
        target = f"unix@{path}" if proxy == "haproxy" else path
        with run_tls_rig(proxy, rig, options, frontend="    log-format %ci\n", log=target):
            running = _Rig(rig, log, {"client": client})
            with socket.create_connection(("127.0.0.1", rig.port), 10) as plain:
                port = plain.getsockname()[1]
                context = running.context("client")
                with contextlib.suppress(ssl.SSLError, ConnectionError), context.wrap_socket(plain) as connection:
                    rig.ask(connection)
                assert running.lines_of(port) == f"web/1: {CA_NOT_VERIFIED}"


def _sha1(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA1()).hex().upper()  # what the variable is defined with
