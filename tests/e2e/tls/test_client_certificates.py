"""Client authentication and the headers that tell members of it, on amphorad and on HAProxy."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from tests.support.certificates import Authority, Identity
from tests.support.tls_rig import TlsRig, run_tls_rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.timeout(60), pytest.mark.may_leak]  # the played member lives as long as the module

HEADERS = {
    "X-SSL-Client-Verify": "%[ssl_c_verify]",
    "X-SSL-Client-Has-Cert": "%[ssl_c_used]",
    "X-SSL-Client-DN": "%{+Q}[ssl_c_s_dn]",
    "X-SSL-Client-CN": "%{+Q}[ssl_c_s_dn(cn)]",
    "X-SSL-Issuer": "%{+Q}[ssl_c_i_dn]",
    "X-SSL-Client-SHA1": "%{+Q}[ssl_c_sha1,hex]",
    "X-SSL-Client-Not-Before": "%{+Q}[ssl_c_notbefore]",
    "X-SSL-Client-Not-After": "%{+Q}[ssl_c_notafter]",
}
CLIENTS = ("none", "good", "expired", "revoked", "foreign")
ACCEPTED = {
    "none": set(CLIENTS),
    "optional": {"none", "good"},
    "required": {"good"},
}
CASES = [
    pytest.param((proxy, mode), marks=[pytest.mark.haproxy] if proxy == "haproxy" else [])
    for proxy in ("amphorad", "haproxy")
    for mode in ACCEPTED
]


class _Setup:
    def __init__(self, rig: TlsRig, mode: str, clients: dict[str, Identity]) -> None:
        self.rig = rig
        self.mode = mode
        self.clients = clients

    def context(self, client: str) -> ssl.SSLContext:
        context = self.rig.context()
        if client != "none":
            context.load_cert_chain(self.rig.write(f"client-{client}.pem", self.clients[client].pem))
        return context


@pytest.fixture(scope="module", params=CASES)
def setup(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Setup]:
    proxy, mode = request.param
    rig = TlsRig(tmp_path_factory.mktemp("clients"))
    authority = rig.authority
    clients = {
        "good": authority.issue("good client"),
        "expired": authority.issue("expired", days=-1),
        "revoked": authority.issue("revoked"),
        "foreign": Authority("another root").issue("foreign"),
    }
    crt_list = rig.write_list(authority.issue("server"))
    options = f"ssl crt-list {crt_list} ca-file {rig.write('ca.pem', authority.pem)} verify {mode}"
    options += f" crl-file {rig.write('crl.pem', authority.revoke(clients['revoked']))}"
    backend = "".join(f"    http-request set-header {name} {value}\n" for name, value in HEADERS.items())
    with run_tls_rig(proxy, rig, options, backend=backend):
        yield _Setup(rig, mode, clients)


def _told(body: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in body.decode().split("\r\n")[1:])
    return {name.lower(): value.strip() for name, _colon, value in lines if name.lower().startswith("x-ssl-")}


@pytest.mark.parametrize("client", CLIENTS)
def test_who_is_let_in_and_what_the_member_is_told(setup: _Setup, client: str) -> None:
    context = setup.context(client)
    if client not in ACCEPTED[setup.mode]:
        with pytest.raises((ssl.SSLError, ConnectionError)), setup.rig.connect(context) as connection:
            setup.rig.ask(connection)
        return
    with setup.rig.connect(context) as connection:
        # what the client claims is taken away
        told = _told(setup.rig.ask(connection, extra="X-SSL-Client-CN: liar\r\nX-SSL-Client-Verify: 0\r\n").body)
    if client == "none" or setup.mode == "none":
        assert told == {name.lower(): "" for name in HEADERS} | {
            "x-ssl-client-verify": "0",
            "x-ssl-client-has-cert": "0",
        }
        return
    certificate = setup.clients[client].certificate
    assert told == {
        "x-ssl-client-verify": "0",
        "x-ssl-client-has-cert": "1",
        "x-ssl-client-dn": "/C=DE/O=Tests/CN=good client",
        "x-ssl-client-cn": "good client",
        "x-ssl-issuer": "/C=DE/O=Tests/CN=root",
        "x-ssl-client-sha1": certificate.fingerprint(_sha1()).hex().upper(),
        "x-ssl-client-not-before": certificate.not_valid_before_utc.strftime("%y%m%d%H%M%SZ"),
        "x-ssl-client-not-after": certificate.not_valid_after_utc.strftime("%y%m%d%H%M%SZ"),
    }


def _subject(letter: str, fields: int) -> x509.Name:
    """Of 60 bytes a field and a few, as the header has them."""
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, letter * 56) for _ in range(fields)])


@pytest.mark.parametrize(("fields", "length"), [(17, 1020), (18, 0)])
def test_a_name_of_1_kib_is_told_and_a_longer_one_left_out(tmp_path: Path, fields: int, length: int) -> None:
    rig = TlsRig(tmp_path)
    rig.authority = Authority(subject=_subject("r", fields))
    client = rig.write("client.pem", rig.authority.issue("", subject=_subject("c", fields)).pem)
    options = f"ssl crt-list {rig.write_list(rig.authority.issue('server'))}"
    options += f" ca-file {rig.write('ca.pem', rig.authority.pem)} verify required"
    backend = "".join(f"    http-request set-header {name} {value}\n" for name, value in HEADERS.items())
    with run_tls_rig("amphorad", rig, options, backend=backend + "    option forwardfor\n"):
        context = rig.context()
        context.load_cert_chain(client)
        with rig.connect(context) as connection:
            told = _told(rig.ask(connection).body)
            assert [len(told[name]) for name in ("x-ssl-client-dn", "x-ssl-issuer")] == [length, length]
            assert told["x-ssl-client-has-cert"] == "1"


def test_more_lines_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    rig = TlsRig(tmp_path)
    options = f"ssl crt-list {rig.write_list(rig.authority.issue('server'))}"
    backend = "".join(f"    http-request set-header X-SSL-{n} %{{+Q}}[ssl_c_s_dn]\n" for n in range(6))
    with run_tls_rig("amphorad", rig, options) as running:
        assert running.served is not None
        text = running.served.file.read_text()
        refused = running.served.apply(text.replace("    fullconn", backend + "    fullconn"))
        assert refused.returncode != 0
        assert "inserted headers" in refused.stderr + refused.stdout


def _sha1() -> hashes.SHA1:
    return hashes.SHA1()  # what the header is defined with


def test_a_resumed_session_still_has_its_certificate(setup: _Setup) -> None:
    if setup.mode == "none":
        pytest.skip("no certificate is asked for")
    context = setup.context("good")
    with setup.rig.connect(context) as connection:
        first = _told(setup.rig.ask(connection).body)
        session = connection.session
    with setup.rig.connect(context, session=session) as connection:
        assert _told(setup.rig.ask(connection).body) == first
        assert connection.session_reused
