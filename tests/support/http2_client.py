"""An HTTP/2 client played by the test.

with Http2Client(port) as client:
    stream = client.ask("GET", "/")
    member = played_member.accept()
    ...
    assert client.answer(stream).body == b"hello"
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from h2.connection import ConnectionInputs, ConnectionState
from h2.events import InformationalResponseReceived, RemoteSettingsChanged, ResponseReceived
from hpack import Encoder

from tests.support.http2_end import WAIT_S, Http2End, Message, raw_headers

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PREFACE", "Answered", "Http2Client"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass
class Answered(Message):
    interim: list[list[tuple[bytes, bytes]]] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(dict(self.fields)[b":status"])


class Http2Client(Http2End):
    """One connection. Without `connection` it is plain TCP with prior knowledge."""

    def __init__(self, port: int, *, connection: socket.socket | None = None, acknowledges: bool = True) -> None:
        connection = connection or socket.create_connection(("127.0.0.1", port), WAIT_S)
        connection.settimeout(WAIT_S)
        super().__init__(connection, is_client=True, acknowledges=acknowledges)
        # hyper-h2 takes GOAWAY for the end; streams below its number go on (RFC 9113 section 6.8)
        going = (ConnectionState.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY)
        machine = self.h2.state_machine
        machine._transitions = {**machine._transitions, going: (None, ConnectionState.CLIENT_OPEN)}
        self.authority = f"127.0.0.1:{port}"
        self.scheme = "http"
        self.streams: dict[int, Answered] = {}
        self.settings: dict[int, int] = {}
        self.flush()

    def __enter__(self) -> Http2Client:
        return self

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
        self.streams.setdefault(stream, Answered())
        self.raw(raw_headers(stream, fields, ended=ended))
        # so that it knows the stream when the answer comes
        self.h2.send_headers(stream, self.fields("GET", "/"), end_stream=ended)
        self.h2.data_to_send()
        self.h2.encoder = Encoder()  # what that encoded never came to the server
        return stream

    def _note(self, event: Any) -> None:
        if isinstance(event, RemoteSettingsChanged):
            self.settings.update({int(code): one.new_value for code, one in event.changed_settings.items()})
        elif isinstance(event, ResponseReceived):
            if event.stream_id in self.streams:
                self.streams[event.stream_id].fields = list(event.headers)
        elif isinstance(event, InformationalResponseReceived):
            if event.stream_id in self.streams:
                self.streams[event.stream_id].interim.append(list(event.headers))
        else:
            super()._note(event)

    def _message(self, stream: int | None) -> Message | None:
        return self.streams.get(stream or 0)

    def answer(self, stream: int) -> Answered:
        """Waits for the end of a stream, by END_STREAM or a reset."""
        answered = self.streams[stream]
        self.wait(lambda: answered.has_ended or answered.reset is not None)
        return answered
