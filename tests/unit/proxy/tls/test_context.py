"""Which certificate a server name leads to, when there are several kinds of key."""

from __future__ import annotations

import pytest

from amphorad.proxy.tls.context import ServerContext, certificates_by_name, expiry_of
from tests.support.certificates import Authority

RSA, EC = 6, 408


@pytest.mark.parametrize(
    ("entries", "kinds", "found"),
    [
        ([(b"a", 0), (b"b", 1)], [RSA, RSA], {b"a": (0,), b"b": (1,)}),
        ([(b"a", 0), (b"a", 1)], [RSA, RSA], {b"a": (0,)}),
        ([(b"a", 0), (b"a", 1), (b"a", 2)], [RSA, EC, RSA], {b"a": (0, 1)}),
        ([(b"x.d", 0), (b"*.d", 1)], [RSA, RSA], {b"x.d": (0,), b"*.d": (1,)}),
        ([(b"x.d", 0), (b"*.d", 1)], [RSA, EC], {b"x.d": (0, 1), b"*.d": (1,)}),
        ([(b"*.d", 0), (b"*.d", 1), (b"d", 1)], [RSA, EC], {b"*.d": (0, 1), b"d": (1,)}),
        ([(b"x.y.d", 0), (b"*.d", 1)], [RSA, EC], {b"x.y.d": (0,), b"*.d": (1,)}),
    ],
)
def test_certificates_of_a_name(
    entries: list[tuple[bytes, int]], kinds: list[int], found: dict[bytes, tuple[int, ...]]
) -> None:
    assert certificates_by_name(entries, kinds) == found


def test_many_names_and_certificates() -> None:
    authority = Authority()
    certificates = [
        (f"{number}.pem", authority.issue(f"n{number}", *(f"{number}-{each}.example" for each in range(70))).pem)
        for number in range(5)
    ]

    for _ in range(20):
        ServerContext(certificates, identity=b"l", versions=frozenset({"TLSv1.3"}))


def test_a_bad_certificate_among_good_ones_is_named() -> None:
    good = Authority().issue("a").pem

    with pytest.raises(ValueError, match=r"certificate b\.pem"):
        ServerContext([("a.pem", good), ("b.pem", b"none")], identity=b"l", versions=frozenset({"TLSv1.3"}))


def test_expiry_of_a_certificate() -> None:
    identity = Authority().issue("a", days=3)

    assert expiry_of(identity.pem) == int(identity.certificate.not_valid_after_utc.timestamp())
    assert expiry_of(b"") is None
