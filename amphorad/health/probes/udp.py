"""The UDP-CONNECT check: a connected UDP socket on which nothing comes back that says no (Octavia contract section 5.4).

Silence passes, as with the stock netcat: UDP has no other sign of life. What fails is an ICMP error (port, host or network
unreachable), or no route from here. Two datagrams of one byte go out, because one may be lost; any answer passes at once.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Final

from amphorad.health.probes.poller import FAILED
from amphorad.health.probes.stream import LOCAL_ERRORS
from amphorad.health.verdict import CheckStatus, Finding

if TYPE_CHECKING:
    from amphorad.health.probes.poller import Poller
    from amphorad.health.probes.prober import Attempt, Owner
    from amphorad.health.target import Target

__all__ = ["UdpProber"]

_PASSED: Final = Finding(CheckStatus.L4OK)
_PAYLOAD: Final = b"X"  # what netcat sends
_TYPE: Final = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


class UdpProber:
    """Makes UDP-CONNECT attempts, each with a socket of its own: the kernel tells a connected one of ICMP errors (udp(7))."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller

    def begin(self, target: Target, owner: Owner) -> Attempt | Finding:
        try:
            connection = socket.socket(socket.AF_INET6 if ":" in target.address else socket.AF_INET, _TYPE)
        except OSError as error:
            return _failure(error.errno or 0)
        try:
            connection.connect((target.address, target.port))
            for _datagram in range(2):
                connection.send(_PAYLOAD)
        except OSError as error:
            connection.close()
            return _failure(error.errno or 0)
        return _UdpAttempt(self._poller, connection, owner)

    def forget(self) -> None:
        """Nothing is read from files."""

    def close(self) -> None:
        """Every attempt has a socket of its own."""


class _UdpAttempt:
    __slots__ = ("_connection", "_owner", "_poller")

    def __init__(self, poller: Poller, connection: socket.socket, owner: Owner) -> None:
        self._poller = poller
        self._connection = connection
        self._owner = owner
        poller.add(connection.fileno(), self.on_event)

    def on_event(self, mask: int) -> None:
        finding = self._look(mask)
        if finding is not None:
            self.close()
            self._owner.finish(finding)

    def _look(self, mask: int) -> Finding | None:
        if mask & FAILED:
            number = self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                return _failure(number)
        try:
            self._connection.recv(1)
        except BlockingIOError:
            return None  # it can be written to, which it always can
        except OSError as error:
            return _failure(error.errno or 0)
        return _PASSED

    def time_out(self) -> Finding:
        self.close()
        return _PASSED

    def close(self) -> None:
        self._poller.forget(self._connection.fileno())
        self._connection.close()


def _failure(number: int) -> Finding:
    is_local = number in LOCAL_ERRORS or number == errno.EPERM
    return Finding(CheckStatus.LOCAL if is_local else CheckStatus.L4CON, None, os.strerror(number))
