"""What the supervisor and the data-plane process say to each other, and the one codec for it.

A frame on the control socket (a connected unix stream socket pair) is 4 bytes of length (network order) and that many
bytes of JSON. Listening sockets travel beside the frames by SCM_RIGHTS, in the order in which the `Apply` that needs them names
them. Both ends are usually the same installation, but a new supervisor may meet an old data plane, so `Hello` and `Adoption` carry
VERSION. Between different versions only `Adopt`, `Adoption`, `Begin`, `Hello`, `Survive` and `Stop` are said, and these never change.

Limits: a frame is at most FRAME_LIMIT bytes; at most FD_CHUNK descriptors go with one sendmsg (the kernel's SCM_MAX_FD
is 253). Beyond them, and for anything that does not decode: `MessageError`, and the connection is of no more use.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import types
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from amphorad.errors import ConfigError, NotSupportedYet
from amphorad.model import Bind, LoadBalancer

__all__ = [
    "FD_CHUNK",
    "FRAME_LIMIT",
    "VERSION",
    "Adopt",
    "Adoption",
    "Alarm",
    "Apply",
    "Begin",
    "Channel",
    "Closed",
    "Hello",
    "Message",
    "MessageError",
    "PeerNews",
    "Pulse",
    "Receipt",
    "Refusal",
    "Stop",
    "Survive",
    "Transition",
    "decode",
    "decode_load_balancer",
    "decode_transitions",
    "encode",
    "encode_load_balancer",
]

VERSION = 2
FRAME_LIMIT = 256 * 1024 * 1024
FD_CHUNK = 250
_LENGTH = struct.Struct("!I")
_READ_BYTES = 256 * 1024


class MessageError(Exception):
    """The other end of a control socket sent something that is no message of this version."""


class Closed(Exception):
    """The other end of the control socket is gone."""


class SocketName(msgspec.Struct, frozen=True, array_like=True):
    """Whom a passed descriptor belongs to."""

    listener_id: str
    address: str
    port: int

    @property
    def key(self) -> tuple[str, Bind]:
        return self.listener_id, Bind(address=self.address, port=self.port)


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """Supervisor, first of all: start the engine threads. Until then the process has only loaded its code."""


class Apply(msgspec.Struct, frozen=True, tag="apply"):
    """Supervisor: serve this from now on. One descriptor comes along for each of `sockets`, in that order."""

    generation: int
    load_balancer: msgspec.Raw
    sockets: tuple[SocketName, ...] = ()
    files: dict[str, bytes] = {}  # what TLS options name, by path; private keys among them: never to be logged


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Supervisor: accept nothing more, end when the last session has, or after `grace_s` seconds. Zero: now."""

    grace_s: float


class Survive(msgspec.Struct, frozen=True, tag="survive"):
    """Supervisor: whether to go on serving when this connection ends. Until it is said: as the process was started."""

    survive: bool


class Adopt(msgspec.Struct, frozen=True, tag="adopt"):
    """A new supervisor, to a data plane whose own is gone. After the answer, `Begin` makes it the one that is obeyed."""

    version: int


class Adoption(msgspec.Struct, frozen=True, tag="adoption"):
    """Data plane: what it serves. Along come the board, the adoption socket, and one descriptor for each of `sockets`.

    Args:
        release: of the package.
        arguments: that it was started with, apart from descriptors.
        load_balancer: in force, in the words of that VERSION.
        transitions: the latest that have been told to a supervisor before, oldest first, in the words of that VERSION.
    """

    version: int
    release: str
    pid: int
    arguments: tuple[str, ...]
    generation: int
    load_balancer: msgspec.Raw
    transitions: msgspec.Raw
    sockets: tuple[SocketName, ...] = ()


class Refusal(msgspec.Struct, frozen=True):
    """A `ConfigError` on its way between processes."""

    reason: str
    file: str = "<text>"
    line: int | None = None
    word: str | None = None
    not_supported_yet: bool = False

    @classmethod
    def of(cls, error: ConfigError) -> Refusal:
        return cls(error.reason, error.file, error.line, error.word, isinstance(error, NotSupportedYet))

    def error(self) -> ConfigError:
        kind = NotSupportedYet if self.not_supported_yet else ConfigError
        return kind(self.reason, file=self.file, line=self.line, word=self.word)


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Data plane, after `Begin` and before all else: its engine threads run."""

    version: int
    pid: int


class Receipt(msgspec.Struct, frozen=True, tag="receipt"):
    """Data plane: that generation is in effect since `elapsed_s` seconds after it came, or it is refused."""

    generation: int
    elapsed_s: float
    draining: int
    refusal: Refusal | None = None


class PeerNews(msgspec.Struct, frozen=True, array_like=True):
    """A peer that stick tables are shared with.

    Args:
        is_local: the one that this machine is.
        is_connected: of others; the local one accepts connections.
        since: wall time of the latest change of that, 0 when there was none yet.
        connects: how often it has become connected.
        learned: entries taken from it since it is configured.
        told: entries sent to it.
    """

    name: str
    address: str
    port: int
    is_local: bool
    is_connected: bool
    since: float
    connects: int
    learned: int
    told: int


class Pulse(msgspec.Struct, frozen=True, tag="pulse"):
    """Data plane: sessions now, those of them on old generations, and the peers of the configuration.

    It comes when they change, at most every half second, and at least every two seconds, as a sign of life of the main loop.
    """

    sessions: int
    draining: int
    peers: tuple[PeerNews, ...] = ()


class Alarm(msgspec.Struct, frozen=True, tag="alarm"):
    """Data plane: one condition for the operator's log."""

    text: str


class Transition(msgspec.Struct, frozen=True, tag="transition"):
    """Data plane: a health monitor changed the state of a member.

    Args:
        at: wall time.
        reason: what the deciding check found.
        lines: for the log, in HAProxy's words; the second one when the pool has no member left.
    """

    listener_id: str
    pool_id: str
    member_id: str
    up: bool
    at: float
    reason: str
    lines: tuple[str, ...]


Message = Begin | Apply | Stop | Survive | Adopt | Adoption | Hello | Receipt | Pulse | Alarm | Transition

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def encode(message: Message) -> bytes:
    """One frame."""
    body = _encoder.encode(message)
    if len(body) > FRAME_LIMIT:
        raise MessageError(f"a message of {len(body)} bytes is longer than {FRAME_LIMIT}")
    return _LENGTH.pack(len(body)) + body


def decode(body: bytes | bytearray | memoryview) -> Message:
    """The message of a frame's body (without the length).

    Raises:
        MessageError: it is not one of ours.
    """
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise MessageError(f"not a control message: {error}") from error


def encode_load_balancer(load_balancer: LoadBalancer) -> msgspec.Raw:
    """The model as JSON. A field of several dataclasses carries the name of its class under the key `type`."""
    return msgspec.Raw(_encoder.encode(_lower(load_balancer)))


def decode_load_balancer(raw: msgspec.Raw | bytes) -> LoadBalancer:
    """The inverse of `encode_load_balancer`.

    Raises:
        MessageError: the JSON does not describe a LoadBalancer of this version.
    """
    try:
        result: LoadBalancer = _raise_up(LoadBalancer, msgspec.json.decode(raw))
    except (msgspec.DecodeError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise MessageError(f"not a configuration of this version: {error}") from error
    return result


def decode_transitions(raw: msgspec.Raw) -> list[Transition]:
    """What `Adoption` carries.

    Raises:
        MessageError: not of this version.
    """
    try:
        return msgspec.json.decode(raw, type=list[Transition])
    except msgspec.DecodeError as error:
        raise MessageError(f"not a list of transitions: {error}") from error


# msgspec cannot tell the classes of `Pool.persistence` apart without help, hence these two walkers.


@cache
def _fields(kind: type) -> tuple[tuple[str, Any, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((field.name, hints[field.name], field.default) for field in fields(kind))


@cache
def _choices(hint: object) -> tuple[dict[str, type], object]:
    """Dataclasses of a union by name, and what else it allows apart from None."""
    members: list[Any] = [member for member in get_args(hint) if member is not types.NoneType]
    classes: dict[str, type] = {}
    other = None
    for member in members:
        if isinstance(member, type) and is_dataclass(member):
            classes[member.__name__] = member
        else:
            other = member
    return classes, other


def _lower(value: object) -> object:
    kind = type(value)
    if is_dataclass(kind):
        # what has its default value is left out: most of a member
        lowered: dict[str, object] = {}
        for name, hint, default in _fields(kind):
            inner = getattr(value, name)
            if inner == default and default is not MISSING:
                continue
            lowered[name] = inner = _lower(inner)
            if isinstance(inner, dict) and len(_choices(hint)[0]) > 1:
                inner["type"] = type(getattr(value, name)).__name__
        return lowered
    if isinstance(value, tuple):
        return [_lower(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(value)
    return value


def _raise_up(hint: Any, value: Any) -> Any:
    if value is None or hint in (str, int, float, bool):
        if value is not None and not isinstance(value, (int, float) if hint is float else hint):
            raise TypeError(f"{value!r} is not {hint.__name__}")
        return float(value) if hint is float and value is not None else value
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        classes, other = _choices(hint)
        if not classes:
            return _raise_up(other, value)
        chosen = classes[value.pop("type")] if len(classes) > 1 else next(iter(classes.values()))
        return _raise_up(chosen, value)
    if origin in (tuple, frozenset):
        return origin(_raise_up(get_args(hint)[0], item) for item in value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    known = {name: inner for name, inner, _default in _fields(hint)}
    return hint(**{name: _raise_up(known[name], inner) for name, inner in value.items()})


class Channel:
    """One end of a control socket, on the running event loop. One task may send and one may receive at a time.

    It owns the socket, and the descriptors that came in and nobody has taken yet.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._buffer = bytearray()
        self._descriptors: list[int] = []
        self._sending = asyncio.Lock()

    async def send(self, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        """Sends a message and copies of the descriptors. The caller keeps its own.

        Raises:
            Closed: the other end is gone.
        """
        async with self._sending:
            # All but the last chunk of descriptors ride on one padding byte each: ancillary data needs a byte to ride on.
            chunks = [descriptors[at : at + FD_CHUNK] for at in range(0, len(descriptors), FD_CHUNK)]
            try:
                for chunk in chunks[:-1]:
                    await self._send_some(b"\0" * _LENGTH.size, chunk)
                view = memoryview(encode(message))
                sent = await self._send_some(view, chunks[-1] if chunks else ())
                while sent < len(view):
                    sent += await self._send_some(view[sent:], ())
            except OSError as error:
                raise Closed(str(error)) from error

    async def receive(self) -> Message:
        """The next message.

        Raises:
            Closed: the other end is gone.
            MessageError: it sent garbage.
        """
        while True:
            body = self._next_body()
            if body is not None:
                return decode(body)
            await self._receive_some()

    def take_descriptors(self, count: int) -> tuple[int, ...]:
        """The oldest `count` descriptors that came in; the caller owns them from now on.

        Raises:
            MessageError: fewer came.
        """
        if len(self._descriptors) < count:
            raise MessageError(f"{count} descriptors were announced, {len(self._descriptors)} came")
        taken = tuple(self._descriptors[:count])
        del self._descriptors[:count]
        return taken

    def drop_descriptors(self) -> None:
        """Closes those that came in and were not taken."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def close(self) -> None:
        self._socket.close()
        self.drop_descriptors()

    def _next_body(self) -> bytes | None:
        """The first complete frame in the buffer; empty frames only carried descriptors."""
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > FRAME_LIMIT:
                raise MessageError(f"a frame of {length} bytes")
            if len(self._buffer) < _LENGTH.size + length:
                return None
            body = bytes(memoryview(self._buffer)[_LENGTH.size : _LENGTH.size + length])
            del self._buffer[: _LENGTH.size + length]
            if body:
                return body
        return None

    async def _send_some(self, data: bytes | memoryview, descriptors: tuple[int, ...]) -> int:
        while True:
            try:
                if descriptors:
                    return socket.send_fds(self._socket, [data], list(descriptors), socket.MSG_NOSIGNAL)
                return self._socket.send(data, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                await self._wait(writable=True)

    async def _receive_some(self) -> None:
        while True:
            try:
                # out of descriptors, some are lost here (MSG_CTRUNC); `take_descriptors` finds too few
                data, descriptors, _flags, _address = socket.recv_fds(self._socket, _READ_BYTES, FD_CHUNK + 3)
                break
            except BlockingIOError:
                await self._wait(writable=False)
            except OSError as error:
                raise Closed(str(error)) from error
        self._descriptors += descriptors
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)  # SCM_RIGHTS hands them over without close-on-exec
        if not data:
            raise Closed("end of file")
        self._buffer += data

    async def _wait(self, *, writable: bool) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        add, remove = (loop.add_writer, loop.remove_writer) if writable else (loop.add_reader, loop.remove_reader)
        add(self._socket, wake)
        try:
            await ready
        finally:
            with contextlib.suppress(OSError, ValueError):
                remove(self._socket)
