"""The HTTP/2 check: what an HTTPS monitor says when the member chooses h2 by ALPN (RFC 9113, RFC 7541).

One request without a body on stream 1; all that is read of the answer is its `:status`. That is the first field of the
first header block of a connection, so neither a dynamic table nor a continuation can stand before it, and no HPACK
decoder is needed: it is a field of the static table, or a literal of three digits.

Limits: a frame of FRAME_LIMIT bytes (the protocol's default, which we do not raise), FRAMES frames before the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amphorad.health.probes.http import WithoutAnswer, judge
from amphorad.health.verdict import CheckStatus, Finding

if TYPE_CHECKING:
    import re

    from amphorad.health.target import HttpCheck

__all__ = ["FRAMES", "FRAME_LIMIT", "Http2Conversation", "request_frames", "status_of"]

FRAME_LIMIT: Final = 16384
FRAMES: Final = 100

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD_BYTES: Final = 9
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
# RFC 7541 appendix A: indexes of the static table.
_AUTHORITY, _METHOD, _PATH, _SCHEME_HTTPS = 1, 2, 4, 7
_STATUS_INDEXES: Final = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}
_STATUS_NAME: Final = b":status"


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _integer(value: int, bits: int, first: int) -> bytes:
    """RFC 7541 section 5.1, with the bits above the prefix in `first`."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes((first | value,))
    encoded = bytearray((first | limit,))
    value -= limit
    while value >= 0x80:
        encoded.append(0x80 | (value & 0x7F))
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _literal(index: int, value: str) -> bytes:
    """A field with a name of the static table, not to be kept (RFC 7541 section 6.2.2)."""
    data = value.encode("utf-8", "surrogateescape")
    return _integer(index, 4, 0) + _integer(len(data), 7, 0) + data


def request_frames(check: HttpCheck, authority: str) -> bytes:
    """Preface, settings (no push) and the request."""
    block = _literal(_METHOD, check.method) + bytes((0x80 | _SCHEME_HTTPS,)) + _literal(_PATH, check.path)
    block += _literal(_AUTHORITY, check.host if check.host is not None else authority)
    no_push = b"\0\x02" + bytes(4)
    return _PREFACE + _frame(_SETTINGS, 0, 0, no_push) + _frame(_HEADERS, _END_STREAM | _END_HEADERS, 1, block)


def status_of(block: bytes) -> int | None:
    """The status at the start of a header block; None when there is none or it is not complete."""
    at = 0
    while at < len(block) and block[at] & 0xE0 == 0x20:  # dynamic table size update
        at += 1
        if block[at - 1] & 0x1F == 0x1F:
            while at < len(block) and block[at] & 0x80:
                at += 1
            at += 1
    if at >= len(block):
        return None
    first = block[at]
    if first & 0x80:
        return _STATUS_INDEXES.get(first & 0x7F)
    index = first & (0x3F if first & 0x40 else 0x0F)
    at += 1
    if index == 0:
        name, at = _string(block, at)
        if name != _STATUS_NAME:
            return None
    elif index not in _STATUS_INDEXES:
        return None
    value, _end = _string(block, at)
    return int(value) if value is not None and len(value) == 3 and value.isdigit() else None


def _string(block: bytes, at: int) -> tuple[bytes | None, int]:
    """A short string literal and where it ends; None for one that is not whole, too long, or not what we can read."""
    if at >= len(block):
        return None, at
    length = block[at] & 0x7F
    data = block[at + 1 : at + 1 + length]
    if length > 16 or len(data) < length:
        return None, at
    return (_unpack(data) if block[at] & 0x80 else data), at + 1 + length


# RFC 7541 appendix B, for digits and the letters of ":status": code by (bits, value).
_HUFFMAN: Final = {
    **{(5, code): digit for code, digit in ((0, "0"), (1, "1"), (2, "2"), (3, "a"), (8, "s"), (9, "t"))},
    **{(6, 0x19 + place): str(3 + place) for place in range(7)},
    (6, 0x2D): "u",
    (7, 0x5C): ":",
}


def _unpack(data: bytes) -> bytes | None:
    bits = value = 0
    text = ""
    for position in range(len(data) * 8):
        value = value << 1 | (data[position >> 3] >> (7 - (position & 7))) & 1
        bits += 1
        if (bits, value) in _HUFFMAN:
            text += _HUFFMAN[bits, value]
            bits = value = 0
        elif bits > 7:
            return None
    return text.encode() if value == (1 << bits) - 1 else None  # what is left over is padding of ones


class Http2Conversation(WithoutAnswer):
    """One request, and the status of its answer."""

    __slots__ = ("_buffer", "_expected", "_frames", "is_established", "outgoing")

    def __init__(self, frames: bytes, expected: re.Pattern[str]) -> None:
        self.outgoing = frames
        self.is_established = True
        self._expected = expected
        self._buffer = b""
        self._frames = 0

    def received(self, data: bytes) -> Finding | None:
        self._buffer += data
        while len(self._buffer) >= _HEAD_BYTES:
            length = int.from_bytes(self._buffer[:3], "big")
            self._frames += 1
            if length > FRAME_LIMIT or self._frames > FRAMES:
                return Finding(CheckStatus.L7RSP)
            if len(self._buffer) < _HEAD_BYTES + length:
                self._frames -= 1
                return None
            kind, flags = self._buffer[3], self._buffer[4]
            stream = int.from_bytes(self._buffer[5:9], "big") & 0x7FFFFFFF
            payload = self._buffer[_HEAD_BYTES : _HEAD_BYTES + length]
            self._buffer = self._buffer[_HEAD_BYTES + length :]
            finding = self._take_frame(kind, flags, stream, payload)
            if finding is not None:
                return finding
        return None

    def _take_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> Finding | None:
        if self._frames == 1 and kind != _SETTINGS:  # RFC 9113 section 3.4
            return Finding(CheckStatus.L7RSP)
        if kind == _HEADERS and stream == 1:
            return self._take_headers(flags, payload)
        if kind == _SETTINGS and not flags & _ACK:
            self.outgoing += _frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK and len(payload) == 8:
            self.outgoing += _frame(_PING, _ACK, 0, payload)
        elif kind in (_GOAWAY, _RESET, _DATA):
            return Finding(CheckStatus.L7RSP)
        return None

    def _take_headers(self, flags: int, payload: bytes) -> Finding | None:
        padding = payload[0] if flags & _PADDED and payload else 0
        block = payload[(1 if flags & _PADDED else 0) + (5 if flags & _PRIORITY else 0) : len(payload) - padding]
        status = status_of(block)
        return Finding(CheckStatus.L7RSP) if status is None else judge(status, b"", self._expected)
