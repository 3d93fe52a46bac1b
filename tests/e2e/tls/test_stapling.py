"""OCSP responses that clients get with the handshake, by `openssl s_client -status` (RFC 6066 section 8)."""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.ocsp_responses import Responder
from tests.support.served import Served, wait_until
from tests.support.tls_rig import EchoMember, TlsRig, tls_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.certificates import Identity

OPENSSL = shutil.which("openssl")
pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(OPENSSL is None, reason="the openssl program is not installed"),
]
VERSIONS = ("-tls1_2", "-tls1_3")


class Rig:
    """A TLS listener with certificates 0, 1 and so on, the issuer's certificate beside each."""

    def __init__(self, directory: Path, *names: str) -> None:
        self.tls = TlsRig(directory)
        self.responder = Responder(self.tls.authority)
        self.identities = [self.tls.authority.issue(name, name) for name in names]

    def write(self, place: int, response: bytes) -> None:
        self.tls.write(f"certificate{place}.pem.ocsp", response)
        self.tls.write(f"certificate{place}.pem.issuer", self.tls.authority.pem)

    @contextmanager
    def serve(self, *options: str) -> Iterator[Served]:
        crt_list = self.tls.write_list(*self.identities)
        member = EchoMember()
        try:
            with Served(
                self.tls.directory, tls_text(self.tls.port, member.port, f"ssl crt-list {crt_list}"), *options
            ) as served:
                yield served
        finally:
            member.close()

    def stapled(self, name: str = "a.example", *options: str) -> int | None:
        """The serial number that the response is about which a client gets; None: it gets none."""
        assert OPENSSL is not None
        command = [OPENSSL, "s_client", "-connect", f"127.0.0.1:{self.tls.port}", "-servername", name, "-status"]
        done = subprocess.run([*command, *options], input="", capture_output=True, text=True, timeout=20)
        if "OCSP response: no response sent" in done.stdout:
            return None
        assert "OCSP Response Status: successful" in done.stdout, done.stdout + done.stderr
        serial = re.search(r"Serial Number: ([0-9A-F]+)", done.stdout)
        assert serial is not None
        return int(serial[1], 16)


def _serial(identity: Identity) -> int:
    return identity.certificate.serial_number


def _alarms(served: Served) -> list[str]:
    return [text for text in served.status()["alarms"] if "OCSP" in text]


def test_nothing_is_stapled_unless_the_operator_says_so(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a.example")
    rig.write(0, rig.responder.answer(rig.identities[0]))
    with rig.serve() as served:
        assert rig.stapled() is None
        assert _alarms(served) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_each_name_gets_the_response_of_its_certificate(tmp_path: Path, version: str) -> None:
    rig = Rig(tmp_path, "a.example", "b.example", "c.example")
    for place in (0, 1):
        rig.write(place, rig.responder.answer(rig.identities[place]))
    with rig.serve("--ocsp-stapling") as served:
        assert rig.stapled("a.example", version) == _serial(rig.identities[0])
        assert rig.stapled("b.example", version) == _serial(rig.identities[1])
        assert rig.stapled("c.example", version) is None
        assert rig.stapled("unknown.example", version) == _serial(rig.identities[0])
        assert _alarms(served) == []


def test_each_kind_of_key_gets_its_own_response(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a.example")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    rig.identities.append(rig.tls.authority.issue("a.example", "a.example", key=key))
    for place in (0, 1):
        rig.write(place, rig.responder.answer(rig.identities[place]))
    with rig.serve("--ocsp-stapling"):
        assert rig.stapled("a.example", "-sigalgs", "ECDSA+SHA256") == _serial(rig.identities[0])
        assert rig.stapled("a.example", "-sigalgs", "RSA-PSS+SHA256") == _serial(rig.identities[1])


def test_client_that_does_not_ask_gets_none(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a.example")
    rig.write(0, rig.responder.answer(rig.identities[0]))
    with rig.serve("--ocsp-stapling"), rig.tls.connect() as connection:
        assert rig.tls.ask(connection).status == 200


def test_changed_bytes_are_stapled_after_an_apply(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a.example")
    with rig.serve("--ocsp-stapling") as served, rig.tls.connect() as old:
        assert rig.stapled() is None
        text = served.file.read_text()

        rig.write(0, rig.responder.answer(rig.identities[0]))
        assert served.apply(text).returncode == 0
        assert rig.stapled() == _serial(rig.identities[0])
        generation = served.status()["generation"]
        assert served.apply(text).returncode == 0
        assert served.status()["generation"] == generation

        rig.write(0, b"rubbish")
        assert served.apply(text).returncode == 0
        assert rig.stapled() is None
        (tmp_path / "certificate0.pem.ocsp").unlink()
        assert served.apply(text).returncode == 0
        assert rig.stapled() is None
        assert rig.tls.ask(old).status == 200


def test_unusable_response_is_told_of_and_not_stapled(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a.example", "b.example", "c.example")
    rig.write(0, rig.responder.answer(rig.identities[1]))
    rig.write(1, rig.responder.answer(rig.identities[1], begins_s=-7200, ends_s=-60))
    rig.write(2, b"")
    with rig.serve("--ocsp-stapling") as served:
        assert [rig.stapled(name) for name in ("a.example", "b.example", "c.example")] == [None, None, None]
        wait_until(lambda: len(_alarms(served)) == 3)
        told = "\n".join(_alarms(served))
        assert "certificate0.pem.ocsp is not stapled: it is about another certificate" in told
        assert "certificate1.pem.ocsp is not stapled: it has expired" in told
        assert "certificate2.pem.ocsp is not stapled: it cannot be read, is empty" in told
        assert "certificate0.pem.ocsp is not stapled: it is about another certificate" in served.log
        with rig.tls.connect() as connection:
            assert rig.tls.ask(connection).status == 200


def test_response_that_expires_while_it_is_served_is_sent_no_more(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a.example")
    with rig.serve("--ocsp-stapling") as served:
        rig.write(0, rig.responder.answer(rig.identities[0], ends_s=8))
        assert served.apply(served.file.read_text()).returncode == 0
        assert rig.stapled() == _serial(rig.identities[0])

        wait_until(lambda: rig.stapled() is None)
        wait_until(
            lambda: [text for text in _alarms(served) if "certificate0.pem.ocsp is not stapled: it has expired" in text]
        )
