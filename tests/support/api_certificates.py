"""Certificates as the controller makes them for its amphorae and for itself: two CAs, one for each direction."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Authority", "Identities", "make_identities"]

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """A CA: `certificate` is what others verify with."""

    certificate: bytes
    _certificate: x509.Certificate
    _key: rsa.RSAPrivateKey

    @classmethod
    def make(cls, name: str) -> Authority:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        builder = _builder(name, name, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        certificate = builder.sign(key, hashes.SHA256())
        return cls(certificate.public_bytes(serialization.Encoding.PEM), certificate, key)

    def issue(self, name: str, *, days: int = 30) -> bytes:
        """A certificate and its key in one PEM, as the controller sends them to an amphora: SAN, both usages, PKCS#1 key."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        issuer = self._certificate.subject.rfc4514_string().removeprefix("CN=")
        usages = [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(name, issuer, key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )


def _builder(name: str, issuer: str, key: rsa.RSAPublicKey, days: int = 30) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    end = now + days * _DAY
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - _DAY)
        .not_valid_after(end)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, common)])


@dataclass(frozen=True)
class Identities:
    """Files of one amphora and its controller.

    Args:
        server: PEM of the amphora, `server_ca` what the controller verifies it with.
        client: PEM of the controller, `client_ca` what the amphora verifies it with.
        strangers_client: PEM of a client of another CA.
    """

    amphora_id: str
    server: Path
    server_ca: Path
    client: Path
    client_ca: Path
    strangers_client: Path
    server_authority: Authority
    client_authority: Authority


def make_identities(directory: Path, amphora_id: str) -> Identities:
    """Makes all of them in a directory. Takes a second: keep them for a whole session."""
    server_authority, client_authority, stranger = (Authority.make(name) for name in ("server", "client", "stranger"))
    contents = {
        "server.pem": server_authority.issue(amphora_id),
        "server_ca.pem": server_authority.certificate,
        "client.pem": client_authority.issue("controller"),
        "client_ca.pem": client_authority.certificate,
        "stranger.pem": stranger.issue("controller"),
    }
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return Identities(
        amphora_id,
        *(directory / name for name in contents),
        server_authority=server_authority,
        client_authority=client_authority,
    )
