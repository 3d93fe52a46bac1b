"""An RSA and an ECDSA certificate for one name: what each client gets, from amphorad and from HAProxy."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.http_rig import BOTH
from tests.support.tls_rig import TlsRig, run_tls_rig

if TYPE_CHECKING:
    from collections.abc import Iterator

# may_leak: the played member lives as long as the module, and with it the proxy's connections to it
pytestmark = [pytest.mark.timeout(60), pytest.mark.may_leak]

EVERYTHING = "ecdsa_secp256r1_sha256:rsa_pss_rsae_sha256:rsa_pkcs1_sha256"
ONLY_RSA = "rsa_pss_rsae_sha256:rsa_pkcs1_sha256"
ONLY_ECDSA = "ecdsa_secp256r1_sha256"


@pytest.fixture(scope="module", params=BOTH)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRig]:
    found = TlsRig(tmp_path_factory.mktemp("kinds"))
    issue = found.authority.issue

    def key() -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(65537, 2048)

    crt_list = found.write_list(
        issue("default", "default.example", key=key()),
        issue("both-rsa", "both.example", key=key()),
        issue("both-ecdsa", "both.example", "ecdsa.example"),
        issue("later-rsa", "both.example", "x.wild.example", key=key()),
        issue("wild-ecdsa", "*.wild.example"),
    )
    with run_tls_rig(request.param, found, f"ssl crt-list {crt_list}") as running:
        yield running


@pytest.mark.parametrize("versions", [("-tls1_2",), ("-min_protocol", "TLSv1.2")])
@pytest.mark.parametrize(
    ("name", "algorithms", "subject"),
    [
        ("both.example", EVERYTHING, "both-ecdsa"),
        ("both.example", ONLY_RSA, "both-rsa"),
        ("both.example", ONLY_ECDSA, "both-ecdsa"),
        ("ecdsa.example", EVERYTHING, "both-ecdsa"),
        ("x.wild.example", EVERYTHING, "wild-ecdsa"),
        ("x.wild.example", ONLY_RSA, "later-rsa"),
        ("y.wild.example", EVERYTHING, "wild-ecdsa"),
        ("other.example", EVERYTHING, "default"),
    ],
)
def test_a_client_gets_a_certificate_that_it_can_verify(
    rig: TlsRig, name: str, algorithms: str, subject: str, versions: tuple[str, ...]
) -> None:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{rig.port}", "-servername", name, *versions]
    done = subprocess.run(
        [*command, "-sigalgs", algorithms], input="", capture_output=True, text=True, timeout=20, check=False
    )

    assert f"CN = {subject}\n" in done.stdout
