"""The SCTP check: an association with the kernel's own SCTP (sctp(7)), aborted as soon as it stands.

The stock checker sends an INIT from a raw socket and takes INIT-ACK for life; an association asks for more, the whole handshake, and
needs no privilege. A kernel without SCTP (module sctp) cannot make such checks: that says nothing about members.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Final

from amphorad.health.probes.stream import LOCAL_ERRORS, begin_stream
from amphorad.health.probes.tcp import TcpConversation
from amphorad.health.verdict import CheckStatus, Finding

if TYPE_CHECKING:
    from amphorad.health.probes.poller import Poller
    from amphorad.health.probes.prober import Attempt, Owner
    from amphorad.health.target import Target

__all__ = ["SctpProber"]

_ABSENT: Final = frozenset({errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT})
_TYPE: Final = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_PROTOCOL: Final = 132  # IPPROTO_SCTP


class SctpProber:
    """Makes SCTP attempts: as of TCP, over another protocol."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller

    def begin(self, target: Target, owner: Owner) -> Attempt | Finding:
        family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
        try:
            connection = socket.socket(family, _TYPE, _PROTOCOL)
        except OSError as error:
            number = error.errno or 0
            if number in _ABSENT:
                return Finding(CheckStatus.LOCAL, None, "this kernel has no SCTP (modprobe sctp)")
            is_local = number in LOCAL_ERRORS
            return Finding(CheckStatus.LOCAL if is_local else CheckStatus.SOCKERR, None, os.strerror(number))
        return begin_stream(self._poller, connection, TcpConversation(), owner, target)

    def forget(self) -> None:
        """Nothing is read from files."""

    def close(self) -> None:
        """Every attempt has a socket of its own."""
