"""An HTTP/2 member played by the test, over TLS.

with PlayedHttp2Member(context) as member:
    ... a client sends its request ...
    peer = member.accept()
    asked = peer.wait_request()
    peer.respond(asked.stream, 200, body=b"hello")
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h2.events import PingAckReceived, RequestReceived

from tests.support.http2_end import WAIT_S, Http2End, Message, frame, raw_headers

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

__all__ = ["Asked", "Http2Peer", "PlayedHttp2Member"]

RESET = b"\1\0\0\0\0\0\0\0"


@dataclass
class Asked(Message):
    stream: int = 0


class Http2Peer(Http2End):
    """One connection of the proxy's."""

    socket: ssl.SSLSocket

    def __init__(self, connection: ssl.SSLSocket, *, settings: dict[int, int], acknowledges: bool) -> None:
        super().__init__(connection, is_client=False, acknowledges=acknowledges)
        self.protocol = connection.selected_alpn_protocol()
        self.requests: dict[int, Asked] = {}
        self.pings: list[bytes] = []
        self._seen: set[int] = set()
        if settings:
            self.h2.update_settings(settings)
        self.flush()

    def __enter__(self) -> Http2Peer:
        return self

    def close(self) -> None:
        self.socket.close()

    def abort(self) -> None:
        """Closes with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()

    def headers_raw(self, stream: int, fields: Iterable[tuple[bytes, bytes]], *, ended: bool = False) -> None:
        """A header section that hyper-h2 would not send. Nothing else may be sent with its encoder after it."""
        self.raw(raw_headers(stream, fields, ended=ended))

    def headers(self, stream: int, status: int, extra: Iterable[tuple[str, str]] = (), *, ended: bool = False) -> None:
        self.h2.send_headers(stream, [(":status", str(status)), *extra], end_stream=ended)
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

    def _note(self, event: Any) -> None:
        if isinstance(event, PingAckReceived):
            self.pings.append(event.ping_data)
        elif isinstance(event, RequestReceived):
            self.requests[event.stream_id] = Asked(list(event.headers), stream=event.stream_id)
        else:
            super()._note(event)

    def _message(self, stream: int | None) -> Message | None:
        return self.requests.get(stream or 0)

    def wait_request(self, *, ended: bool = True) -> Asked:
        """The next request that was not asked for yet; `ended`: with its body."""

        def unseen() -> Asked | None:
            return next((one for number, one in self.requests.items() if number not in self._seen), None)

        self.wait(lambda: (found := unseen()) is not None and (not ended or found.has_ended))
        asked = unseen()
        assert asked is not None, "the connection ended without a request"
        self._seen.add(asked.stream)
        return asked


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
