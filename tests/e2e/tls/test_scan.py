"""What a scanner finds out about a TLS listener, where sslscan is installed: the same as about HAProxy's, and nothing weak."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.tls_rig import TlsRig, run_tls_rig

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = shutil.which("sslscan")
pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.haproxy,
    pytest.mark.skipif(PROGRAM is None, reason="the sslscan program is not installed"),
]

# What Octavia writes by default.
CIPHERS = (
    "ciphers TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:"
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384"
)
DEFAULT = f"{CIPHERS} no-sslv3 no-tlsv10 no-tlsv11 alpn h2,http/1.1"
SUITE = "TLS_CHACHA20_POLY1305_SHA256"
# Compared as they stand: everything about a listener that is not a date or a port.
FACTS = ("protocol", "renegotiation", "heartbleed", "cipher", "group", "signature-algorithm", "pk")


def _scan(kind: str, directory: Path, key: rsa.RSAPrivateKey | None, options: str) -> list[dict[str, str]]:
    directory.mkdir()
    rig = TlsRig(directory)
    crt_list = rig.write_list(rig.authority.issue("default", "default.example", key=key))
    with run_tls_rig(kind, rig, f"ssl crt-list {crt_list} {options}"):
        command = [str(PROGRAM), "--xml=-", "--show-sigs", "--no-colour", f"127.0.0.1:{rig.port}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    found = ElementTree.fromstring(done.stdout)
    return [
        {"tag": each.tag, "text": (each.text or "").strip(), **each.attrib}
        for each in found.iter()
        if each.tag in FACTS
    ]


@pytest.mark.parametrize("key", ["ecdsa", "rsa"])
@pytest.mark.parametrize(
    ("options", "versions"),
    [
        pytest.param(DEFAULT, {"tls 1.2", "tls 1.3"}, id="default"),
        pytest.param(f"{CIPHERS} no-sslv3 no-tlsv10 no-tlsv11 no-tlsv13", {"tls 1.2"}, id="1.2"),
        pytest.param(f"ciphersuites {SUITE} no-sslv3 no-tlsv10 no-tlsv11 no-tlsv12", {"tls 1.3"}, id="1.3"),
    ],
)
def test_scanner_finds_what_the_file_allows_and_what_it_finds_at_haproxy(
    tmp_path: Path, options: str, versions: set[str], key: str
) -> None:
    secret = rsa.generate_private_key(65537, 2048) if key == "rsa" else None
    ours, theirs = (_scan(kind, tmp_path / kind, secret, options) for kind in ("amphorad", "haproxy"))

    assert ours == theirs
    enabled = {
        f"{each['type']} {each['version']}" for each in ours if each["tag"] == "protocol" and each["enabled"] == "1"
    }
    assert enabled == versions
    assert {each["supported"] for each in ours if each["tag"] == "renegotiation"} == {"0"}
    assert {each["vulnerable"] for each in ours if each["tag"] == "heartbleed"} == {"0"}
    assert {each["sslversion"] for each in ours if each["tag"] == "cipher"} == {f"TLSv{one[4:]}" for one in versions}
