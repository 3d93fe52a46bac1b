"""Python face of the L7 policy table: builds it from plain data, and evaluates it for tests, fuzzers and benchmarks."""

from enum import IntEnum
from typing import NamedTuple

LOCATION_LIMIT_BYTES: int
VALUE_LIMIT_BYTES: int

class Source(IntEnum):
    """What a rule looks at. NOTHING never has a sample, so it never matches (and matches when inverted)."""

    NOTHING = ...
    HOST = ...
    PATH = ...
    HEADER = ...
    COOKIE = ...

class Compare(IntEnum):
    EQUAL = ...
    START = ...
    END = ...
    PART = ...
    REGEX = ...

class Action(IntEnum):
    REJECT = ...
    REDIRECT_URL = ...
    REDIRECT_PREFIX = ...
    POOL = ...

class RuleRow(NamedTuple):
    """One rule. `name` is the header or cookie; `fold` takes letter case (ASCII) as equal."""

    id: str
    source: Source
    compare: Compare
    value: bytes
    name: bytes = ...
    invert: bool = ...
    fold: bool = ...

class PolicyRow(NamedTuple):
    """One policy: rules joined by AND (none: always), and what to do."""

    action: Action
    rules: tuple[RuleRow, ...]
    code: int = ...
    location: bytes = ...
    pool: int = ...

class PolicyError(ValueError):
    """A rule or policy that cannot be carried out. `rule_id` names the rule, or is None."""

    rule_id: str | None

class PolicyProgram:
    """A compiled table of policies, evaluated in the order given.

    Raises:
        PolicyError: a pattern is refused by PCRE2, or something is longer than its limit.
    """

    def __init__(self, policies: list[PolicyRow]) -> None: ...
    def choose(self, request: bytes) -> int | None:
        """Index of the policy that applies to this request head, or None.

        Raises:
            ValueError: the bytes are not a complete, acceptable request head.
        """

    def location(self, request: bytes) -> bytes | None:
        """The Location value that the request is answered with, or None."""

    def overruns(self) -> dict[str, int]:
        """Rule ids and how often their regular expression was given up beyond a limit; only those that were."""

    def time_choice(self, request: bytes, rounds: int) -> float:
        """Nanoseconds of one evaluation, averaged over `rounds`, the head being parsed already; for benchmarks."""
