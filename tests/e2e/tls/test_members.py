"""TLS towards members: what is offered, shown and verified, and which connections and sessions are used again."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Authority
from tests.support.http_rig import BOTH
from tests.support.scripted_member import connect, get, read_response
from tests.support.served import free_port
from tests.support.tls_members import TlsMember, Visit, member_context, pool_text, run_pool
from tests.support.tls_rig import TlsRig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.timeout(60)]
proxies = pytest.mark.parametrize("proxy", BOTH)
V12 = "no-sslv3 no-tlsv10 no-tlsv11 no-tlsv13"
V13 = "no-sslv3 no-tlsv10 no-tlsv11 no-tlsv12"


def status_of(port: int, path: str = "/x/1") -> int:
    with connect(port) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return int(read_response(client).split()[0])


@contextlib.contextmanager
def plain_listener(proxy: str, directory: Path, member: TlsMember, options: str, mode: str = "http") -> Iterator[int]:
    port = free_port()
    text = pool_text(port, [f"127.0.0.1:{member.port} weight 1 ssl {options}"], mode=mode)
    with run_pool(proxy, directory, text):
        yield port


@pytest.fixture
def authority() -> Authority:
    return Authority()


@proxies
def test_member_is_spoken_to_over_tls_without_a_name_or_protocol(
    proxy: str, tmp_path: Path, authority: Authority
) -> None:
    with (
        TlsMember(member_context(authority.issue("m"), tmp_path)) as member,
        plain_listener(proxy, tmp_path, member, "verify none sni ssl_fc_sni") as port,
    ):
        assert status_of(port) == 200
    (visit,) = member.visits
    assert (visit.server_name, visit.protocol, visit.version) == (None, None, "TLSv1.3")


@proxies
@pytest.mark.parametrize(
    ("options", "version", "cipher"),
    [
        (V12, "TLSv1.2", None),
        (V13, "TLSv1.3", None),
        ("no-sslv3 no-tlsv10 no-tlsv11", "TLSv1.3", None),
        (f"ciphers ECDHE-ECDSA-AES128-GCM-SHA256 {V12}", "TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        (f"ciphers ECDHE-ECDSA-CHACHA20-POLY1305 {V12}", "TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        (f"ciphersuites TLS_CHACHA20_POLY1305_SHA256 {V13}", "TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256"),
        (f"ciphersuites TLS_AES_128_GCM_SHA256 {V13}", "TLSv1.3", "TLS_AES_128_GCM_SHA256"),
    ],
)
def test_versions_and_ciphers_are_those_of_the_file(
    proxy: str, tmp_path: Path, authority: Authority, options: str, version: str, cipher: str | None
) -> None:
    with (
        TlsMember(member_context(authority.issue("m"), tmp_path)) as member,
        plain_listener(proxy, tmp_path, member, f"verify none {options}") as port,
    ):
        assert status_of(port) == 200
    (visit,) = member.visits
    assert visit.version == version
    assert cipher is None or visit.cipher == cipher


@proxies
def test_a_member_of_another_version_is_not_used(proxy: str, tmp_path: Path, authority: Authority) -> None:
    context = member_context(authority.issue("m"), tmp_path, maximum_version=ssl.TLSVersion.TLSv1_2)
    with TlsMember(context) as member, plain_listener(proxy, tmp_path, member, f"verify none {V13}") as port:
        assert status_of(port) == 503
    assert all(visit.failure for visit in member.visits)


@proxies
def test_of_the_protocols_http1_is_agreed_on(proxy: str, tmp_path: Path, authority: Authority) -> None:
    context = member_context(authority.issue("m"), tmp_path)
    context.set_alpn_protocols(["http/1.1"])
    with (
        TlsMember(context) as member,
        plain_listener(proxy, tmp_path, member, "verify none alpn h2,http/1.1,http/1.0") as port,
    ):
        assert status_of(port) == 200
    assert member.visits[0].protocol == "http/1.1"


@proxies
def test_client_certificate_is_shown_to_the_member(proxy: str, tmp_path: Path, authority: Authority) -> None:
    client = authority.issue("balancer")
    (tmp_path / "client.pem").write_bytes(client.pem)
    (tmp_path / "root.pem").write_bytes(authority.pem)
    context = member_context(authority.issue("m"), tmp_path, verify_mode=ssl.CERT_REQUIRED)
    context.load_verify_locations(tmp_path / "root.pem")
    with (
        TlsMember(context) as member,
        plain_listener(proxy, tmp_path, member, f"crt {tmp_path}/client.pem verify none") as port,
    ):
        assert status_of(port) == 200
    assert member.visits[0].certificate is not None
    assert ssl.DER_cert_to_PEM_cert(member.visits[0].certificate).encode() == client.certificate_pem


@proxies
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_member_that_misses_a_client_certificate(
    proxy: str, tmp_path: Path, authority: Authority, version: str
) -> None:
    """With TLS 1.3 the refusal comes behind the handshake. It is a bad answer then; in HAProxy either, by timing."""
    (tmp_path / "root.pem").write_bytes(authority.pem)
    context = member_context(
        authority.issue("m"), tmp_path, verify_mode=ssl.CERT_REQUIRED, maximum_version=ssl.TLSVersion[version]
    )
    context.load_verify_locations(tmp_path / "root.pem")
    with TlsMember(context) as member, plain_listener(proxy, tmp_path, member, "verify none") as port:
        expected = {503} if version == "TLSv1_2" else {502} if proxy == "amphorad" else {502, 503}
        assert status_of(port) in expected


# --- verification ---


@proxies
@pytest.mark.parametrize("crl", ["", "clean", "revoked"])
@pytest.mark.parametrize("kind", ["good", "expired", "foreign", "chained", "client-only"])
def test_members_certificate_is_verified(proxy: str, tmp_path: Path, authority: Authority, kind: str, crl: str) -> None:
    issuer = Authority("foreign") if kind == "foreign" else authority
    identity = issuer.issue("m", "m.example", days=-1 if kind == "expired" else 365)
    if kind == "chained":
        identity = Authority("below", issuer=authority).issue("m", "m.example")
    if kind == "client-only":
        identity = authority.issue("m", "m.example", server=False)
    (tmp_path / "root.pem").write_bytes(authority.pem)
    (tmp_path / "crl.pem").write_bytes(authority.revoke(*([identity] if crl == "revoked" else [])))
    options = f"ca-file {tmp_path}/root.pem"
    if crl:
        options += f" crl-file {tmp_path}/crl.pem verify required"
    expected = 200 if kind == "good" and crl != "revoked" else 503
    if kind == "chained" and not crl:
        expected = 503  # the member does not send the certificate between
    with (
        TlsMember(member_context(identity, tmp_path)) as member,
        plain_listener(proxy, tmp_path, member, options) as port,
    ):
        assert status_of(port) == expected
        if expected == 503:
            assert len(member.visits) == 4  # the first and three retries


@contextlib.contextmanager
def tls_listener(proxy: str, rig: TlsRig, member: TlsMember, options: str) -> Iterator[None]:
    crt_list = rig.write_list(rig.authority.issue("listener"))
    text = pool_text(
        rig.port,
        [f"127.0.0.1:{member.port} weight 1 ssl {options} sni ssl_fc_sni"],
        bind_options=f"ssl crt-list {crt_list} alpn http/1.1",
    )
    with run_pool(proxy, rig.directory, text):
        yield


NAMES = [
    ("m.example", 200),
    ("M.Example", 200),
    ("a.wild.example", 200),
    ("a.b.wild.example", 503),
    ("wild.example", 503),
    ("other.example", 503),
    ("common.example", 200),
    (None, 200),
]


@proxies
def test_certificate_must_be_for_the_name_that_the_client_asked_for(proxy: str, tmp_path: Path) -> None:
    rig = TlsRig(tmp_path)
    root = rig.write("root.pem", rig.authority.pem)
    identity = rig.authority.issue("common.example", "m.example", "*.wild.example")
    with (
        TlsMember(member_context(identity, tmp_path)) as member,
        tls_listener(proxy, rig, member, f"ca-file {root}"),
    ):
        for name, status in NAMES:
            with rig.connect(name=name) as client:
                assert (name, rig.ask(client).status) == (name, status)
    assert {visit.server_name for visit in member.visits if visit.heads} == {
        name for name, status in NAMES if status == 200
    }


# --- what is used again ---


@proxies
def test_idle_connections_serve_other_clients_of_the_same_name(proxy: str, tmp_path: Path) -> None:
    rig = TlsRig(tmp_path)
    with (
        TlsMember(member_context(rig.authority.issue("m"), tmp_path)) as member,
        tls_listener(proxy, rig, member, "verify none"),
    ):
        for name in ("a.example", "b.example", "a.example", None, "b.example"):
            with rig.connect(name=name) as client:
                for number in range(3):
                    assert rig.ask(client, f"/{name}/{number}").status == 200
    for visit in member.visits:
        names = {head.split(b"/")[1] for head in visit.heads}
        assert names == {str(visit.server_name).encode()}
    assert proxy == "haproxy" or len(member.visits) <= 6  # three names, two threads


@proxies
@pytest.mark.parametrize("version", [V12, V13])
def test_sessions_are_resumed(proxy: str, tmp_path: Path, authority: Authority, version: str) -> None:
    with (
        TlsMember(member_context(authority.issue("m"), tmp_path)) as member,
        plain_listener(proxy, tmp_path, member, f"verify none {version}") as port,
    ):
        for _number in range(8):
            assert status_of(port, "/close/10") == 200
    assert len(member.visits) == 8
    assert sum(visit.resumed for visit in member.visits) >= 4  # each thread has to shake hands in full once


def test_session_is_not_resumed_under_another_name(tmp_path: Path) -> None:
    """What was verified for one name says nothing of another one."""
    rig = TlsRig(tmp_path)
    root = rig.write("root.pem", rig.authority.pem)
    identity = rig.authority.issue("m", "m.example")
    with (
        TlsMember(member_context(identity, tmp_path)) as member,
        tls_listener("amphorad", rig, member, f"ca-file {root}"),
    ):
        for name in ("m.example", "n.example", "m.example", "n.example", None, "n.example"):
            with rig.connect(name=name) as client:
                assert rig.ask(client, "/close/1").status == (503 if name == "n.example" else 200)


# --- bodies and ends ---


def used(member: TlsMember) -> list[Visit]:
    """Without the connection of HAProxy's fixture, which looks whether it listens."""
    return [visit for visit in member.visits if visit.heads]


@proxies
@pytest.mark.parametrize("size", [1, 16384, 16385, 100_000, 3_000_000])
def test_bodies_come_whole(proxy: str, tmp_path: Path, authority: Authority, size: int) -> None:
    with (
        TlsMember(member_context(authority.issue("m"), tmp_path)) as member,
        plain_listener(proxy, tmp_path, member, "verify none") as port,
        connect(port) as client,
    ):
        assert get(client, f"/size/{size}").endswith(b"s" * size)
        client.sendall(b"POST /x/1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"q" * size)
        assert b"content-length: " in read_response(client)


@proxies
@pytest.mark.parametrize("tidy", [True, False])
def test_body_up_to_the_end_of_the_connection(proxy: str, tmp_path: Path, authority: Authority, tidy: bool) -> None:
    """Members that end with a bare FIN are common; HAProxy takes it for the end."""
    with (
        TlsMember(member_context(authority.issue("m"), tmp_path), tidy=tidy) as member,
        plain_listener(proxy, tmp_path, member, "verify none") as port,
        connect(port) as client,
    ):
        client.sendall(b"GET /close/100000 HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while chunk := client.recv(65536):
            received += chunk
        assert received.endswith(b"c" * 100_000)


@proxies
def test_reset_in_a_body_is_not_taken_for_its_end(proxy: str, tmp_path: Path, authority: Authority) -> None:
    with (
        TlsMember(member_context(authority.issue("m"), tmp_path)) as member,
        plain_listener(proxy, tmp_path, member, "verify none") as port,
        connect(port) as client,
    ):
        client.sendall(b"GET /break/50000 HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        with contextlib.suppress(ConnectionError):
            while chunk := client.recv(65536):
                received += chunk
        assert len(received) < 100_000
        assert status_of(port) == 200


@proxies
@pytest.mark.parametrize("tidy", [True, False])
def test_tcp_pool_carries_bytes_both_ways(proxy: str, tmp_path: Path, authority: Authority, tidy: bool) -> None:
    with (
        TlsMember(member_context(authority.issue("m"), tmp_path), tidy=tidy) as member,
        plain_listener(proxy, tmp_path, member, "verify none", mode="tcp") as port,
        connect(port) as client,
    ):
        assert get(client, "/size/500000").endswith(b"s" * 500_000)
        client.sendall(b"GET /close/100000 HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while chunk := client.recv(65536):
            received += chunk
        assert received.endswith(b"c" * 100_000)
    assert [len(visit.heads) for visit in used(member)] == [2]


@proxies
def test_tcp_pool_offers_the_protocols_of_the_file(proxy: str, tmp_path: Path, authority: Authority) -> None:
    context = member_context(authority.issue("m"), tmp_path)
    context.set_alpn_protocols(["h2"])
    with (
        TlsMember(context) as member,
        plain_listener(proxy, tmp_path, member, "verify none alpn h2,http/1.1", mode="tcp") as port,
        connect(port) as client,
    ):
        assert get(client, "/size/5").endswith(b"sssss")
    assert used(member)[0].protocol == "h2"


@proxies
@pytest.mark.parametrize("mode", ["http", "tcp"])
@pytest.mark.parametrize("version", [1, 2])
def test_proxy_header_comes_in_front_of_the_handshake(
    proxy: str, tmp_path: Path, authority: Authority, mode: str, version: int
) -> None:
    option = "send-proxy" if version == 1 else "send-proxy-v2"
    with (
        TlsMember(member_context(authority.issue("m"), tmp_path), proxy_header=True) as member,
        plain_listener(proxy, tmp_path, member, f"verify none {option}", mode=mode) as port,
        connect(port) as client,
    ):
        source = client.getsockname()[1]
        assert get(client, "/size/5").endswith(b"sssss")
        assert get(client, "/size/6").endswith(b"ssssss")
    (visit,) = used(member)
    assert len(visit.heads) == 2
    text = str(source).encode() if version == 1 else source.to_bytes(2)
    assert text in visit.plain
    assert socket.inet_aton("127.0.0.1") in visit.plain or b" 127.0.0.1 " in visit.plain
