"""One TLS listener in front of one naming member: amphorad, or the real HAProxy on the same file and certificates."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support.certificates import Authority, Identity
from tests.support.reference_haproxy import ReferenceHAProxy
from tests.support.served import Served, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Answer", "EchoMember", "TlsRig", "run_tls_rig", "tls_text"]

WAIT_S = 10.0


class EchoMember:
    """Answers every request with its head as the body; `/size/N` with N bytes, `/endless/N` with N bytes and no length."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _address = self._listening.accept()
            except OSError:
                return
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        try:
            while True:
                while b"\r\n\r\n" not in received:
                    chunk = connection.recv(65536)
                    if not chunk:
                        return
                    received += chunk
                head, _end, received = received.partition(b"\r\n\r\n")
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length")
                    ),
                    0,
                )
                while len(received) < length:
                    received += connection.recv(65536)
                received = received[length:]
                path = head.split(b" ")[1]
                if path.startswith(b"/endless/"):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b"e" * int(path[9:]))
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    return
                body = b"s" * int(path[6:]) if path.startswith(b"/size/") else head
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        except OSError:
            pass
        finally:
            connection.close()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._accepting.join()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join()


def tls_text(
    port: int,
    member: int,
    bind_options: str,
    *,
    client_ms: int = 15000,
    frontend: str = "",
    backend: str = "",
    log: str | None = None,
) -> str:
    return f"""\
global
    maxconn 4000
    {f"log {log} local0" if log else ""}

defaults
    {"log global" if log else "no log"}
    retries 3
    option redispatch
    option http-keep-alive

frontend web
    maxconn 2000
    redirect scheme https if !{{ ssl_fc }}
{frontend}    bind 127.0.0.1:{port} {bind_options}
    mode http
    default_backend pool:web
    timeout client {client_ms}

backend pool:web
    mode http
    http-reuse safe
    balance roundrobin
{backend}    fullconn 2000
    option allbackups
    timeout connect 5000
    timeout server 15000
    server m1 127.0.0.1:{member} weight 1
"""


class TlsRig:
    """A directory of certificates, and a proxy that serves them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority()
        self.port = free_port()
        self.served: Served | None = None

    def write(self, name: str, content: bytes) -> str:
        path = self.directory / name
        path.write_bytes(content)
        return str(path)

    def write_list(self, *identities: Identity) -> str:
        """A crt-list of these, the default first."""
        paths = [self.write(f"certificate{place}.pem", one.pem) for place, one in enumerate(identities)]
        return self.write("list.pem", "".join(f"{path}\n" for path in paths).encode())

    def context(self, **options: object) -> ssl.SSLContext:
        """A client that verifies nothing; options are set on it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        for name, value in options.items():
            setattr(context, name, value)
        return context

    @contextmanager
    def connect(
        self, context: ssl.SSLContext | None = None, name: str | None = None, **more: object
    ) -> Iterator[ssl.SSLSocket]:
        with socket.create_connection(("127.0.0.1", self.port), WAIT_S) as plain:
            wrapped = (context or self.context()).wrap_socket(
                plain, server_hostname=name, suppress_ragged_eofs=False, **more
            )  # type: ignore[arg-type]
            with wrapped:
                yield wrapped

    def ask(self, connection: ssl.SSLSocket, path: str = "/", extra: str = "") -> Answer:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode())
        return Answer.read(connection)


class Answer:
    """A response: status, head and body."""

    def __init__(self, status: int, head: str, body: bytes) -> None:
        self.status = status
        self.head = head
        self.body = body

    @classmethod
    def read(cls, connection: ssl.SSLSocket) -> Answer:
        received = b""
        while b"\r\n\r\n" not in received:
            chunk = connection.recv(65536)
            assert chunk, received
            received += chunk
        head, _end, body = received.partition(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length")), None)
        while length is None or len(body) < length:
            chunk = connection.recv(65536)
            if not chunk:
                assert length is None
                break
            body += chunk
        return cls(int(head.split()[1]), head.decode(), body)


@contextmanager
def run_tls_rig(
    proxy: str,
    rig: TlsRig,
    bind_options: str,
    *,
    client_ms: int = 15000,
    frontend: str = "",
    backend: str = "",
    log: str | None = None,
    strict: bool = False,
) -> Iterator[TlsRig]:
    """Serves `rig` with "amphorad" or "haproxy" for as long as the context lasts; `strict`: amphorad reads the text as HAProxy."""
    member = EchoMember()
    text = tls_text(
        rig.port, member.port, bind_options, client_ms=client_ms, frontend=frontend, backend=backend, log=log
    )
    try:
        if proxy == "haproxy":
            with ReferenceHAProxy(rig.directory, text):
                yield rig
        else:
            more = ("--escaping", "strict") if strict else ()
            with Served(rig.directory, text, *more) as rig.served:
                yield rig
    finally:
        member.close()
