"""The PROXY header that precedes everything else on a connection to a member."""

__all__ = ["HEADER_LIMIT", "header"]

HEADER_LIMIT: int

def header(
    version: int,
    source: tuple[bytes, int] | None,
    destination: tuple[bytes, int] | None,
    *,
    alpn: bytes = b"",
    client: int = 0,
    verify: int = 0,
    tls_version: bytes | None = None,
    common_name: bytes = b"",
) -> bytes: ...
