"""The bytes of a heartbeat: compressed JSON, followed by the hexadecimal HMAC-SHA256 of the compressed bytes.

Source: Octavia contract section 3.1.
"""

from __future__ import annotations

import hmac
import zlib
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_BYTES", "encode"]

MAX_BYTES = 65507
"""What one UDP datagram over IPv4 can carry; the receiver's buffer holds 64 KiB."""


def encode(message: Mapping[str, object], key: str) -> bytes:
    """The signed datagram of a message; it may be longer than `MAX_BYTES`."""
    compressed = zlib.compress(msgspec.json.encode(message), 9)
    return compressed + hmac.new(key.encode(), compressed, "sha256").hexdigest().encode()
