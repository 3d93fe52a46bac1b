"""Python face of the translation of responses, for tests and fuzzers; the engine uses reply.pxd."""

from collections.abc import Iterable

def response_head(fields: Iterable[tuple[bytes, bytes]], ended: bool, to_head: bool) -> bytes | None:
    """Head of the HTTP/1.1 response; None when the section is malformed or too long."""
