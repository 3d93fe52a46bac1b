"""L7 rules about the client's TLS and certificate, on amphorad and on HAProxy (Octavia contract sections 4.7 and 4.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier

from tests.support.http_peers import Client
from tests.support.http_rig import BOTH
from tests.support.tls_rig import TlsRig, run_tls_rig

if TYPE_CHECKING:
    from collections.abc import Iterator

# may_leak: the played member lives as long as the module, and with it the proxy's connections to it
pytestmark = [pytest.mark.timeout(60), pytest.mark.may_leak]

SUBJECT = x509.Name(
    [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests, Inc"),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "first"),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "second"),
        x509.NameAttribute(NameOID.COMMON_NAME, "Grüße"),
        x509.NameAttribute(ObjectIdentifier("1.3.6.1.4.1.55555.7"), "of our own"),
    ]
)
# rule: of clients with that certificate, of TLS clients without one; on a plain connection nothing but `!` holds
RULES = {
    "ssl_c_used": (True, False),
    "ssl_c_verify eq 0": (True, True),
    "ssl_c_verify eq 10": (False, False),
    "ssl_c_s_dn(CN) -m str Grüße": (True, False),
    "ssl_c_s_dn(cn) -m str Grüße": (True, False),
    "ssl_c_s_dn(CN) -m str grüße": (False, False),
    "ssl_c_s_dn(CN) -m beg Grü": (True, False),
    "ssl_c_s_dn(CN) -m beg rü": (False, False),
    "ssl_c_s_dn(CN) -m end ße": (True, False),
    "ssl_c_s_dn(CN) -m sub üß": (True, False),
    "ssl_c_s_dn(CN) -m sub x": (False, False),
    "ssl_c_s_dn(CN) -m reg ^Gr.*e$": (True, False),
    "ssl_c_s_dn(CN) -m reg ^x": (False, False),
    "ssl_c_s_dn(O) -m str Tests,\\ Inc": (True, False),
    "ssl_c_s_dn(C) -m str DE": (True, False),
    "ssl_c_s_dn(OU) -m str first": (True, False),
    "ssl_c_s_dn(OU) -m str second": (False, False),
    "ssl_c_s_dn(ST) -m reg .*": (False, False),
    "ssl_c_s_dn(1.3.6.1.4.1.55555.7) -m str of\\ our\\ own": (True, False),
}


def _frontend() -> str:
    """A rule is told of by the path: /N for the Nth, /!N for its inversion. 403: it holds."""
    lines = []
    for number, rule in enumerate(RULES):
        lines += [f"acl rule{number} {rule}", f"acl path{number} path -m str /{number}"]
        lines += [f"acl inverted{number} path -m str /!{number}"]
        lines += [f"http-request deny if path{number} rule{number}"]
        lines += [f"http-request deny if inverted{number} !rule{number}"]
    return "".join(f"    {line}\n" for line in lines)


@pytest.fixture(scope="module", params=BOTH)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRig]:
    found = TlsRig(tmp_path_factory.mktemp("rules"))
    options = f"ssl crt-list {found.write_list(found.authority.issue('server'))}"
    options += f" ca-file {found.write('ca.pem', found.authority.pem)} verify optional"
    found.write("client.pem", found.authority.issue("", subject=SUBJECT).pem)
    with run_tls_rig(request.param, found, options, frontend=_frontend(), strict=True):
        yield found


def _found(rig: TlsRig, *, certificate: bool) -> dict[str, bool]:
    context = rig.context()
    if certificate:
        context.load_cert_chain(rig.directory / "client.pem")
    found = {}
    with rig.connect(context) as connection:
        for number, rule in enumerate(RULES):
            holds = rig.ask(connection, f"/{number}").status == 403
            assert (rig.ask(connection, f"/!{number}").status == 403) is not holds, rule
            found[rule] = holds
    return found


def test_rules_of_a_client_with_a_certificate(rig: TlsRig) -> None:
    assert _found(rig, certificate=True) == {rule: expected[0] for rule, expected in RULES.items()}


def test_rules_of_a_client_without_a_certificate(rig: TlsRig) -> None:
    assert _found(rig, certificate=False) == {rule: expected[1] for rule, expected in RULES.items()}


def test_rules_still_know_the_certificate_of_a_resumed_session(rig: TlsRig) -> None:
    context = rig.context()
    context.load_cert_chain(rig.directory / "client.pem")
    with rig.connect(context) as connection:
        assert rig.ask(connection, "/0").status == 403
        session = connection.session
    with rig.connect(context, session=session) as connection:
        assert rig.ask(connection, "/0").status == 403
        assert connection.session_reused


# --- a listener whose text has the redirect, but no TLS ---


@pytest.fixture(scope="module", params=BOTH)
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRig]:
    rig = TlsRig(tmp_path_factory.mktemp("plain"))
    more = "    acl u path -m beg /!\n    redirect code 301 location http://other/ if u\n"
    with run_tls_rig(request.param, rig, "", frontend=more + _frontend(), strict=True):
        yield rig


def test_rules_have_no_sample_on_a_plain_connection(plain: TlsRig) -> None:
    with Client(plain.port) as client:
        for number, rule in enumerate(RULES):
            client.send(f"GET /{number} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            assert client.read_message().status == 302, rule
            client.send(f"GET /!{number} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            assert client.read_message().status == 403, rule


@pytest.mark.parametrize(
    ("request_line", "host", "location"),
    [
        ("GET /a/b?c=d HTTP/1.1", "h.example:8080", b"https://h.example:8080/a/b?c=d"),
        ("GET / HTTP/1.1", "h", b"https://h/"),
        ("GET http://h/x?y HTTP/1.1", "h", b"https://h/x?y"),
        ("GET http://h HTTP/1.1", "h", b"https://h/"),
        ("OPTIONS * HTTP/1.1", "h", b"https://h/"),
        ("HEAD /!other HTTP/1.1", "h", b"https://h/!other"),  # before the redirects of policies
        ("GET /old HTTP/1.0", None, b"https:///old"),
    ],
)
def test_plain_connection_is_redirected_to_https(
    plain: TlsRig, request_line: str, host: str | None, location: bytes
) -> None:
    host_line = f"Host: {host}\r\n" if host is not None else ""
    with Client(plain.port) as client:
        client.send(f"{request_line}\r\n{host_line}\r\n".encode())
        answer = client.read_message(request_line.split(" ")[0])
    closing = b"" if request_line.endswith("1.1") else b"connection: close\r\n"

    assert answer.raw == (
        b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: " + location + b"\r\ncache-control: no-cache\r\n"
        + closing + b"\r\n"
    )  # fmt: skip
