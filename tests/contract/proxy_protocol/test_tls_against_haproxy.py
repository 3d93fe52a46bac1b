"""What a PROXY header of version 2 tells of the client's TLS: the bytes of HAProxy (`send-proxy-v2`, `send-proxy-v2-ssl-cn`)."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.support.certificates import Authority, Identity
from tests.support.reference_haproxy import haproxy_program
from tests.support.tls_members import pool_text, run_pool
from tests.support.tls_rig import TlsRig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.haproxy, pytest.mark.timeout(90)]
if haproxy_program() is None:
    pytest.skip("the haproxy program is not installed", allow_module_level=True)

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
PROTOCOLS: tuple[list[str], ...] = ([], ["http/1.1"], ["unknown", "http/1.0"])
SUBJECTS = {
    "one": [(NameOID.COUNTRY_NAME, "DE"), (NameOID.COMMON_NAME, "the client")],
    "two": [(NameOID.COMMON_NAME, "first"), (NameOID.ORGANIZATION_NAME, "o"), (NameOID.COMMON_NAME, "second")],
    "odd": [(NameOID.COMMON_NAME, 'tab\there "quoted" <é> ' + "x" * 30)],
    "none": [(NameOID.ORGANIZATION_NAME, "no common name")],
}


class Listening:
    """A member that takes one connection at a time: header, request, answer."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        self._socket.close()

    def take_header(self) -> bytes:
        self._socket.settimeout(10)
        with self._socket.accept()[0] as connection:
            connection.settimeout(10)
            header = connection.recv(16, socket.MSG_WAITALL)
            header += connection.recv(int.from_bytes(header[14:16]), socket.MSG_WAITALL)
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        return header


@contextlib.contextmanager
def running(proxy: str, rig: TlsRig, member: Listening, option: str, bind_options: str) -> Iterator[None]:
    crt_list = rig.write_list(rig.authority.issue("listener"))
    text = pool_text(
        rig.port,
        [f"127.0.0.1:{member.port} weight 1 {option}"],
        bind_options=f"ssl crt-list {crt_list} {bind_options} alpn http/1.1,http/1.0",
    )
    with run_pool(proxy, rig.directory, text):
        yield


def headers_of(rig: TlsRig, member: Listening, context: ssl.SSLContext, count: int) -> list[bytes]:
    """Of as many connections, each resuming the session before; without the addresses, ports and the length."""
    session = None
    found = []
    for number in range(count):
        with rig.connect(context, session=session, name="name.example") as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            header = member.take_header()
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
            assert client.session_reused is (number > 0)
            session = client.session
        found.append(header[12:16] + header[28:])
    return found


def observe(
    proxy: str, directory: Path, option: str, bind_options: str, certificates: list[Path | None]
) -> list[bytes]:
    rig = TlsRig(directory)
    found = []
    member = Listening()
    try:
        with running(proxy, rig, member, option, bind_options):
            for version, protocols, certificate in itertools.product(VERSIONS, PROTOCOLS, certificates):
                context = rig.context(maximum_version=version)
                if certificate is not None:
                    context.load_cert_chain(certificate)
                if protocols:
                    context.set_alpn_protocols(protocols)
                found += headers_of(rig, member, context, 2)
    finally:
        member.close()
    return found


def issue(authority: Authority, subject: list[tuple[x509.ObjectIdentifier, str]]) -> Identity:
    return authority.issue("unused", subject=x509.Name([x509.NameAttribute(kind, text) for kind, text in subject]))


@pytest.mark.parametrize("option", ["send-proxy-v2-ssl-cn", "send-proxy-v2"])
@pytest.mark.parametrize("authentication", ["none", "optional", "required"])
def test_members_get_the_bytes_of_haproxy(tmp_path: Path, option: str, authentication: str) -> None:
    authority = Authority()
    (tmp_path / "root.pem").write_bytes(authority.pem)
    certificates: list[Path | None] = [] if authentication == "required" else [None]
    if authentication != "none":
        for name, subject in SUBJECTS.items():
            path = tmp_path / f"{name}.client.pem"
            path.write_bytes(issue(authority, subject).pem)
            certificates.append(path)
    found = {
        proxy: observe(proxy, tmp_path, option, f"ca-file {tmp_path}/root.pem verify {authentication}", certificates)
        for proxy in ("haproxy", "amphorad")
    }
    assert found["amphorad"] == found["haproxy"]
    if option == "send-proxy-v2-ssl-cn":
        assert all(b"\x21\x00\x07TLSv1." in header for header in found["amphorad"])
        assert any(b"the client" in header for header in found["amphorad"]) is (authentication != "none")
    assert len(set(found["amphorad"])) > 1
