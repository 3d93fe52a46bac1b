"""Words that stand for numbers, durations, sizes, addresses and names.

Every function raises `ConfigError` at the given line. Numbers are ASCII digits only: `int` would also take "1_000",
"+5" and the digits of other scripts.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from amphorad.dialects.haproxy.lexer import Line

__all__ = [
    "MAX_CONNECTIONS",
    "address",
    "address_and_port",
    "alpn_protocols",
    "canonical_address",
    "duration_s",
    "entries",
    "name",
    "number",
    "token",
]

MAX_CONNECTIONS: Final = 2_147_483_647

_DIGITS: Final = re.compile(r"[0-9]{1,12}\Z")
_DURATION: Final = re.compile(r"([0-9]{1,12})(us|ms|s|m|h|d)?\Z")
_UNIT_S: Final = {"us": 1e-6, "ms": 1e-3, None: 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE: Final = re.compile(r"([0-9]{1,9})([kmgKMG])?\Z")
_SIZE_UNIT: Final = {None: 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,255}\Z")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,255}\Z")
_ALPN: Final = re.compile(r"[A-Za-z0-9./_-]{1,32}\Z")
_OCTET: Final = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4: Final = re.compile(rf"{_OCTET}(\.{_OCTET}){{3}}\Z")
_MAX_DURATION_S: Final = 2_147_483.647  # HAProxy's largest, 2^31 - 1 ms; the API stops at 24 days
_MAX_ENTRIES: Final = 10_000_000


def number(line: Line, word: str, what: str, *, low: int, high: int) -> int:
    """A whole number in `low`..`high`."""
    value = int(word) if _DIGITS.match(word) else -1
    if value < low or value > high:
        raise line.error(f"{what} must be a number from {low} to {high}", word)
    return value


def duration_s(line: Line, word: str, what: str) -> float:
    """A duration in seconds; milliseconds when it has no unit (HAProxy configuration manual 2.5)."""
    match = _DURATION.match(word)
    if match is None:
        raise line.error(f"{what} must be a number with an optional unit (us, ms, s, m, h, d)", word)
    # Division keeps 2500 ms as 2.5; a product with 0.001 would not always be the nearest float.
    count, unit = int(match[1]), match[2]
    value = count / 1000 if unit in (None, "ms") else count / 1e6 if unit == "us" else count * _UNIT_S[unit]
    if not 0 < value <= _MAX_DURATION_S:
        raise line.error(f"{what} must be more than 0 and at most {_MAX_DURATION_S} s", word)
    return value


def entries(line: Line, word: str) -> int:
    """The size of a stick table: a number of entries, with an optional k, m or g (powers of 1024)."""
    match = _SIZE.match(word)
    value = int(match[1]) * _SIZE_UNIT[match[2].lower() if match[2] else None] if match else 0
    if not 0 < value <= _MAX_ENTRIES:
        raise line.error(f"a stick table's size must be a number of entries from 1 to {_MAX_ENTRIES}", word)
    return value


def address(line: Line, word: str, what: str) -> str:
    """An IPv4 or IPv6 address, in its shortest standard form. Names are not resolved."""
    try:
        return canonical_address(word)
    except ValueError:
        raise line.error(f"{what} must be an IPv4 or IPv6 address", word) from None


def canonical_address(word: str) -> str:
    """The shortest standard form of an address; `ValueError` when it is none."""
    if _IPV4.match(word):  # already in its only form; a thousand members need no thousand objects
        return word
    if "%" in word:
        raise ValueError("an address with a zone is not taken")
    return str(ipaddress.IPv6Address(word)) if ":" in word else str(ipaddress.IPv4Address(word))


def address_and_port(line: Line, word: str, what: str) -> tuple[str, int]:
    """`ADDRESS:PORT`; an IPv6 address stands without brackets (or with), the last colon separates the port."""
    host, colon, port = word.rpartition(":")
    if not colon:
        raise line.error(f"{what} must be written ADDRESS:PORT", word)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return address(line, host, what), number(line, port, f"the port of {what}", low=1, high=65535)


def alpn_protocols(line: Line, word: str) -> tuple[str, ...]:
    """A comma-separated list in order of preference, without repetitions."""
    protocols = tuple(word.split(","))
    if len(set(protocols)) != len(protocols) or not all(_ALPN.match(protocol) for protocol in protocols):
        raise line.error("ALPN protocols must be a list such as 'h2,http/1.1'", word)
    return protocols


def name(line: Line, word: str, what: str) -> str:
    """An identifier: letters, digits, '-', '_' and '.', at most 255."""
    if not _NAME.match(word):
        raise line.error(f"{what} must be made of letters, digits, '-', '_' and '.'", word)
    return word


def token(line: Line, word: str, what: str) -> str:
    """An HTTP token (RFC 9110 section 5.6.2): names of headers and cookies, methods."""
    if not _TOKEN.match(word):
        raise line.error(f"{what} must be an HTTP token", word)
    return word
