"""Which names a path may carry. Pure.

Ids are lower-case UUIDs in everything the controller sends (Octavia contract section 0). They become names of directories and
files, so nothing else is let through: what is not a UUID names nothing, a lookup of it finds nothing, an upload is refused.
"""

from __future__ import annotations

import re

__all__ = ["MAX_CERTIFICATE_NAME", "is_certificate_name", "is_id", "printable"]

MAX_CERTIFICATE_NAME = 200  # bytes; the longest that the controller makes is 45

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_CERTIFICATE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.pem", re.ASCII)


def is_id(text: str) -> bool:
    """True for a UUID as the controller writes it: lower case, with dashes."""
    return _ID.fullmatch(text) is not None


def is_certificate_name(text: str) -> bool:
    """True for a file name of letters, digits, dot, dash and underscore that ends in `.pem` and does not begin with a dot.

    Stricter than the stock agent, which lets a path through. Source: Octavia contract section 1.5, routes 13 to 15.
    """
    return len(text) <= MAX_CERTIFICATE_NAME and _CERTIFICATE_NAME.fullmatch(text) is not None


def printable(text: str, limit: int = 100) -> str:
    """What a client wrote, safe to repeat in an answer or a log line: bounded, control and odd characters escaped."""
    shortened = text if len(text) <= limit else f"{text[:limit]}..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shortened)
