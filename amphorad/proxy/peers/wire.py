"""The bytes of the peers protocol 2.1, without I/O (HAProxy, doc/peers-v2.0.txt).

Limits: a message has at most MESSAGE_LIMIT bytes (a HAProxy buffer), a hello line HELLO_LIMIT, a dictionary 128 entries.
Beyond them, and for anything malformed: `PeerError`, and the connection ends.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

__all__ = [
    "CLASS_CONTROL",
    "CLASS_TABLES",
    "MESSAGE_LIMIT",
    "Definition",
    "Dictionary",
    "Hello",
    "PeerError",
    "Update",
    "cut_message",
    "decode_ack",
    "decode_definition",
    "decode_hello",
    "decode_integer",
    "decode_update",
    "encode_ack",
    "encode_definition",
    "encode_hello",
    "encode_integer",
    "encode_message",
    "encode_switch",
    "encode_update",
    "peer_name",
]

MESSAGE_LIMIT = 16384
HELLO_LIMIT = 1024
CLASS_CONTROL, CLASS_ERROR, CLASS_TABLES, CLASS_RESERVED = 0, 1, 10, 255
RESYNC_REQUEST, RESYNC_FINISHED, RESYNC_PARTIAL, RESYNC_CONFIRM, HEARTBEAT = 0, 1, 2, 3, 4
UPDATE, INCREMENTAL, DEFINE, SWITCH, ACK, UPDATE_TIMED, INCREMENTAL_TIMED = 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86
STATUS_OK, STATUS_PROTOCOL, STATUS_VERSION, STATUS_HOST, STATUS_PEER = 200, 501, 502, 503, 504
TYPE_IPV4, TYPE_IPV6, TYPE_STRING = 4, 5, 6
SERVER_ID, SERVER_KEY = 0, 19
DATA_TYPES = 1 << SERVER_ID | 1 << SERVER_KEY
DICTIONARY_LIMIT = 128
_INTEGERS = frozenset({0, 1, 2, 4, 6, 7, 9, 11, 13, 15, 17, 20, 25})
_RATES = frozenset({3, 5, 8, 10, 12, 14, 16, 18, 21, 26})  # age, present count, count before
_KNOWN = sum(1 << bit for bit in _INTEGERS | _RATES | {SERVER_KEY})  # not the arrays, 22 to 24


class PeerError(Exception):
    """The other end does not speak the protocol. `status` is what a handshake answers."""

    def __init__(self, reason: str, status: int = STATUS_PROTOCOL) -> None:
        super().__init__(reason)
        self.status = status


def peer_name(amphora_id: str) -> str:
    """The name of an amphora in a peers section (Octavia contract section 1.5, route 7): from the SHA-1 of its id."""
    text = base64.b64encode(hashlib.sha1(amphora_id.encode(), usedforsecurity=False).digest(), b"_-").decode()
    return ("x" + text[1:] if text.startswith("-") else text).rstrip("=")


def encode_integer(value: int) -> bytes:
    """1 byte below 240; then 4 bits, and 7 in each further byte, each less one step of its length."""
    if value < 240:
        return bytes((value,))
    out = bytearray((value & 0xFF | 0xF0,))
    value = (value - 240) >> 4
    while value >= 128:
        out.append(value & 0xFF | 0x80)
        value = (value - 128) >> 7
    out.append(value)
    return bytes(out)


def decode_integer(data: bytes, at: int) -> tuple[int, int]:
    """The value and where the next field starts.

    Raises:
        PeerError: it is cut off, or longer than 64 bits.
        IndexError: never; a cut-off integer is a PeerError.
    """
    if at >= len(data):
        raise PeerError("integer cut off")
    value = data[at]
    at += 1
    if value < 240:
        return value, at
    shift = 4
    while True:
        if at >= len(data) or shift > 60:
            raise PeerError("integer cut off or too long")
        byte = data[at]
        at += 1
        value += byte << shift
        shift += 7
        if byte < 128:
            return value, at


def encode_message(kind: int, payload: bytes) -> bytes:
    """A message about stick tables."""
    return bytes((CLASS_TABLES, kind)) + encode_integer(len(payload)) + payload


def cut_message(data: bytes | bytearray) -> tuple[int, int, bytes, int] | None:
    """(class, type, payload, bytes taken) of the first message in `data`; None when it is not complete.

    Raises:
        PeerError: no such class, or it is too long.
    """
    if len(data) < 2:
        return None
    kind, number = data[0], data[1]
    if kind not in (CLASS_CONTROL, CLASS_ERROR, CLASS_TABLES):
        raise PeerError(f"message class {kind}")
    if number < 128:
        return kind, number, b"", 2
    try:
        length, at = decode_integer(bytes(data[2:7]), 0)
    except PeerError:
        if len(data) < 7:
            return None
        raise
    if length > MESSAGE_LIMIT:
        raise PeerError(f"message of {length} bytes")
    end = 2 + at + length
    if len(data) < end:
        return None
    return kind, number, bytes(data[2 + at : end]), end


# --- handshake ---


@dataclass(frozen=True, slots=True)
class Hello:
    """Who calls whom."""

    caller: str
    called: str
    minor: int


def encode_hello(local: str, remote: str, pid: int) -> bytes:
    return f"HAProxyS 2.1\n{remote}\n{local} {pid} 1\n".encode()


def decode_hello(data: bytes | bytearray) -> tuple[Hello, int] | None:
    """The three lines that a connection begins with, and their length; None when they are not complete.

    Raises:
        PeerError: with the status to answer.
    """
    lines = bytes(data[: HELLO_LIMIT + 1]).split(b"\n", 3)
    protocol = b"HAProxyS 2."
    if not lines[0].startswith(protocol[: len(lines[0])] if len(lines) == 1 else protocol):
        raise PeerError("not the peers protocol")
    if len(lines) < 4:
        if len(data) > HELLO_LIMIT:
            raise PeerError("hello too long")
        return None
    minor = lines[0][len(protocol) :].rstrip(b"\r")
    if minor not in (b"0", b"1"):
        raise PeerError(f"version {lines[0]!r}", STATUS_VERSION)
    caller, blank, _rest = lines[2].partition(b" ")
    if not blank:
        raise PeerError("hello without a process id")
    hello = Hello(caller.decode(errors="replace"), lines[1].rstrip(b"\r").decode(errors="replace"), int(minor))
    return hello, sum(len(line) + 1 for line in lines[:3])


# --- tables ---


@dataclass(frozen=True, slots=True)
class Definition:
    """A table as its sender numbers and describes it."""

    id: int
    name: str
    key_type: int
    key_bytes: int
    data_types: int


def encode_definition(definition: Definition, expire_ms: int) -> bytes:
    name = definition.name.encode()
    numbers = (definition.key_type, definition.key_bytes, definition.data_types, expire_ms)
    payload = encode_integer(definition.id) + encode_integer(len(name)) + name
    return encode_message(DEFINE, payload + b"".join(encode_integer(number) for number in numbers))


def decode_definition(payload: bytes) -> Definition:
    """Raises PeerError."""
    number, at = decode_integer(payload, 0)
    length, at = decode_integer(payload, at)
    if not length or at + length > len(payload):
        raise PeerError("table definition without a name")
    name = payload[at : at + length].decode(errors="replace")
    key_type, at = decode_integer(payload, at + length)
    key_bytes, at = decode_integer(payload, at)
    data_types, at = decode_integer(payload, at)
    return Definition(number, name, key_type, key_bytes, data_types)


def encode_switch(table: int) -> bytes:
    return encode_message(SWITCH, encode_integer(table))


def encode_ack(table: int, update: int) -> bytes:
    return encode_message(ACK, encode_integer(table) + update.to_bytes(4, "big"))


def decode_ack(payload: bytes) -> tuple[int, int]:
    """Table and update. Raises PeerError."""
    table, at = decode_integer(payload, 0)
    if at + 4 > len(payload):
        raise PeerError("acknowledgement cut off")
    return table, int.from_bytes(payload[at : at + 4], "big")


class Dictionary:
    """Texts that one direction of a connection has carried, by number: each is sent once, and then named."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._texts: dict[int, str] = {}
        self._last = 0

    def encode(self, text: str) -> bytes:
        """The field of a data value; empty for no text."""
        if not text:
            return b"\0"
        number = self._numbers.get(text)
        if number is not None:
            return bytes((1, number))
        self._last = number = self._last % DICTIONARY_LIMIT + 1
        replaced = self._texts.pop(number, None)
        if replaced is not None:
            del self._numbers[replaced]
        self._numbers[text], self._texts[number] = number, text
        value = text.encode()
        body = encode_integer(number) + encode_integer(len(value)) + value
        return encode_integer(len(body)) + body

    def decode(self, payload: bytes, at: int) -> tuple[str, int]:
        """The text ("" for none) and where the next field starts. Raises PeerError."""
        length, at = decode_integer(payload, at)
        if not length:
            return "", at
        end = at + length
        if end > len(payload):
            raise PeerError("dictionary entry cut off")
        body = payload[at:end]
        number, at = decode_integer(body, 0)
        if not 0 < number <= DICTIONARY_LIMIT:
            raise PeerError(f"dictionary entry {number}")
        if at < len(body):
            size, at = decode_integer(body, at)
            if at + size > len(body):
                raise PeerError("dictionary entry cut off")
            self._texts[number] = body[at : at + size].decode(errors="replace")
        return self._texts.get(number, ""), end


@dataclass(frozen=True, slots=True)
class Update:
    """One entry: `server_id` 0 and `server_key` "" stand for unknown. `number` None: one more than the one before."""

    number: int | None
    key: bytes
    server_id: int
    server_key: str


def encode_update(update: Update, key_type: int, dictionary: Dictionary) -> bytes:
    key = encode_integer(len(update.key)) + update.key if key_type == TYPE_STRING else update.key
    values = encode_integer(update.server_id) + dictionary.encode(update.server_key)
    return encode_message(UPDATE, (update.number or 0).to_bytes(4, "big") + key + values)


def decode_update(kind: int, payload: bytes, definition: Definition, dictionary: Dictionary) -> Update:
    """Raises PeerError. Of the values only the member is kept."""
    at = 0
    number = None
    if kind in (UPDATE, UPDATE_TIMED):
        number = int.from_bytes(payload[:4], "big")
        at = 4
    if kind in (UPDATE_TIMED, INCREMENTAL_TIMED):
        at += 4
    length = definition.key_bytes
    if definition.key_type == TYPE_STRING:
        length, at = decode_integer(payload, at)
    key = payload[at : at + length]
    at += length
    if len(key) != length:
        raise PeerError("update cut off")
    server_id, server_key = 0, ""
    for bit in range(definition.data_types.bit_length()):
        if not definition.data_types >> bit & 1:
            continue
        if bit == SERVER_KEY:
            server_key, at = dictionary.decode(payload, at)
            continue
        for _ in range(3 if bit in _RATES else 1):
            value, at = decode_integer(payload, at)
        if bit == SERVER_ID:
            server_id = value
    return Update(number, key, server_id, server_key)


def is_readable(data_types: int) -> bool:
    """Whether every data type of a table is one whose length is known here."""
    return not data_types & ~_KNOWN
