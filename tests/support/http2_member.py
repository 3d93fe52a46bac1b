"""An HTTP/2 member played by the test, over TLS: hyper-h2 makes and judges the frames, and raw frames can be sent past it.

with PlayedHttp2Member(context) as member:
    ... a client sends its request ...
    peer = member.accept()
    asked = peer.wait_request()
    peer.respond(asked.stream, 200, body=b"hello")

hyper-h2 is strict about what the proxy sends: a violation of RFC 9113 by it fails the test. Every wait is bounded.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from hpack import Encoder, NeverIndexedHeaderTuple

from tests.support.http2_client import frame

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

__all__ = ["Asked", "Http2Peer", "PlayedHttp2Member"]

WAIT_S = 10.0
RESET = b"\1\0\0\0\0\0\0\0"


@dataclass
class Asked:
    """What came on one stream so far."""

    stream: int
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    has_ended: bool = False
    reset: int | None = None

    def get(self, name: str) -> bytes | None:
        return dict(self.fields).get(name.encode())

    def get_all(self, name: str) -> list[bytes]:
        return [value for key, value in self.fields if key == name.encode()]


class Http2Peer:
    """One connection of the proxy's. Without `acknowledges` no window is given for what came."""

    def __init__(self, connection: ssl.SSLSocket, *, settings: dict[int, int], acknowledges: bool) -> None:
        self.socket = connection
        self.protocol = connection.selected_alpn_protocol()
        self.h2 = H2Connection(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.acknowledges = acknowledges
        self.requests: dict[int, Asked] = {}
        self.goaway: int | None = None
        self.pings: list[bytes] = []
        self.has_ended = False
        self._seen: set[int] = set()
        self.h2.initiate_connection()
        if settings:
            self.h2.update_settings(settings)
        self.flush()

    def __enter__(self) -> Http2Peer:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def abort(self) -> None:
        """Closes with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def raw(self, data: bytes) -> None:
        """Bytes that hyper-h2 knows nothing of."""
        self.socket.sendall(data)

    def headers_raw(self, stream: int, fields: Iterable[tuple[bytes, bytes]], *, ended: bool = False) -> None:
        """A header section that hyper-h2 would not send. Nothing else may be sent with its encoder after it."""
        block = Encoder().encode([NeverIndexedHeaderTuple(name, value) for name, value in fields])
        self.raw(frame(1, 4 | (1 if ended else 0), stream, block))

    def headers(self, stream: int, status: int, extra: Iterable[tuple[str, str]] = (), *, ended: bool = False) -> None:
        self.h2.send_headers(stream, [(":status", str(status)), *extra], end_stream=ended)
        self.flush()

    def data(self, stream: int, data: bytes, *, ended: bool = False) -> None:
        """Sends all of it, waiting for the window where that is needed."""
        while True:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if data and room <= 0:
                self.read()
                assert not self.has_ended, "the connection ended while the member waited for window"
                continue
            piece, data = data[:room], data[room:]
            self.h2.send_data(stream, piece, end_stream=ended and not data)
            self.flush()
            if not data:
                return

    def trailers(self, stream: int, fields: list[tuple[str, str]]) -> None:
        self.h2.send_headers(stream, fields, end_stream=True)
        self.flush()

    def respond(self, stream: int, status: int = 200, extra: Iterable[tuple[str, str]] = (), body: bytes = b"") -> None:
        """A whole response of known length."""
        self.headers(stream, status, [("content-length", str(len(body))), *extra], ended=not body)
        if body:
            self.data(stream, body, ended=True)

    def reset(self, stream: int, code: int) -> None:
        self.h2.reset_stream(stream, code)
        self.flush()

    def say_goaway(self, last_stream: int, code: int = 0) -> None:
        """GOAWAY past hyper-h2, which would take it for the end."""
        self.raw(frame(7, 0, 0, last_stream.to_bytes(4) + code.to_bytes(4)))

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
        if isinstance(event, ConnectionTerminated):
            self.goaway = int(event.error_code or 0)
            return
        if isinstance(event, PingAckReceived):
            self.pings.append(event.ping_data)
            return
        if isinstance(event, RequestReceived):
            self.requests[event.stream_id] = Asked(event.stream_id, list(event.headers))
            return
        asked = self.requests.get(getattr(event, "stream_id", 0) or 0)
        if asked is None:
            return
        if isinstance(event, DataReceived):
            asked.body += event.data
            if self.acknowledges:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            asked.trailers = list(event.headers)
        elif isinstance(event, StreamEnded):
            asked.has_ended = True
        elif isinstance(event, StreamReset):
            asked.reset = int(event.error_code)

    def wait(self, fact: Callable[[], bool]) -> None:
        """Reads until it is so, or the connection has ended."""
        while not fact() and not self.has_ended:
            self.read()

    def wait_request(self, *, ended: bool = True) -> Asked:
        """The next request that was not asked for yet; `ended`: with its body."""

        def unseen() -> Asked | None:
            return next((one for number, one in self.requests.items() if number not in self._seen), None)

        self.wait(lambda: (found := unseen()) is not None and (not ended or found.has_ended))
        asked = unseen()
        assert asked is not None, "the connection ended without a request"
        self._seen.add(asked.stream)
        return asked

    def wait_end(self) -> int | None:
        """Waits for the end of the connection; the code of its GOAWAY."""
        self.wait(lambda: False)
        return self.goaway


class PlayedHttp2Member:
    """A listening socket; each `accept` plays one TLS connection, of whatever protocol ALPN agrees on."""

    def __init__(self, context: ssl.SSLContext, protocols: tuple[str, ...] = ("h2", "http/1.1")) -> None:
        context.set_alpn_protocols(list(protocols))
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(WAIT_S)
        self._open: list[ssl.SSLSocket] = []
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> PlayedHttp2Member:
        return self

    def __exit__(self, *_unused: object) -> None:
        for connection in self._open:
            connection.close()
        self._listening.close()

    def accept_tls(self) -> ssl.SSLSocket:
        """The next connection, before any HTTP."""
        plain, _address = self._listening.accept()
        plain.settimeout(WAIT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=True)
        self._open.append(connection)
        return connection

    def accept(self, *, settings: dict[int, int] | None = None, acknowledges: bool = True) -> Http2Peer:
        """The next connection, which has to have agreed on h2."""
        connection = self.accept_tls()
        assert connection.selected_alpn_protocol() == "h2"
        return Http2Peer(connection, settings=settings or {}, acknowledges=acknowledges)

    def is_left_alone(self, seconds: float = 0.05) -> bool:
        """Whether nobody connects for so long."""
        self._listening.settimeout(seconds)
        try:
            self._listening.accept()[0].close()
        except TimeoutError:
            return True
        finally:
            self._listening.settimeout(WAIT_S)
        return False
