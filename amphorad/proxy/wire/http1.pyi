"""Python faces of the HTTP/1 parser, for tests, fuzzers and benchmarks; the engine uses http1.pxd."""

from typing import Final

FORBIDDEN_TRAILERS: Final[frozenset[str]]
HEAD_LIMIT_BYTES: Final[int]
FIELDS_LIMIT: Final[int]

class ParsedHead:
    """Result of one parser call; everything but `result` and `scanned` is meaningful only when `result` is 0.

    `result` is 0 (complete), 1 (need more) or minus an HTTP status. `scanned` goes into the next call after 1.
    """

    @property
    def result(self) -> int: ...
    @property
    def scanned(self) -> int: ...
    @property
    def is_request(self) -> bool: ...
    @property
    def data(self) -> bytes: ...
    @property
    def length(self) -> int: ...
    @property
    def skipped(self) -> int: ...
    @property
    def start_line(self) -> bytes: ...
    @property
    def method(self) -> bytes: ...
    @property
    def method_id(self) -> int: ...
    @property
    def target(self) -> bytes: ...
    @property
    def path(self) -> bytes: ...
    @property
    def minor(self) -> int: ...
    @property
    def status(self) -> int: ...
    @property
    def body(self) -> str:
        """One of "none", "length", "chunked", "until-close"."""
    @property
    def content_length(self) -> int: ...
    @property
    def flags(self) -> frozenset[str]:
        """Among "close", "keep-alive", "upgrade", "continue", "binds"."""
    @property
    def host(self) -> bytes | None: ...
    @property
    def fields(self) -> list[tuple[bytes, bytes, bool]]:
        """(name, value, dropped) of each field line."""
    @property
    def field_ids(self) -> list[int]: ...
    def check_offsets(self) -> None:
        """Raises AssertionError unless all offsets are ordered and inside the head."""
    def write(self, extra: bytes = b"", room: int | None = None) -> bytes | None:
        """The head as it is forwarded, with the lines `extra`; None when it needs more than `room` bytes."""

class ChunkBody:
    """One chunked body."""

    @property
    def done(self) -> bool: ...
    def feed(self, data: bytes) -> int:
        """Bytes of `data` that belong to the body, or -1 when it is malformed."""

def parse_request_head(data: bytes | bytearray, limit: int = ..., scanned: int = ...) -> ParsedHead: ...
def parse_response_head(
    data: bytes | bytearray, method: str = ..., limit: int = ..., scanned: int = ...
) -> ParsedHead: ...
def write_head_bytes(head: ParsedHead, extra: bytes = ...) -> bytes | None: ...
def time_head(data: bytes, rounds: int, is_request: bool = ..., write: bool = ...) -> float:
    """Nanoseconds of one parse, and one write if asked, averaged over `rounds`; for benchmarks."""
