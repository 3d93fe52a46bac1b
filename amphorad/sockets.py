"""Listening sockets: opened before a configuration is sent, kept while their address is in use, closed after it is not.

The supervisor owns them, so they survive the data plane. A socket belongs to an address and port, not to a listener: a
listener that takes over the port of another one takes the same socket, and no connection attempt is refused in between.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from typing import TYPE_CHECKING

from amphorad.errors import ListenError
from amphorad.model import Bind, Mode
from amphorad.namespace_entry import call_inside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from amphorad.model import Listener, LoadBalancer

__all__ = ["ListeningSockets", "open_listening_socket"]

BACKLOG = 65535  # the kernel cuts it to net.core.somaxconn
# Values of Linux that the socket module does not name (<linux/in.h>, <linux/in6.h>).
IP_FREEBIND = 15
IPV6_FREEBIND = 78


def open_listening_socket(listener: Listener, bind: Bind, *, free_bind: bool = False) -> socket.socket:
    """One listening socket, for all engine threads together.

    Without SO_REUSEPORT on purpose: with it, two programs could share a port by mistake, each with half of the traffic.

    Args:
        listener: for the error text, and its mode: HTTP listeners wake up when the request is there (tcp(7)
            TCP_DEFER_ACCEPT), a TCP listener must not, because there the member may speak first.
        bind: address and port; port 0 takes a free one.
        free_bind: bind an address that this machine does not have (yet), as a BACKUP of VRRP must.

    Raises:
        ListenError: naming listener, address, port and the system's reason.
    """
    try:
        address = ipaddress.ip_address(bind.address)
    except ValueError as error:
        raise _listen_error(listener, bind, str(error)) from error
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    listening = None
    try:
        listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Accepted connections inherit it, which saves a system call for each of them.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        set_mode(listening, listener.mode)
        _bind(listening, family, bind, free_bind)
        listening.listen(BACKLOG)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise _listen_error(listener, bind, os.strerror(error.errno) if error.errno else str(error)) from error
    return listening


def set_mode(listening: socket.socket, mode: Mode) -> None:
    """The options that depend on what the listener speaks."""
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1 if mode is Mode.HTTP else 0)


def _bind(listening: socket.socket, family: int, bind: Bind, free_bind: bool) -> None:
    try:
        listening.bind((bind.address, bind.port))
    except OSError as error:
        if not free_bind or error.errno != errno.EADDRNOTAVAIL:
            raise
        level, option = (
            (socket.IPPROTO_IPV6, IPV6_FREEBIND) if family == socket.AF_INET6 else (socket.IPPROTO_IP, IP_FREEBIND)
        )
        listening.setsockopt(level, option, 1)
        listening.bind((bind.address, bind.port))


def _end(listening: socket.socket) -> None:
    """Ends listening at once, also in the data plane, whose descriptor of the same socket lives a little longer.

    So the port is free for the next apply, and nobody waits in a queue that is never looked at again.
    """
    with contextlib.suppress(OSError):
        listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def _listen_error(listener: Listener, bind: Bind, reason: str) -> ListenError:
    return ListenError(f"listener {listener.id}: cannot listen on address {bind.address} port {bind.port}: {reason}")


class ListeningSockets:
    """The sockets of the configuration that serves, by address and port.

    An apply runs in three steps: `prepare` opens what is new (all or nothing), `commit` when the data plane has
    confirmed, `roll_back` when it has not.

    Args:
        free_bind: as for `open_listening_socket`.
        namespace: network namespace that they are opened in; None for this thread's own.
    """

    def __init__(self, *, free_bind: bool = False, namespace: Path | None = None) -> None:
        self._free_bind = free_bind
        self._namespace = namespace
        self._open: dict[Bind, socket.socket] = {}
        self._new: dict[Bind, socket.socket] = {}

    def __len__(self) -> int:
        return len(self._open)

    def prepare(self, load_balancer: LoadBalancer) -> int:
        """Opens what that configuration needs and is not open yet; returns how many that were.

        Raises:
            ListenError: one of them cannot be opened; nothing changed.
        """
        self.roll_back()
        wanted = {bind: listener for listener in load_balancer.listeners for bind in listener.binds}
        missing = [(listener, bind) for bind, listener in wanted.items() if bind not in self._open]
        if missing:
            try:
                call_inside(self._namespace, lambda: self._open_all(missing))
            except OSError as error:
                raise ListenError(f"network namespace {self._namespace}: {error.strerror or error}") from error
        return len(self._new)

    def _open_all(self, missing: Iterable[tuple[Listener, Bind]]) -> None:
        for listener, bind in missing:
            try:
                self._new[bind] = open_listening_socket(listener, bind, free_bind=self._free_bind)
            except ListenError:
                self.roll_back()
                raise

    def adopt(self, sockets: Mapping[Bind, socket.socket]) -> None:
        """Takes sockets over that another process has opened, as those of the configuration that serves."""
        self._open.update(sockets)

    def of(self, load_balancer: LoadBalancer) -> Iterator[tuple[tuple[str, Bind], int]]:
        """(listener id, bind) and the descriptor that serves it, for every bind of a prepared or committed configuration."""
        for listener in load_balancer.listeners:
            for bind in listener.binds:
                listening = self._new.get(bind) or self._open[bind]
                yield (listener.id, bind), listening.fileno()

    def commit(self, load_balancer: LoadBalancer) -> int:
        """Keeps what the configuration uses and closes the rest; returns how many were closed."""
        self._open.update(self._new)
        self._new.clear()
        modes = {bind: listener.mode for listener in load_balancer.listeners for bind in listener.binds}
        unused = [bind for bind in self._open if bind not in modes]
        for bind in unused:
            _end(self._open.pop(bind))
        for bind, mode in modes.items():
            with contextlib.suppress(OSError):  # only an optimisation; a socket that changed hands gets the right one
                set_mode(self._open[bind], mode)
        return len(unused)

    def roll_back(self) -> None:
        """Closes what `prepare` opened."""
        while self._new:
            self._new.popitem()[1].close()

    def refuse(self) -> None:
        """Makes the kernel refuse connections from now on, also while another process holds copies of the sockets.

        On Linux, shutting down a listening socket takes it out of the listening state (tcp(7), inet_shutdown).
        """
        for listening in self._open.values():
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        self.roll_back()
        while self._open:
            self._open.popitem()[1].close()
