"""Members that do as they are told, one thread per connection, and clients for them.

    def echo(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            connection.sendall(data)

    with ScriptedMember(echo) as member:
        ... member.port, member.wait_sessions(3) ...

A script that ends closes its connection. An `OSError` in a script is the other side's doing and ends only that connection;
anything else fails the test when the member is left.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ScriptedMember",
    "connect",
    "echo",
    "echoes",
    "get",
    "http_answer",
    "http_member",
    "is_reset_or_end",
    "read_head",
    "read_response",
    "receive_all",
    "refuses",
    "reset",
]

WAIT_S = 10.0


class ScriptedMember:
    """A listening socket on loopback whose connections run `script`.

    Args:
        address: where it listens, 127.0.0.1 or ::1 for example.
        port: 0 takes a free one.
    """

    def __init__(self, script: Callable[[socket.socket], None], *, address: str = "127.0.0.1", port: int = 0) -> None:
        self._script = script
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listening = socket.create_server((address, port), family=family, backlog=4096)
        self.address = address
        self.port: int = self._listening.getsockname()[1]
        self.sessions = 0
        self.ended = 0
        self._failures: list[BaseException] = []
        self._changed = threading.Condition()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._closing = False
        self._acceptor = threading.Thread(target=self._accept, name=f"member {self.port}")

    def __enter__(self) -> ScriptedMember:
        self._acceptor.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._acceptor.join(WAIT_S)
        self._listening.close()
        with self._changed:
            left = list(self._open.items())
        for _thread, connection in left:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread, _connection in left:
            thread.join(WAIT_S)
        if self._failures:
            raise self._failures[0]

    def wait_sessions(self, count: int) -> None:
        """Until that many connections have been made."""
        self._wait(lambda: self.sessions >= count)

    def wait_ended(self, count: int) -> None:
        """Until that many scripts have come to their end."""
        self._wait(lambda: self.ended >= count)

    def _wait(self, fact: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(fact, WAIT_S), f"{self.sessions} sessions began, {self.ended} ended"

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, _address = self._listening.accept()
            except OSError:
                return
            connection.settimeout(WAIT_S)
            thread = threading.Thread(target=self._run, args=(connection,), name=f"member {self.port} session")
            with self._changed:
                self._open[thread] = connection
                self.sessions += 1
                self._changed.notify_all()
            thread.start()

    def _run(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._script(connection)
        except OSError:
            pass
        except BaseException as error:  # raised again in the test's own thread
            self._failures.append(error)
        finally:
            with self._changed:
                del self._open[threading.current_thread()]
                self.ended += 1
                self._changed.notify_all()


# --- scripts ---


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def read_head(connection: socket.socket) -> bytes:
    """An HTTP head, to its empty line; what came before the end of the stream if there is none."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = connection.recv(1)
        if not data:
            break
        head += data
    return head


def http_answer(body: bytes = b"ok", *, status: str = "200 OK", fields: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode() + body


def http_member(body: bytes = b"ok") -> Callable[[socket.socket], None]:
    """A script that answers every request (without a body) with `body`."""

    def script(connection: socket.socket) -> None:
        while read_head(connection):
            connection.sendall(http_answer(body))

    return script


# --- clients ---


def connect(port: int, *, address: str = "127.0.0.1", source: str | None = None) -> socket.socket:
    """A connection with a time limit on every call."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    client = socket.socket(family, socket.SOCK_STREAM)
    try:
        client.settimeout(WAIT_S)
        if source is not None:
            client.bind((source, 0))
        client.connect((address, port))
    except BaseException:
        client.close()
        raise
    return client


def refuses(port: int, address: str = "127.0.0.1") -> bool:
    """Nobody accepts there."""
    try:
        connect(port, address=address).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False


def echoes(client: socket.socket) -> bool:
    """The session to an `echo` member works."""
    client.sendall(b"x")
    return client.recv(1) == b"x"


def receive_all(client: socket.socket) -> bytes:
    """Everything to the end of the stream."""
    received = bytearray()
    while data := client.recv(1 << 18):
        received += data
    return bytes(received)


def is_reset_or_end(client: socket.socket) -> bool:
    """Whether nothing more comes; waits for it."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def reset(client: socket.socket) -> None:
    """Closes with RST instead of FIN."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def get(client: socket.socket, path: str = "/") -> bytes:
    """One GET on a kept-alive connection; returns status code and body as `b"200 body"`."""
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: lb\r\n\r\n".encode())
    return read_response(client)


def read_response(client: socket.socket) -> bytes:
    """A response with Content-Length, as `b"200 body"`; b"" when the connection ended instead."""
    head = read_head(client)
    if not head.endswith(b"\r\n\r\n"):
        return b""
    length = next(
        (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
    )
    body = b""
    while len(body) < length and (data := client.recv(length - len(body))):
        body += data
    return head.split(b" ", 2)[1] + b" " + body
