"""The PROXY header that precedes everything else on a connection to a member."""

__all__ = ["HEADER_LIMIT", "header"]

HEADER_LIMIT: int

def header(version: int, source: tuple[bytes, int] | None, destination: tuple[bytes, int] | None) -> bytes: ...
