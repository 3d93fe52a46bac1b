"""Files of TLS pools that change, are missing, or cannot be used."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Authority
from tests.support.scripted_member import ScriptedMember, connect, get, http_member, read_response
from tests.support.served import Served, free_port, wait_until
from tests.support.tls_members import TlsMember, member_context, pool_text, run_pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.timeout(60)]


class Rig:
    """A pool that verifies one member and shows it a certificate."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority()
        self.port = free_port()
        self.identity = self.authority.issue("m")
        self.write(self.authority.pem, "root.pem")
        self.write(self.authority.revoke(), "crl.pem")
        self.write(self.authority.issue("balancer").pem, "client.pem")
        self.member = TlsMember(member_context(self.identity, directory))
        self.text = pool_text(
            self.port,
            [
                f"127.0.0.1:{self.member.port} weight 1 ssl crt {directory}/client.pem ca-file {directory}/root.pem "
                f"crl-file {directory}/crl.pem verify required"
            ],
            retries=0,
        )

    def write(self, content: bytes, name: str) -> None:
        (self.directory / name).write_bytes(content)

    def status(self) -> int:
        with connect(self.port) as client:
            client.sendall(b"GET /x/1 HTTP/1.1\r\nHost: x\r\n\r\n")
            return int(read_response(client).split()[0])


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    found = Rig(tmp_path)
    with found.member:
        yield found


@pytest.fixture
def served(rig: Rig) -> Iterator[Served]:
    with run_pool("amphorad", rig.directory, rig.text) as running:
        assert running is not None
        yield running


def test_new_revocations_count_at_once_and_nothing_made_before_is_used_again(rig: Rig, served: Served) -> None:
    assert rig.status() == 200
    rig.write(rig.authority.revoke(rig.identity), "crl.pem")
    assert served.apply(rig.text).returncode == 0
    for _number in range(4):  # neither the idle connection nor the session that could be resumed
        assert rig.status() == 503
    rig.write(rig.authority.revoke(), "crl.pem")
    assert served.apply(rig.text).returncode == 0
    assert rig.status() == 200


def test_requests_under_way_end_as_they_began(rig: Rig, served: Served) -> None:
    with connect(rig.port) as client:
        client.sendall(b"POST /x/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        wait_until(lambda: rig.member.visits and rig.member.visits[0].heads)
        rig.write(rig.authority.revoke(rig.identity), "crl.pem")
        assert served.apply(rig.text).returncode == 0
        client.sendall(b"cd")
        assert read_response(client).startswith(b"200")


def test_same_bytes_are_no_change(rig: Rig, served: Served) -> None:
    with connect(rig.port) as client:
        get(client, "/x/1")
        generation = served.status()["generation"]
        assert served.apply(rig.text).returncode == 0
        assert served.status()["generation"] == generation
        get(client, "/x/1")
    assert len(rig.member.visits) == 1


@pytest.mark.parametrize("name", ["client.pem", "root.pem", "crl.pem"])
@pytest.mark.parametrize("content", [None, b"", b"no certificate\n", "mismatched"])
def test_a_file_that_cannot_be_used_is_refused_by_name_and_the_old_one_serves(
    rig: Rig, served: Served, name: str, content: bytes | str | None
) -> None:
    if content is None:
        (rig.directory / name).unlink()
    elif isinstance(content, bytes):
        rig.write(content, name)
    else:  # one certificate with the key of another one; elsewhere a key alone
        other = rig.authority.issue("other")
        rig.write((rig.identity.certificate_pem if name == "client.pem" else b"") + other.key_pem, name)
    refused = served.apply(rig.text)
    assert refused.returncode != 0
    assert name in refused.stdout + refused.stderr
    assert "PRIVATE" not in refused.stdout + refused.stderr + served.log
    assert rig.status() == 200


@pytest.mark.parametrize("options", ["ciphers nothing", "ciphersuites nothing"])
def test_ciphers_that_openssl_does_not_know_are_refused(rig: Rig, served: Served, options: str) -> None:
    refused = served.apply(rig.text.replace(" ssl ", f" ssl {options} "))
    assert refused.returncode != 0
    assert options in refused.stdout + refused.stderr
    assert rig.status() == 200


def test_pool_that_becomes_a_tls_pool_and_plain_again(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member(b"plain")) as plain:
        options = f"127.0.0.1:{plain.port} weight 1"
        with run_pool("amphorad", tmp_path, pool_text(port, [options])) as served, connect(port) as client:
            assert served is not None
            assert get(client) == b"200 plain"
            assert get(client) == b"200 plain"
            assert served.apply(pool_text(port, [f"{options} ssl verify none"], retries=0)).returncode == 0
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_response(client).startswith(b"503")  # not the idle plain connection
            assert served.apply(pool_text(port, [options])).returncode == 0
            assert get(client) == b"200 plain"


def test_certificate_that_is_about_to_expire_is_told_of(rig: Rig, served: Served) -> None:
    rig.write(rig.authority.issue("balancer", days=3).pem, "client.pem")
    assert served.apply(rig.text).returncode == 0
    wait_until(lambda: any(re.search("client.pem expires in [23] days", text) for text in served.status()["alarms"]))
    assert rig.status() == 200
