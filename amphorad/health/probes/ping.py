"""The PING check: one ICMP echo request and its reply, without a process of its own.

One socket per address family serves all members: a datagram ICMP socket (icmp(7), allowed by net.ipv4.ping_group_range
for both families), else a raw one (CAP_NET_RAW). A reply counts when it comes from the member and carries the sequence and
the random payload of the request. The results are those of the stock wrapper script: exit code 0 or 1.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import secrets
import socket
import struct
from typing import TYPE_CHECKING, Final

from amphorad.health.probes.echo import V4_REPLY, V4_REQUEST, V6_REPLY, V6_REQUEST, echo_request, parse_reply
from amphorad.health.probes.poller import READABLE
from amphorad.health.verdict import CheckStatus, Finding

if TYPE_CHECKING:
    from amphorad.health.probes.poller import Poller
    from amphorad.health.probes.prober import Attempt, Owner
    from amphorad.health.target import Target

__all__ = ["PingProber"]

_FLAGS: Final = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_PASSED: Final = Finding(CheckStatus.PROCOK, 0)
_NONCE_BYTES: Final = 16
_LOCAL_ERRORS: Final = frozenset({errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN})
# linux/icmp.h, linux/icmpv6.h: socket options that keep everything but replies away from a raw socket.
_ICMP_FILTER: Final = 1
_ICMP6_FILTER: Final = 1
_SOL_RAW: Final = 255


class PingProber:
    """Makes PING attempts. Sockets are opened when the first member of a family needs one."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._sockets: dict[bool, _EchoSocket] = {}

    def begin(self, target: Target, owner: Owner) -> Attempt | Finding:
        is_v6 = ":" in target.address
        try:
            echo = self._sockets.get(is_v6)
            if echo is None:
                echo = self._sockets[is_v6] = _EchoSocket(self._poller, is_v6)
        except OSError as error:
            return Finding(CheckStatus.LOCAL, None, f"no ICMP socket: {os.strerror(error.errno or 0)}")
        return echo.begin(target.address, owner)

    def forget(self) -> None:
        """Nothing is read from files."""

    def close(self) -> None:
        for echo in self._sockets.values():
            echo.close()
        self._sockets.clear()


class _Echo:
    """One request under way."""

    __slots__ = ("address", "nonce", "owner", "sequence", "socket")

    def __init__(self, echo_socket: _EchoSocket, address: bytes, sequence: int, owner: Owner) -> None:
        self.socket = echo_socket
        self.address = address
        self.sequence = sequence
        self.owner = owner
        self.nonce = secrets.token_bytes(_NONCE_BYTES)

    def time_out(self) -> Finding:
        self.close()
        return Finding(CheckStatus.PROCERR, 1, "no echo reply")

    def close(self) -> None:
        self.socket.waiting.pop(self.sequence, None)


class _EchoSocket:
    """The socket of one family, and who waits on it by sequence number."""

    def __init__(self, poller: Poller, is_v6: bool) -> None:
        self._is_v6 = is_v6
        self._poller = poller
        self._identifier = secrets.randbelow(0x10000)
        self._sequence = secrets.randbelow(0x10000)
        self.waiting: dict[int, _Echo] = {}
        self._socket, self._is_raw = _open_socket(is_v6)
        poller.add(self._socket.fileno(), self._on_event, READABLE)  # level-triggered: errors are taken one at a time

    def begin(self, address: str, owner: Owner) -> Attempt | Finding:
        if len(self.waiting) >= 0xFFFF:
            return Finding(CheckStatus.LOCAL, None, "too many echo requests")
        while self._sequence in self.waiting:
            self._sequence = (self._sequence + 1) & 0xFFFF
        echo = _Echo(self, ipaddress.ip_address(address).packed, self._sequence, owner)
        self._sequence = (self._sequence + 1) & 0xFFFF
        kind = V6_REQUEST if self._is_v6 else V4_REQUEST
        packet = echo_request(kind, self._identifier, echo.sequence, echo.nonce)
        try:
            self._socket.sendto(packet, (address, 0))
        except OSError as error:
            text = os.strerror(error.errno or 0)
            if error.errno in _LOCAL_ERRORS:
                return Finding(CheckStatus.LOCAL, None, text)
            return Finding(CheckStatus.PROCERR, 1, text)
        self.waiting[echo.sequence] = echo
        return echo

    def close(self) -> None:
        self._poller.forget(self._socket.fileno())
        self._socket.close()

    def _on_event(self, _mask: int) -> None:
        for _packet in range(64):  # the rest comes with the next event
            try:
                packet, source = self._socket.recvfrom(2048)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of another packet; its own timeout says so
            self._take(packet, source[0])

    def _take(self, packet: bytes, source: str) -> None:
        reply = parse_reply(
            packet, V6_REPLY if self._is_v6 else V4_REPLY, has_ip_header=self._is_raw and not self._is_v6
        )
        if reply is None:
            return
        identifier, sequence, payload = reply
        echo = self.waiting.get(sequence)
        if echo is None or payload != echo.nonce or (self._is_raw and identifier != self._identifier):
            return
        if ipaddress.ip_address(source.partition("%")[0]).packed != echo.address:
            return
        echo.close()
        echo.owner.finish(_PASSED)


def _open_socket(is_v6: bool) -> tuple[socket.socket, bool]:
    """A socket for echo requests, and whether it is a raw one.

    Raises:
        OSError: neither kind is allowed.
    """
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if is_v6 else socket.IPPROTO_ICMP
    with contextlib.suppress(PermissionError):
        return socket.socket(family, socket.SOCK_DGRAM | _FLAGS, protocol), False
    raw = socket.socket(family, socket.SOCK_RAW | _FLAGS, protocol)
    if is_v6:
        words = [0xFFFFFFFF] * 8  # a set bit blocks its type
        words[V6_REPLY // 32] &= ~(1 << V6_REPLY % 32)
        raw.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *words))
    else:
        raw.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF & ~(1 << V4_REPLY)))
    return raw, True
