"""TLS termination: certificates by server name, versions, resumption, and what is not a handshake."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.support.http_rig import BOTH
from tests.support.tls_rig import Answer, TlsRig, run_tls_rig

if TYPE_CHECKING:
    from collections.abc import Iterator

# may_leak: the played member lives as long as the module, and with it the proxy's connections to it
pytestmark = [pytest.mark.timeout(60), pytest.mark.may_leak]

NAMES = (
    (None, "default"),
    ("default.example", "default"),
    ("unknown.example", "default"),
    ("one.example", "one"),
    ("ONE.Example", "one"),
    ("two.example", "two"),
    ("a.wild.example", "wild"),
    ("wild.example", "default"),
    ("a.b.wild.example", "default"),
    ("exact.wild.example", "exact"),
    ("common", "common"),
)


@pytest.fixture(scope="module", params=BOTH)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRig]:
    """Five certificates behind one bind."""
    found = TlsRig(tmp_path_factory.mktemp("tls"))
    issue = found.authority.issue
    crt_list = found.write_list(
        issue("default", "default.example"),
        issue("one", "one.example", "two.example.invalid"),
        issue("two", "two.example"),
        issue("wild", "*.wild.example"),
        issue("exact", "exact.wild.example"),
        issue("common"),
    )
    with run_tls_rig(
        request.param, found, f"ssl crt-list {crt_list} no-sslv3 no-tlsv10 no-tlsv11 alpn h2,http/1.1"
    ) as running:
        yield running


def _common_name(connection: ssl.SSLSocket) -> str:
    der = connection.getpeercert(binary_form=True)
    assert der is not None
    value = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert isinstance(value, str)
    return value


@pytest.mark.parametrize(("name", "common_name"), NAMES)
def test_the_server_name_chooses_the_certificate(rig: TlsRig, name: str | None, common_name: str) -> None:
    with rig.connect(name=name) as connection:
        assert _common_name(connection) == common_name
        assert rig.ask(connection).status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_many_requests_on_one_connection(rig: TlsRig, version: ssl.TLSVersion) -> None:
    with rig.connect(rig.context(maximum_version=version)) as connection:
        for number in range(50):
            answer = rig.ask(connection, f"/{number}")
            assert answer.body.startswith(f"GET /{number} ".encode())


@pytest.mark.parametrize("size", [1, 16383, 16384, 16385, 100_000, 3_000_000])
def test_bodies_of_any_size_come_whole(rig: TlsRig, size: int) -> None:
    with rig.connect() as connection:
        assert rig.ask(connection, f"/size/{size}").body == b"s" * size
        assert rig.ask(connection, "/after").status == 200


def test_a_long_request_body_arrives(rig: TlsRig) -> None:
    with rig.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n" + b"q" * 2_000_000)
        assert Answer.read(connection).status == 200


def test_pipelined_requests_in_one_record(rig: TlsRig) -> None:
    with rig.connect() as connection:
        connection.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b""
        while chunk := connection.recv(65536):  # also: the connection ends with close_notify, else this raises
            received += chunk
        assert received.index(b"GET /a ") < received.index(b"GET /b ")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed(rig: TlsRig, version: ssl.TLSVersion) -> None:
    context = rig.context(maximum_version=version)
    with rig.connect(context) as connection:
        rig.ask(connection)
        session = connection.session
        assert not connection.session_reused
    with rig.connect(context, session=session) as connection:
        assert rig.ask(connection).status == 200
        assert connection.session_reused


def test_each_resumption_brings_a_new_ticket(rig: TlsRig) -> None:
    context, session, tickets = rig.context(), None, set()
    for number in range(4):
        with rig.connect(context, session=session) as connection:
            assert rig.ask(connection).status == 200
            assert connection.session_reused is (number > 0)
            session = connection.session
            assert session is not None
            tickets.add(session.id)
    assert len(tickets) == 4


def test_http1_is_agreed_on(rig: TlsRig) -> None:
    context = rig.context()
    context.set_alpn_protocols(["http/1.1"])
    with rig.connect(context) as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"


def test_an_old_version_is_refused(rig: TlsRig) -> None:
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context = rig.context(minimum_version=ssl.TLSVersion.TLSv1_1, maximum_version=ssl.TLSVersion.TLSv1_1)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)), rig.connect(context):
        pass


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + b"\0" * 64,
        b"\0" * 100,
        b"\x16\x03\x01\x00\x05hello",
    ],
)
def test_what_is_no_handshake_ends_the_connection(rig: TlsRig, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", rig.port), 10) as plain:
        plain.sendall(garbage)
        received = b""
        try:
            while chunk := plain.recv(4096):
                received += chunk
        except ConnectionError:
            pass
        assert not received.startswith(b"HTTP")
    with rig.connect() as connection:
        assert rig.ask(connection).status == 200


def test_a_client_that_leaves_in_the_handshake_harms_nobody(rig: TlsRig) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello_of = rig.context().wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        hello_of.do_handshake()
    hello = outgoing.read()
    for length in range(0, len(hello) + 1, 40):
        with socket.create_connection(("127.0.0.1", rig.port), 10) as plain:
            plain.sendall(hello[:length])
    with rig.connect() as connection:
        assert rig.ask(connection).status == 200


def test_a_hello_in_single_bytes_is_served(rig: TlsRig) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = rig.context().wrap_bio(incoming, outgoing)
    with socket.create_connection(("127.0.0.1", rig.port), 10) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    plain.sendall(bytes([byte]))
                incoming.write(plain.recv(65536))
        client.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for byte in outgoing.read():
            plain.sendall(bytes([byte]))
        while True:
            try:
                assert client.read(65536).startswith(b"HTTP/1.1 200")
                break
            except ssl.SSLWantReadError:
                incoming.write(plain.recv(65536))
