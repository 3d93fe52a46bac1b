"""Token buckets per client and per listener, shared by all engine threads."""

class RateLimiter:
    """The limits of one listener.

    Args:
        source_rate, listener_rate: tokens per second; 0 for no limit.
        source_burst, listener_burst: tokens that may be taken at once, at least 1.
        sources: how many sources are known at a time.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self, source_rate: float, source_burst: int, listener_rate: float, listener_burst: int, *, sources: int
    ) -> None: ...
    @property
    def refused(self) -> int: ...
    def admits(self, address: bytes, now_us: int) -> bool: ...
    def admitted(self, addresses: bytes, now_us: int, rounds: int) -> int: ...
