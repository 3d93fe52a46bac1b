"""The two ends of a proxied HTTP conversation, played by the test itself over raw sockets, so that it can misbehave at
every step. Nothing here runs in a thread: a test sends, accepts and reads in the order that it says.

    client = Client(port)
    client.send(get("/"))
    member = played_member.accept()
    assert member.read_message().target == b"/"
    member.send(OK)
    assert client.read_message().body == b"hello"

Messages are read by the letter of RFC 9112; anything malformed fails the test. Every wait is bounded by WAIT_S.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["OK", "Client", "Message", "Peer", "PlayedMember", "chunked", "exchange", "get", "post", "pump", "response"]

WAIT_S = 5.0
_READ_BYTES = 65536
_WITHOUT_BODY = (b"HTTP/1.1 1", b"HTTP/1.1 204", b"HTTP/1.1 304")


@dataclass(frozen=True)
class Message:
    """A request or response as it came over the wire."""

    start_line: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    raw: bytes = b""

    @property
    def status(self) -> int:
        return int(self.start_line.split(b" ")[1])

    @property
    def target(self) -> bytes:
        return self.start_line.split(b" ")[1]

    def get_all(self, name: str) -> list[bytes]:
        """Values of the fields of this name, letter case aside."""
        return [value for key, value in self.fields if key.lower() == name.lower().encode()]

    def get(self, name: str) -> bytes | None:
        values = self.get_all(name)
        assert len(values) < 2, f"{name} is repeated: {values}"
        return values[0] if values else None


class Peer:
    """One end of a connection, with what was received and not read yet."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(WAIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    def send(self, *parts: bytes) -> None:
        """Each part is a send of its own."""
        for part in parts:
            self.socket.sendall(part)

    def send_byte_by_byte(self, data: bytes) -> None:
        for index in range(len(data)):
            self.socket.sendall(data[index : index + 1])

    def finish(self) -> None:
        """Ends this direction only."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Closes with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def receive(self) -> bytes:
        """What comes next, b"" at the end. Takes nothing from `buffer`."""
        return self.socket.recv(_READ_BYTES)

    def _more(self) -> None:
        data = self.receive()
        assert data, f"the connection ended inside a message; it had sent {self.buffer!r}"
        self.buffer += data

    def read_exactly(self, count: int) -> bytes:
        parts = [self.buffer]
        held = len(self.buffer)
        while held < count:
            data = self.receive()
            assert data, f"the connection ended {count - held} bytes too early"
            parts.append(data)
            held += len(data)
        whole = b"".join(parts)
        self.buffer = whole[count:]
        return whole[:count]

    def read_until(self, mark: bytes) -> bytes:
        """Up to and with `mark`."""
        while mark not in self.buffer:
            self._more()
        end = self.buffer.index(mark) + len(mark)
        found, self.buffer = self.buffer[:end], self.buffer[end:]
        return found

    def read_to_end(self) -> bytes:
        """Everything up to the connection's end; a reset counts as one."""
        parts = [self.buffer]
        self.buffer = b""
        with contextlib.suppress(ConnectionResetError):
            while data := self.receive():
                parts.append(data)
        return b"".join(parts)

    def ended(self) -> bool:
        """Waits for the end of the connection, and says whether nothing came before it."""
        return self.read_to_end() == b""

    def was_reset(self) -> bool:
        """Waits for the end of the connection, and says whether it was a reset."""
        try:
            while self.receive():
                pass
        except ConnectionResetError:
            return True
        return False

    def is_silent(self, seconds: float = 0.05) -> bool:
        """Nothing arrives, not even an end, for this long. Only for what must not happen."""
        return not self.buffer and not select.select([self.socket], [], [], seconds)[0]

    def read_head(self) -> Message:
        raw = self.read_until(b"\r\n\r\n")
        lines = raw[:-4].split(b"\r\n")
        return Message(lines[0], [_split_field(line) for line in lines[1:]], raw=raw)

    def read_message(self, method: str = "GET") -> Message:
        """The next message with its body; `method` is the request's when this is a response.

        A response without a length ends with the connection.
        """
        head = self.read_head()
        is_response = head.start_line.startswith(b"HTTP/")
        length, coding = head.get("content-length"), head.get("transfer-encoding")
        if is_response and (method == "HEAD" or head.start_line.startswith(_WITHOUT_BODY)):
            return head
        if coding is not None:
            assert length is None, "both Content-Length and Transfer-Encoding"
            assert coding == b"chunked"
            return self.read_chunked(head)
        if length is not None:
            body = self.read_exactly(int(length))
        else:
            body = self.read_to_end() if is_response else b""
        return Message(head.start_line, head.fields, body, raw=head.raw + body)

    def read_chunked(self, head: Message) -> Message:
        """The chunked body that follows `head`."""
        body, raw = [], [head.raw]
        while True:
            line = self.read_until(b"\r\n")
            raw.append(line)
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            data = self.read_exactly(size + 2)
            assert data.endswith(b"\r\n")
            raw.append(data)
            body.append(data[:-2])
        trailers = []
        while (line := self.read_until(b"\r\n")) != b"\r\n":
            raw.append(line)
            trailers.append(_split_field(line[:-2]))
        return Message(head.start_line, head.fields, b"".join(body), trailers, b"".join([*raw, line]))


class Client(Peer):
    """`Client(port)` is connected; use it as a context."""

    def __init__(self, port: int) -> None:
        super().__init__(socket.create_connection(("127.0.0.1", port), WAIT_S))

    def __enter__(self) -> Client:
        return self


class PlayedMember:
    """A listening socket whose connections the test answers itself.

    `hang_up` after each test closes what the proxy still keeps open.
    """

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listening.settimeout(WAIT_S)
        self.port: int = self._listening.getsockname()[1]
        self.connections: list[Peer] = []

    def accept(self) -> Peer:
        """The next connection that the proxy opens."""
        connection, _ = self._listening.accept()
        self.connections.append(Peer(connection))
        return self.connections[-1]

    def is_left_alone(self, seconds: float = 0.0) -> bool:
        """No connection waits. Without `seconds` the caller has waited for something that came later."""
        return not select.select([self._listening], [], [], seconds)[0]

    def fileno(self) -> int:
        return self._listening.fileno()

    def hang_up(self) -> None:
        for connection in self.connections:
            connection.close()
        self.connections.clear()
        while not self.is_left_alone():
            self._listening.accept()[0].close()

    def close(self) -> None:
        self.hang_up()
        self._listening.close()


def exchange(client: Peer, request: bytes, member: Callable[[], Peer], answer: bytes, method: str = "GET") -> Message:
    """One complete exchange; returns the response. `member` gives the connection that the request comes on."""
    client.send(request)
    peer = member()
    peer.read_message()
    peer.send(answer)
    return client.read_message(method)


def pump(sources: Iterable[tuple[Peer, bytes]], sinks: Iterable[tuple[Peer, int]]) -> list[bytes]:
    """Sends and receives at the same time, as large bodies need it: returns the bytes each sink got, `int` of them."""
    sending = {peer.socket: memoryview(data) for peer, data in sources}
    receiving = {peer.socket: (peer, bytearray(peer.buffer), count) for peer, count in sinks}
    results = dict(receiving)
    deadline = time.monotonic() + WAIT_S
    while sending or any(len(got) < count for _, got, count in receiving.values()):
        readable = [key for key, (_, got, count) in receiving.items() if len(got) < count]
        ready, writable, _ = select.select(readable, list(sending), [], WAIT_S)
        assert ready or writable, "nothing moves"
        assert time.monotonic() < deadline, "moves too slowly"
        for key in writable:
            key.settimeout(0)
            try:
                sending[key] = sending[key][key.send(sending[key][:262144]) :]
            finally:
                key.settimeout(WAIT_S)
            if not sending[key]:
                del sending[key]
        for key in ready:
            data = key.recv(262144)
            assert data, "the connection ended too early"
            receiving[key][1].extend(data)
    found = []
    for peer, got, count in results.values():
        peer.buffer = bytes(got[count:])
        found.append(bytes(got[:count]))
    return found


def _split_field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    assert colon, f"not a field line: {line!r}"
    return name, value.strip(b" \t")


def get(target: str = "/", *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    """A request without a body; `lines` come after Host."""
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: test", *lines, "", ""]).encode()


def post(body: bytes, *lines: str, target: str = "/", method: str = "POST") -> bytes:
    return get(target, *lines, f"Content-Length: {len(body)}", method=method) + body


def response(body: bytes = b"", *lines: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    return "\r\n".join([f"HTTP/{version} {status}", *lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def chunked(*chunks: bytes, trailers: Iterable[str] = ()) -> bytes:
    """A chunked body with these chunks."""
    text = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return text + b"0\r\n" + b"".join(f"{line}\r\n".encode() for line in trailers) + b"\r\n"


OK = response(b"hello")
