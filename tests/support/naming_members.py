"""Members that answer every request with their own name, so that a test sees which pool was chosen.

    with NamingMembers(["default", "other"]) as members:
        members.ports["other"]

One thread serves all of them. A connection ends after its answer; it comes when the request is whole.
"""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["NamingMembers"]

_LENGTH = re.compile(rb"(?im)^content-length:\s*(\d+)")
_CHUNKED = re.compile(rb"(?im)^transfer-encoding: *chunked")


def _is_whole(head: bytes, body: bytes) -> bool:
    if _CHUNKED.search(head):
        return body.endswith(b"\r\n\r\n") and (body.startswith(b"0\r\n") or b"\r\n0\r\n" in body)
    length = _LENGTH.search(head)
    return len(body) >= (int(length[1]) if length else 0)


class NamingMembers:
    def __init__(self, names: Iterable[str]) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self.ports: dict[str, int] = {}
        for name in names:
            listening = socket.create_server(("127.0.0.1", 0), backlog=512)
            listening.setblocking(False)
            self.ports[name] = listening.getsockname()[1]
            self._selector.register(listening, selectors.EVENT_READ, name)
        self._thread = threading.Thread(target=self._run, name="naming-members")

    def __enter__(self) -> NamingMembers:
        self._thread.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._wake.close()
        self._thread.join()

    def _run(self) -> None:
        held: dict[socket.socket, bytes] = {}
        while True:
            for key, _events in self._selector.select():
                it = key.fileobj
                assert isinstance(it, socket.socket)
                if it is self._woken:
                    for open_key in list(self._selector.get_map().values()):
                        open_key.fileobj.close()  # type: ignore[union-attr]
                    self._selector.close()
                    return
                if it not in held and it.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    with contextlib.suppress(BlockingIOError):
                        connection, _ = it.accept()
                        held[connection] = b""
                        self._selector.register(connection, selectors.EVENT_READ, key.data)
                else:
                    self._read(it, key.data, held)

    def _read(self, connection: socket.socket, name: str, held: dict[socket.socket, bytes]) -> None:
        try:
            data = connection.recv(65536)
            held[connection] += data
            head, found, body = held[connection].partition(b"\r\n\r\n")
            if found and _is_whole(head, body):
                text = name.encode()
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
                    % (len(text), b"" if head.startswith(b"HEAD ") else text)
                )
                data = b""
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(connection)
            del held[connection]
            connection.close()
