from collections.abc import Sequence

from amphorad.proxy.staples import Staple

class ServerContext:
    """What a TLS listener offers: its certificates, chosen by server name and what the client can verify, and its options (Octavia contract section 4.8).

    Immutable; connections keep what they began with. Tickets are the only way to resume, under keys that all threads share,
    and only where the client authentication is the same. Renegotiation and compression are off.

    Args:
        certificates: pairs of a file's name and its bytes (certificate, key and chain in PEM), the default one first.
        identity: of the listener; a session is resumed only under the same.
        ca: PEM certificates that clients are verified with; None: clients are not asked for one.
        crl: PEM revocation lists, one for every CA of a chain.
        required: whether a client without certificate is refused.
        ciphers: OpenSSL cipher list for versions up to 1.2; None for OpenSSL's default.
        ciphersuites: colon list of TLS 1.3 suites; None for the default.
        versions: names as in `amphorad.model.TLS_VERSIONS`; there may be holes.
        protocols: for ALPN, in the order of preference; none: ALPN is not answered.
        staples: OCSP responses of some of the certificates; those with a reason against them are not sent.

    Raises:
        ValueError: names the file or option, and OpenSSL's reason.
    """

    def __init__(
        self,
        certificates: Sequence[tuple[str, bytes]],
        *,
        identity: bytes,
        ca: bytes | None = None,
        crl: bytes | None = None,
        required: bool = False,
        ciphers: str | None = None,
        ciphersuites: str | None = None,
        versions: frozenset[str],
        protocols: Sequence[bytes] = (),
        staples: Sequence[Staple] = (),
    ) -> None: ...
    @property
    def staples(self) -> tuple[Staple, ...]: ...
    def failures(self) -> tuple[int, str]:
        """Handshakes that failed since the construction, and OpenSSL's reason for the latest."""

def certificates_by_name(entries: list[tuple[bytes, int]], kinds: list[int]) -> dict[bytes, tuple[int, ...]]:
    """Which certificates a name is served with: places in the list, the first of each kind of key."""

def expiry_of(material: bytes) -> int | None:
    """When the first certificate of a PEM text expires, as wall time in seconds; None when there is none to be read."""

def rotate_ticket_keys() -> None:
    """New tickets are made with a new key; those of the last two keys are still accepted."""
