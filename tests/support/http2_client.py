"""An HTTP/2 client played by the test: hyper-h2 makes and judges the frames, and raw frames can be sent past it.

with Http2Client(port) as client:
    stream = client.ask("GET", "/")
    member = played_member.accept()
    ...
    assert client.answer(stream).body == b"hello"

hyper-h2 is strict about what the server sends: a violation of RFC 9113 by it fails the test. Every wait is bounded.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState, H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from hpack import Encoder, NeverIndexedHeaderTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["PREFACE", "Answered", "Http2Client", "frame"]

WAIT_S = 10.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """One frame (RFC 9113 section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


@dataclass
class Answered:
    """What came on one stream so far."""

    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    interim: list[list[tuple[bytes, bytes]]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    has_ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(dict(self.fields)[b":status"])

    def get(self, name: str) -> bytes | None:
        return dict(self.fields).get(name.encode())


class Http2Client:
    """One connection. Without `socket_made` it is plain TCP with prior knowledge."""

    def __init__(self, port: int, *, connection: socket.socket | None = None, acknowledges: bool = True) -> None:
        self.socket = connection or socket.create_connection(("127.0.0.1", port), WAIT_S)
        self.socket.settimeout(WAIT_S)
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        # hyper-h2 takes GOAWAY for the end; streams below its number go on (RFC 9113 section 6.8)
        going = (ConnectionState.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY)
        machine = self.h2.state_machine
        machine._transitions = {**machine._transitions, going: (None, ConnectionState.CLIENT_OPEN)}
        self.authority = f"127.0.0.1:{port}"
        self.scheme = "http"
        self.acknowledges = acknowledges
        self.streams: dict[int, Answered] = {}
        self.goaway: int | None = None
        self.last_stream: int | None = None
        self.settings: dict[int, int] = {}
        self.has_ended = False
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self) -> Http2Client:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def fields(self, method: str, path: str, extra: Iterable[tuple[str, str]] = ()) -> list[tuple[str, str]]:
        return [
            (":method", method),
            (":scheme", self.scheme),
            (":authority", self.authority),
            (":path", path),
            *extra,
        ]

    def ask(self, method: str, path: str, extra: Iterable[tuple[str, str]] = (), *, ended: bool = True) -> int:
        """Sends a header section; returns the stream's number."""
        stream = self.h2.get_next_available_stream_id()
        self.streams[stream] = Answered()
        self.h2.send_headers(stream, self.fields(method, path, extra), end_stream=ended)
        self.flush()
        return stream

    def ask_raw(self, fields: list[tuple[str | bytes, str | bytes]], *, ended: bool = True, stream: int = 1) -> int:
        """A header section that hyper-h2 would not send. Only on connections that send nothing else through it."""
        block = Encoder().encode([NeverIndexedHeaderTuple(name, value) for name, value in fields])
        self.streams.setdefault(stream, Answered())
        self.socket.sendall(frame(1, 4 | (1 if ended else 0), stream, block))
        # so that it knows the stream when the answer comes
        self.h2.send_headers(stream, self.fields("GET", "/"), end_stream=ended)
        self.h2.data_to_send()
        self.h2.encoder = Encoder()  # what that encoded never came to the server
        return stream

    def send(self, stream: int, data: bytes, *, ended: bool = False) -> None:
        """Sends all of it, waiting for the window where that is needed."""
        while True:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if data and room <= 0:
                self.read()
                continue
            piece, data = data[:room], data[room:]
            self.h2.send_data(stream, piece, end_stream=ended and not data)
            self.flush()
            if not data:
                return

    def trailers(self, stream: int, fields: list[tuple[str, str]]) -> None:
        self.h2.send_headers(stream, fields, end_stream=True)
        self.flush()

    def read(self) -> None:
        """Waits for bytes from the server and takes them."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.has_ended = True
            return
        for event in self.h2.receive_data(data):
            self._note(event)
        self.flush_quietly()

    def flush_quietly(self) -> None:
        try:
            self.flush()
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _note(self, event: Any) -> None:
        if isinstance(event, ConnectionTerminated):
            self.goaway = int(event.error_code or 0)
            self.last_stream = event.last_stream_id
            return
        if isinstance(event, RemoteSettingsChanged):
            self.settings.update({int(code): one.new_value for code, one in event.changed_settings.items()})
            return
        stream = getattr(event, "stream_id", None)
        if stream not in self.streams:
            return
        answered = self.streams[stream]
        if isinstance(event, ResponseReceived):
            answered.fields = list(event.headers)
        elif isinstance(event, InformationalResponseReceived):
            answered.interim.append(list(event.headers))
        elif isinstance(event, DataReceived):
            answered.body += event.data
            if self.acknowledges:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            answered.trailers = list(event.headers)
        elif isinstance(event, StreamEnded):
            answered.has_ended = True
        elif isinstance(event, StreamReset):
            answered.reset = int(event.error_code)

    def wait(self, fact: Callable[[], bool]) -> None:
        """Reads until it is so, or the connection has ended."""
        while not fact() and not self.has_ended:
            self.read()

    def answer(self, stream: int) -> Answered:
        """Waits for the end of a stream, by END_STREAM or a reset."""
        answered = self.streams[stream]
        self.wait(lambda: answered.has_ended or answered.reset is not None)
        return answered

    def wait_end(self) -> int | None:
        """Waits for the end of the connection; the code of its GOAWAY."""
        self.wait(lambda: False)
        return self.goaway
