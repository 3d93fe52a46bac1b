"""Python face of the translation of requests, for tests and fuzzers; the engine uses draft.pxd."""

from collections.abc import Iterable

def request_head(fields: Iterable[tuple[bytes, bytes]], ended: bool) -> tuple[bytes, bytes] | None:
    """Head of the HTTP/1.1 request and line of the traffic log; None when the section is malformed."""
