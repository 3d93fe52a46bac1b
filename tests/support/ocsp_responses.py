"""OCSP responses made when they are asked for: `responses.good(identity)` is DER, as a responder of the authority's sends it."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from tests.support.certificates import Authority, Identity

__all__ = ["Responder"]

_DAY = datetime.timedelta(days=1)


class Responder:
    """Answers for the certificates of an authority with the authority's own key, or as a delegate with one of its own.

    Args:
        delegate: signs with a key and certificate of its own, which comes with the response.
        charged: the delegate's certificate says that it may.
    """

    def __init__(self, authority: Authority, *, delegate: bool = False, charged: bool = True) -> None:
        self._issuer = authority.certificate
        self._key: Any = authority._key
        self._own: x509.Certificate | None = None
        if delegate:
            key = ec.generate_private_key(ec.SECP256R1())
            now = datetime.datetime.now(datetime.UTC)
            purpose = ExtendedKeyUsageOID.OCSP_SIGNING if charged else ExtendedKeyUsageOID.SERVER_AUTH
            self._own = (
                x509.CertificateBuilder()
                .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "responder")]))
                .issuer_name(authority.certificate.subject)
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - _DAY)
                .not_valid_after(now + _DAY)
                .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
                .sign(authority._key, hashes.SHA256())
            )
            self._key = key

    def answer(
        self,
        identity: Identity,
        *,
        status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
        begins_s: float = -3600,
        ends_s: float | None = 3600,
        digest: hashes.HashAlgorithm | None = None,
        issuer: x509.Certificate | None = None,
    ) -> bytes:
        """`begins_s` and `ends_s`: from now. `issuer`: whose certificate the response says it is about."""
        now = datetime.datetime.now(datetime.UTC)
        revoked = status is ocsp.OCSPCertStatus.REVOKED
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=identity.certificate,
            issuer=issuer or self._issuer,
            algorithm=digest or hashes.SHA1(),
            cert_status=status,
            this_update=now + datetime.timedelta(seconds=begins_s),
            next_update=now + datetime.timedelta(seconds=ends_s) if ends_s is not None else None,
            revocation_time=now - _DAY if revoked else None,
            revocation_reason=None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, self._own or self._issuer)
        if self._own is not None:
            builder = builder.certificates([self._own])
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
