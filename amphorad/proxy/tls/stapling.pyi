def check_response(material: bytes, issuers: bytes, response: bytes, now: float) -> int:
    """Until when an OCSP response may be stapled to a certificate, as wall time in seconds.

    It has to be about that certificate (issuer and serial number), good or revoked, signed by the issuer or its responder, to
    have begun and not to have ended at wall time `now`, and to say when it ends (RFC 6960 section 4.2.2). At most 64 KiB.

    Args:
        material: PEM; the certificate first. Others in it may be its issuer.
        issuers: further PEM certificates among which its issuer may be.
        response: DER.

    Raises:
        ValueError: it may not; with the reason.
    """
