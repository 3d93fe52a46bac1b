"""What an OCSP response has to be before clients get it (RFC 6960 section 4.2.2, RFC 5019 section 2.2.4)."""

from __future__ import annotations

import time

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from amphorad.proxy.staples import Staple, StapleWatch, staples_of
from amphorad.proxy.tls.stapling import check_response
from tests.support.certificates import Authority
from tests.support.ocsp_responses import Responder

# Responses are made when the tests are collected and judged as of then, however long the suite takes to come here.
NOW = time.time()
AUTHORITY = Authority()
ONE, OTHER = AUTHORITY.issue("one"), AUTHORITY.issue("other")
RESPONDER = Responder(AUTHORITY)
IMPOSTOR = Authority()  # of the same name
GOOD = RESPONDER.answer(ONE)
UNSUCCESSFUL = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(
    serialization.Encoding.DER
)


def check(response: bytes, issuers: bytes = AUTHORITY.pem) -> int:
    return check_response(ONE.pem, issuers, response, NOW)


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(GOOD, id="good"),
        pytest.param(RESPONDER.answer(ONE, status=ocsp.OCSPCertStatus.REVOKED), id="revoked"),
        pytest.param(RESPONDER.answer(ONE, digest=hashes.SHA256()), id="SHA-256 in the identity"),
        pytest.param(RESPONDER.answer(ONE, begins_s=100), id="clock of the responder ahead"),
        pytest.param(Responder(AUTHORITY, delegate=True).answer(ONE), id="delegated responder"),
    ],
)
def test_usable_response_holds_until_its_next_update(response: bytes) -> None:
    assert abs(check(response) - (NOW + 3600)) < 120


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"x" * 65537, "longer than 65536", id="too long"),
        pytest.param(b"\0", "no OCSP response", id="garbage"),
        pytest.param(GOOD[:-1], "no OCSP response", id="cut off"),
        pytest.param(GOOD + b"\n", "no OCSP response", id="something behind it"),
        pytest.param(AUTHORITY.pem, "no OCSP response", id="PEM"),
        pytest.param(UNSUCCESSFUL, "responder says trylater", id="unsuccessful"),
        pytest.param(RESPONDER.answer(OTHER), "another certificate", id="other serial number"),
        pytest.param(RESPONDER.answer(ONE, issuer=IMPOSTOR.certificate), "another certificate", id="other issuer"),
        pytest.param(RESPONDER.answer(ONE, status=ocsp.OCSPCertStatus.UNKNOWN), "does not know", id="unknown"),
        pytest.param(RESPONDER.answer(ONE, ends_s=None), "until when", id="no end"),
        pytest.param(RESPONDER.answer(ONE, begins_s=-7200, ends_s=-10), "has expired", id="expired"),
        pytest.param(RESPONDER.answer(ONE, begins_s=1800), "does not hold yet", id="not yet"),
        pytest.param(
            Responder(IMPOSTOR).answer(ONE, issuer=AUTHORITY.certificate), "signature", id="signed by a stranger"
        ),
        pytest.param(
            Responder(AUTHORITY, delegate=True, charged=False).answer(ONE), "signature", id="responder not charged"
        ),
        pytest.param(
            Responder(IMPOSTOR, delegate=True).answer(ONE, issuer=AUTHORITY.certificate),
            "signature",
            id="responder of a stranger",
        ),
    ],
)
def test_unusable_response_is_refused_with_the_reason(response: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check(response)


@pytest.mark.parametrize("place", range(0, len(GOOD), 7))
def test_changed_byte_is_refused(place: int) -> None:
    with pytest.raises(ValueError, match=r"it|responder"):
        check(GOOD[:place] + bytes([GOOD[place] ^ 0x10]) + GOOD[place + 1 :])


def test_issuer_is_found_in_the_file_of_the_certificate_too() -> None:
    assert check_response(ONE.pem + AUTHORITY.pem, b"", GOOD, NOW)
    with pytest.raises(ValueError, match="issuer's certificate is neither"):
        check(GOOD, b"")
    with pytest.raises(ValueError, match=r"signature|another certificate"):
        check(GOOD, IMPOSTOR.pem)


def test_intermediate_is_issuer_enough() -> None:
    intermediate = Authority("intermediate", issuer=AUTHORITY)
    identity = intermediate.issue("below")

    assert check_response(identity.pem + intermediate.pem, b"", Responder(intermediate).answer(identity), NOW)


def test_responses_beside_certificates_are_judged_and_told_of_once() -> None:
    files = {"a": ONE.pem, "a.ocsp": GOOD, "a.issuer": AUTHORITY.pem}
    files |= {"b": OTHER.pem, "b.ocsp": GOOD, "b.issuer": AUTHORITY.pem, "c": ONE.pem}

    found = staples_of(["a", "b", "a", "c"], files, NOW)

    assert [(staple.file, staple.reason) for staple in found] == [("a", None), ("b", "it is about another certificate")]
    watch = StapleWatch("l", found)
    assert watch.look(NOW) == ["listener l: OCSP response b.ocsp is not stapled: it is about another certificate"]
    assert watch.look(found[0].until - 1) == []
    assert watch.look(found[0].until) == ["listener l: OCSP response a.ocsp is not stapled: it has expired"]
    assert watch.look(found[0].until) == []
    assert isinstance(found[0], Staple)
