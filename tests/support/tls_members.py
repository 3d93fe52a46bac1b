"""Members that speak TLS, well or badly, and a file that leads to them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.reference_haproxy import ReferenceHAProxy
from tests.support.served import Served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.certificates import Identity

__all__ = ["TlsMember", "Visit", "member_context", "pool_text", "run_pool"]

WAIT_S = 10.0
RESET = b"\1\0\0\0\0\0\0\0"


@dataclass
class Visit:
    """One connection, as the member saw it."""

    server_name: str | None = None
    version: str | None = None
    cipher: str | None = None
    protocol: str | None = None
    resumed: bool = False
    certificate: bytes | None = None
    failure: str | None = None
    plain: bytes = b""  # in front of TLS
    heads: list[bytes] = field(default_factory=list)


def member_context(identity: Identity, directory: Path, name: str = "member.pem", **options: object) -> ssl.SSLContext:
    """A server with that certificate; options are set on the context."""
    file = directory / name
    file.write_bytes(identity.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    for option, value in options.items():
        setattr(context, option, value)
    return context


class TlsMember:
    """Answers every request with its head as the body, on `/size/N` with N bytes, on `/close/N` with N bytes up to the end of
    the connection; `/break/N` sends N of 2N bytes and resets.

    Args:
        proxy_header: a PROXY header of version 1 or 2 comes in front of TLS, and is kept in `Visit.plain`.
        tidy: whether the connection ends with close_notify.
    """

    def __init__(
        self, context: ssl.SSLContext, *, proxy_header: bool = False, tidy: bool = True, port: int = 0
    ) -> None:
        self.context = context
        self.visits: list[Visit] = []
        self._names: dict[int, str | None] = {}
        self._proxy_header = proxy_header
        self._tidy = tidy
        context.sni_callback = self._note_name
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def __enter__(self) -> TlsMember:
        return self

    def __exit__(self, *_unused: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._accepting.join()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _note_name(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        self._names[id(connection)] = name

    def _accept(self) -> None:
        while True:
            try:
                connection, _address = self._listening.accept()
            except OSError:
                return
            visit = Visit()
            self.visits.append(visit)
            thread = threading.Thread(target=self._serve, args=(connection, visit))
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket, visit: Visit) -> None:
        connection = plain
        try:
            if self._proxy_header:
                visit.plain = _read_proxy_header(plain)
            connection = self.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
            self._open.append(connection)
            connection.do_handshake()
            visit.server_name = self._names.pop(id(connection), None)
            visit.version, visit.protocol = connection.version(), connection.selected_alpn_protocol()
            visit.resumed = bool(connection.session_reused)
            visit.certificate = connection.getpeercert(binary_form=True)
            cipher = connection.cipher()
            visit.cipher = cipher[0] if cipher else None
            self._answer(connection, visit)
        except (OSError, ValueError) as error:
            visit.failure = str(error)
        finally:
            connection.close()

    def _answer(self, connection: ssl.SSLSocket, visit: Visit) -> None:
        received = b""
        while True:
            while b"\r\n\r\n" not in received:
                chunk = connection.recv(65536)
                if not chunk:
                    return
                received += chunk
            head, _end, received = received.partition(b"\r\n\r\n")
            visit.heads.append(head)
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
            )
            while len(received) < length:
                received += connection.recv(65536)
            received = received[length:]
            _empty, verb, *rest = head.split(b" ")[1].split(b"/")
            size = int(rest[0]) if rest else 0
            if verb == b"close":
                connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b"c" * size)
                if self._tidy:
                    connection.unwrap()
                else:
                    connection.shutdown(socket.SHUT_WR)
                return
            if verb == b"break":
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (2 * size) + b"b" * size)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                return
            body = b"s" * size if verb == b"size" else head
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)


def _read_proxy_header(plain: socket.socket) -> bytes:
    header = plain.recv(16, socket.MSG_WAITALL)
    if header.startswith(b"PROXY"):
        while not header.endswith(b"\r\n"):
            header += plain.recv(1)
        return header
    return header + plain.recv(int.from_bytes(header[14:16]), socket.MSG_WAITALL)


def pool_text(
    port: int,
    servers: list[str],
    *,
    bind_options: str = "",
    mode: str = "http",
    connect_ms: int = 5000,
    server_ms: int = 15000,
    backend: str = "",
    retries: int = 3,
    log: str = "",
) -> str:
    """One listener and one pool; `servers` are what follows `server mN` (address, port and options), `log` takes lines like
    `f pool:web/m1 200 ----`."""
    lines = "".join(f"    server m{place} {server}\n" for place, server in enumerate(servers, 1))
    reuse = "    http-reuse safe\n" if mode == "http" else ""
    log_lines = f"    log {log} local0\n" if log else ""
    log_format = "    log-format f\\ %b/%s\\ %ST\\ %tsc\n" if log else ""
    log_default = "    log global" if log else "    no log"
    return f"""\
global
    maxconn 4000
{log_lines}
defaults
{log_default}
    retries {retries}
    option redispatch
    option http-keep-alive

frontend web
    maxconn 2000
    bind 127.0.0.1:{port} {bind_options}
    mode {mode}
    default_backend pool:web
    timeout client 15000
{log_format}
backend pool:web
    mode {mode}
{reuse}    balance roundrobin
{backend}    fullconn 2000
    option allbackups
    timeout connect {connect_ms}
    timeout server {server_ms}
{lines}"""


@contextlib.contextmanager
def run_pool(proxy: str, directory: Path, text: str, *options: str) -> Iterator[Served | None]:
    """Serves the file with "haproxy" or "amphorad" for as long as the context lasts; yields the latter."""
    if proxy == "haproxy":
        with ReferenceHAProxy(directory, text):
            yield None
    else:
        with Served(directory, text, *options) as served:
            yield served
