"""Members that tell what they got: the answer's body is the request's head as it came, its
`x-member` field their name.

A request says by its own fields how it wants to be answered: `x-reply` holds hexadecimal text of further response lines,
`x-status` another status. One thread serves all members; a connection ends after its answer.
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

__all__ = ["TellingMembers"]

_LENGTH = re.compile(rb"(?im)^content-length:\s*(\d+)")
_REPLY = re.compile(rb"(?im)^x-reply:\s*([0-9a-f]*)")
_STATUS = re.compile(rb"(?im)^x-status:\s*(\d+)")


class TellingMembers:
    """`with TellingMembers(["m1", "m2"]) as members: members.ports["m1"]`; `close` and `open` one of them meanwhile."""

    def __init__(self, names: Iterable[str]) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._held: dict[socket.socket, bytes] = {}
        self._orders: list[tuple[str, str]] = []
        self._done = threading.Semaphore(0)
        self._listening: dict[str, socket.socket] = {}
        self.ports: dict[str, int] = {}
        for name in names:
            self.ports[name] = 0
            self._open(name)
        self._thread = threading.Thread(target=self._run, name="telling-members")

    def __enter__(self) -> TellingMembers:
        self._thread.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._wake.close()
        self._thread.join()

    def close(self, name: str) -> None:
        """Its port refuses from now on, and its connections end."""
        self._order("close", name)

    def open(self, name: str) -> None:
        self._order("open", name)

    def _order(self, what: str, name: str) -> None:
        self._orders.append((what, name))
        self._wake.send(b"!")
        assert self._done.acquire(timeout=10)

    def _open(self, name: str) -> None:
        listening = socket.create_server(("127.0.0.1", self.ports[name]), backlog=512)
        listening.setblocking(False)
        self.ports[name] = listening.getsockname()[1]
        self._listening[name] = listening
        self._selector.register(listening, selectors.EVENT_READ, name)

    def _carry_out(self) -> None:
        while self._orders:
            what, name = self._orders.pop(0)
            if what == "open":
                self._open(name)
            else:
                for key in list(self._selector.get_map().values()):
                    if key.data == name:
                        self._drop(key.fileobj)  # type: ignore[arg-type]
            self._done.release()

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        self._held.pop(connection, None)
        connection.close()

    def _run(self) -> None:
        while True:
            for key, _events in self._selector.select():
                it = key.fileobj
                assert isinstance(it, socket.socket)
                if it is self._woken:
                    if it.recv(100):
                        self._carry_out()
                        break
                    for open_key in list(self._selector.get_map().values()):
                        open_key.fileobj.close()  # type: ignore[union-attr]
                    self._selector.close()
                    return
                if it not in self._held and it.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    with contextlib.suppress(OSError):
                        connection, _ = it.accept()
                        self._held[connection] = b""
                        self._selector.register(connection, selectors.EVENT_READ, key.data)
                else:
                    self._read(it, key.data)

    def _read(self, connection: socket.socket, name: str) -> None:
        try:
            data = connection.recv(65536)
            if not data:
                self._drop(connection)
                return
            self._held[connection] += data
            head, found, body = self._held[connection].partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            if found and len(body) >= (int(length[1]) if length else 0):
                connection.sendall(_answer(name, head))
                self._drop(connection)
        except OSError:
            self._drop(connection)


def _answer(name: str, head: bytes) -> bytes:
    body = head
    reply, status = _REPLY.search(head), _STATUS.search(head)
    code = int(status[1]) if status else 200
    lines = bytes.fromhex(reply[1].decode()) if reply else b""
    bodiless = code == 304 or head.startswith(b"HEAD ")
    return b"HTTP/1.1 %d Fine\r\nConnection: close\r\nX-Member: %b\r\n%bContent-Length: %d\r\n\r\n%b" % (
        code,
        name.encode(),
        lines,
        len(body),
        b"" if bodiless else body,
    )
