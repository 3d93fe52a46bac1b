"""The VIPs in the namespace, and the peer's advertisements, for the time in which no keepalived looks after them.

Sockets belong to the namespace in which they are made, and setns(2) is for one thread: a thread of their own makes them and ends. All
calls answer from the kernel within microseconds and need not be awaited.

Source: rtnetlink(7), netlink(7), RFC 5798 section 5.2, RFC 3768 section 5.3.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from amphorad.namespace_entry import call_inside

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

__all__ = ["LOOPBACK", "Addresses", "PeerWatch"]

LOOPBACK: Final = 1  # index of `lo` in every namespace
_VRRP: Final = 112
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_REQUEST, _ACK, _CREATE, _REPLACE, _DUMP = 1, 4, 0x400, 0x100, 0x300
_ERROR, _DONE = 2, 3
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NODAD: Final = 0x02
_HEADER: Final = struct.Struct("=IHHII")
_MESSAGE: Final = struct.Struct("=BBBBI")
_ANSWER_S: Final = 1.0


class Addresses:
    """Addresses of all interfaces of one namespace. `close` in the end.

    Raises (every method too): OSError.
    """

    def __init__(self, namespace: Path) -> None:
        self._socket = call_inside(namespace, self._open)
        self._sequence = 0

    @staticmethod
    def _open() -> socket.socket:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        opened.settimeout(_ANSWER_S)
        return opened

    def close(self) -> None:
        self._socket.close()

    def find(self, wanted: Collection[str]) -> list[tuple[int, str]]:
        """Where those addresses are: pairs of an interface's index and an address."""
        packed = {_pack(address): address for address in wanted}
        found = []
        for kind, body in self._ask(_GETADDR, _DUMP, _MESSAGE.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
            if kind == _NEWADDR:
                _family, _length, _flags, _scope, index = _MESSAGE.unpack_from(body)
                attributes = dict(_attributes(body[_MESSAGE.size :]))
                local = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS, b"")
                if local in packed:
                    found.append((index, packed[local]))
        return found

    def add_to_loopback(self, addresses: Sequence[str]) -> None:
        """Makes this machine answer on them, whatever happens on other interfaces; those that are there stay."""
        for address in addresses:
            self._change(_NEWADDR, _CREATE | _REPLACE, LOOPBACK, address, errno.EEXIST)

    def remove(self, addresses: Collection[str], *, loopback_only: bool) -> int:
        """Removes them from `lo`, or from every interface; returns how many there were."""
        found = [at for at in self.find(addresses) if at[0] == LOOPBACK or not loopback_only]
        for index, address in found:
            self._change(_DELADDR, 0, index, address, errno.EADDRNOTAVAIL)
        return len(found)

    def _change(self, kind: int, flags: int, index: int, address: str, harmless: int) -> None:
        packed = _pack(address)
        family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
        is_new_ipv6 = kind == _NEWADDR and family == socket.AF_INET6
        body = _MESSAGE.pack(family, len(packed) * 8, _NODAD if is_new_ipv6 else 0, 0, index)
        body += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
        try:
            for _answer in self._ask(kind, flags | _ACK, body):
                pass
        except OSError as error:
            if error.errno != harmless:
                raise

    def _ask(self, kind: int, flags: int, body: bytes) -> Iterator[tuple[int, bytes]]:
        """The messages of the answer, up to the one that ends it."""
        self._sequence += 1
        length = _HEADER.size + len(body)
        self._socket.send(_HEADER.pack(length, kind, flags | _REQUEST, self._sequence, 0) + body)
        while True:
            data = self._socket.recv(1 << 20)
            at = 0
            while at + _HEADER.size <= len(data):
                size, found, _flags, sequence, _port = _HEADER.unpack_from(data, at)
                if sequence == self._sequence:
                    payload = data[at + _HEADER.size : at + size]
                    if found == _DONE:
                        return
                    if found == _ERROR:
                        (number,) = struct.unpack_from("=i", payload)
                        if number:
                            raise OSError(-number, os.strerror(-number))
                        return
                    yield found, payload
                at += (size + 3) & ~3


class PeerWatch:
    """Hears the peer's advertisements: only a MASTER sends them. `close` in the end.

    Args:
        peers: addresses of one family.

    Raises: OSError.
    """

    def __init__(self, namespace: Path, peers: Collection[str], router_id: int) -> None:
        self._peers = {_pack(peer) for peer in peers}
        self._router_id = router_id
        self._family = socket.AF_INET6 if any(":" in peer for peer in peers) else socket.AF_INET
        self._socket = call_inside(namespace, self._open)

    def _open(self) -> socket.socket:
        return socket.socket(self._family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, _VRRP)

    def close(self) -> None:
        self._socket.close()

    def has_heard(self) -> bool:
        """Whether a peer has said since the last call, or since the start, that it is MASTER."""
        heard = False
        with contextlib.suppress(BlockingIOError):
            while True:
                data, sender = self._socket.recvfrom(2048)
                heard |= self._is_master(data, sender[0])
        return heard

    def _is_master(self, data: bytes, sender: str) -> bool:
        if self._family == socket.AF_INET and data:
            data = data[(data[0] & 0x0F) * 4 :]  # raw IPv4 sockets give the IP header too
        if len(data) < 8 or _pack(sender.partition("%")[0]) not in self._peers:
            return False
        is_advertisement = data[0] & 0x0F == 1
        return is_advertisement and data[1] == self._router_id and data[2] > 0  # priority 0: it lets go


def _pack(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value  # 4 or 16 bytes: no padding


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4:
            return
        yield kind, data[at + 4 : at + size]
        at += (size + 3) & ~3
