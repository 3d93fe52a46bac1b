"""Python face of the reader of response bodies, for tests and fuzzers; the engine uses reader.pxd."""

from collections.abc import Iterable

def chunked_body(pieces: Iterable[bytes]) -> tuple[bytes, bytes, bool] | None:
    """Payload, trailer lines and whether the body has ended, of a chunked body in pieces; None when it is malformed."""
