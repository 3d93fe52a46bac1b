"""Python face of the bounded regular expressions."""

SUBJECT_LIMIT: int

class RegexError(ValueError):
    """The pattern is not one that PCRE2 takes; the message tells why and where."""

class Regex:
    """A compiled pattern: bytes in, unanchored, `.` is any byte but a line feed.

    Args:
        fold: letter case does not matter (ASCII).

    Raises:
        RegexError: PCRE2 refuses the pattern.
    """

    def __init__(self, pattern: bytes, *, fold: bool = False, machine_code: bool = True) -> None: ...
    @property
    def pattern(self) -> bytes: ...
    @property
    def is_compiled_to_machine_code(self) -> bool: ...
    def search(self, subject: bytes) -> bool | None:
        """Whether it matches somewhere; None when the search was given up beyond a limit."""
