"""One end of an HTTP/2 connection, played by the test: hyper-h2 makes and judges the frames, raw ones can be sent past it.

hyper-h2 is strict about what the proxy sends: a violation of RFC 9113 by it fails the test. Every wait is bounded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, StreamEnded, StreamReset, TrailersReceived
from hpack import Encoder, NeverIndexedHeaderTuple

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

__all__ = ["WAIT_S", "Http2End", "Message", "frame", "raw_headers"]

WAIT_S = 10.0


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """One frame (RFC 9113 section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def raw_headers(stream: int, fields: Iterable[tuple[str | bytes, str | bytes]], *, ended: bool) -> bytes:
    """A HEADERS frame that hyper-h2 would not send, with no entry in the table of header fields."""
    block = Encoder().encode([NeverIndexedHeaderTuple(name, value) for name, value in fields])
    return frame(1, 4 | (1 if ended else 0), stream, block)


@dataclass
class Message:
    """What came on one stream so far."""

    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    has_ended: bool = False
    reset: int | None = None

    def get(self, name: str) -> bytes | None:
        return dict(self.fields).get(name.encode())

    def get_all(self, name: str) -> list[bytes]:
        return [value for key, value in self.fields if key == name.encode()]


class Http2End:
    """One connection. Without `acknowledges` no window is given for what came."""

    def __init__(self, connection: socket.socket, *, is_client: bool, acknowledges: bool) -> None:
        self.socket = connection
        self.h2 = H2Connection(
            H2Configuration(
                client_side=is_client,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.acknowledges = acknowledges
        self.goaway: int | None = None
        self.last_stream: int | None = None
        self.has_ended = False
        self.h2.initiate_connection()

    def __exit__(self, *_unused: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def raw(self, data: bytes) -> None:
        """Bytes that hyper-h2 knows nothing of."""
        self.socket.sendall(data)

    def data(self, stream: int, data: bytes, *, ended: bool = False) -> None:
        """Sends all of it, waiting for the window where that is needed."""
        while True:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if data and room <= 0:
                self.read()
                assert not self.has_ended, "the connection ended while window was waited for"
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
        """Waits for bytes from the proxy and takes them."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.has_ended = True
            return
        for event in self.h2.receive_data(data):
            self._note(event)
        try:
            self.flush()
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _note(self, event: Any) -> None:
        """What happened on the connection; heads are for the subclass to see."""
        if isinstance(event, ConnectionTerminated):
            self.goaway = int(event.error_code or 0)
            self.last_stream = event.last_stream_id
            return
        message = self._message(getattr(event, "stream_id", None))
        if message is None:
            return
        if isinstance(event, DataReceived):
            message.body += event.data
            if self.acknowledges:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            message.trailers = list(event.headers)
        elif isinstance(event, StreamEnded):
            message.has_ended = True
        elif isinstance(event, StreamReset):
            message.reset = int(event.error_code)

    def _message(self, stream: int | None) -> Message | None:
        """What comes on this stream."""
        raise NotImplementedError

    def wait(self, fact: Callable[[], bool]) -> None:
        """Reads until it is so, or the connection has ended."""
        while not fact() and not self.has_ended:
            self.read()

    def wait_end(self) -> int | None:
        """Waits for the end of the connection; the code of its GOAWAY."""
        self.wait(lambda: False)
        return self.goaway
