"""Python face of the reader of chunked bodies, for tests and fuzzers; the engine uses chunks.pxd."""

from typing import Final

FORBIDDEN_TRAILERS: Final[frozenset[str]]

class ChunkBody:
    """One chunked body."""

    @property
    def done(self) -> bool: ...
    def feed(self, data: bytes) -> int:
        """Bytes of `data` that belong to the body, or -1 when it is malformed."""
