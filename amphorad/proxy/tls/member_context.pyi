from collections.abc import Sequence

class MemberContext:
    """How a TLS pool speaks to its members (Octavia contract section 4.10.4).

    Immutable; connections keep what they began with. With a CA a member's certificate must verify, and must be for the server
    name that was sent, if one was; no other root counts. Sessions are resumed only under the context that verified them.

    Args:
        certificate: name and bytes of the file that members get to see (certificate, key and chain in PEM); None: none.
        ca: name and PEM bytes of the roots; None: members are not verified.
        crl: name and PEM bytes of revocation lists, one for every CA of a chain; None: revocation is not looked at.
        ciphers: OpenSSL cipher list for versions up to 1.2; None for OpenSSL's default.
        ciphersuites: colon list of TLS 1.3 suites; None for the default.
        versions: names as in `amphorad.model.TLS_VERSIONS`; there may be holes.
        protocols: offered by ALPN, in the order of preference; none: ALPN is not used.

    Raises:
        ValueError: names the file or option, and OpenSSL's reason.
    """

    expiries: list[tuple[str, int]]
    """Of the certificate: its file and the seconds until it expires, counted at construction."""

    def __init__(
        self,
        *,
        certificate: tuple[str, bytes] | None = None,
        ca: tuple[str, bytes] | None = None,
        crl: tuple[str, bytes] | None = None,
        ciphers: str | None = None,
        ciphersuites: str | None = None,
        versions: frozenset[str],
        protocols: Sequence[bytes] = (),
    ) -> None: ...
    def failures(self) -> tuple[int, str]:
        """Handshakes that failed since the construction, and the reason for the latest."""
