"""Certificate files -> TLS contexts."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization

from amphorad.agent_api.tls import CertificateRefused, TlsFiles, check_server_certificate

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.api_certificates import Identities


@pytest.fixture
def files(tmp_path: Path, identities: Identities) -> TlsFiles:
    (tmp_path / "server.pem").write_bytes(identities.server.read_bytes())
    (tmp_path / "ca.pem").write_bytes(identities.client_ca.read_bytes())
    return TlsFiles(tmp_path / "server.pem", tmp_path / "ca.pem")


def test_tls_files_context_requires_client_certificates_and_tls_1_2(files: TlsFiles) -> None:
    context = files.context()

    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.maximum_version is ssl.TLSVersion.MAXIMUM_SUPPORTED


def test_tls_files_unchanged_keep_the_context(files: TlsFiles) -> None:
    assert files.context() is files.context()


@pytest.mark.parametrize("name", ["server.pem", "ca.pem"])
def test_tls_files_changed_make_a_new_context(files: TlsFiles, tmp_path: Path, name: str) -> None:
    before = files.context()

    os.utime(tmp_path / name, ns=(1, 1))

    assert files.context() not in (None, before)


@pytest.mark.parametrize("name", ["server.pem", "ca.pem"])
@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nxxxx\n", None])
def test_tls_files_broken_or_gone_keep_the_old_context_until_mended(
    files: TlsFiles, tmp_path: Path, name: str, content: bytes | None
) -> None:
    before = files.context()
    good = (tmp_path / name).read_bytes()

    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    assert files.context() is before
    (tmp_path / name).write_bytes(good + b"\n")

    assert files.context() not in (None, before)


def test_tls_files_missing_at_first_come_later(tmp_path: Path, identities: Identities) -> None:
    files = TlsFiles(tmp_path / "server.pem", identities.client_ca)
    assert files.context() is None

    (tmp_path / "server.pem").write_bytes(identities.server.read_bytes())

    assert files.context() is not None


def test_check_server_certificate_good_one_passes(identities: Identities) -> None:
    check_server_certificate(identities.server.read_bytes())


def _parts(identities: Identities) -> tuple[bytes, bytes]:
    pem = identities.server.read_bytes()
    at = pem.index(b"-----BEGIN RSA")
    return pem[:at], pem[at:]


@pytest.mark.parametrize("case", ["empty", "text", "no key", "no certificate", "another key", "half", "encrypted key"])
def test_check_server_certificate_refuses(identities: Identities, case: str) -> None:
    certificate, key = _parts(identities)
    another = identities.client.read_bytes()
    encrypted = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    pem = {
        "empty": b"",
        "text": b"hello\n" * 100,
        "no key": certificate,
        "no certificate": key,
        "another key": certificate + another[another.index(b"-----BEGIN RSA") :],
        "half": (certificate + key)[:-200],
        "encrypted key": certificate + encrypted,
    }[case]

    with pytest.raises(CertificateRefused, match="not a certificate chain with its key"):
        check_server_certificate(pem)
