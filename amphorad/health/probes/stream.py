"""The driver of checks over TCP: connects, carries one conversation, gives the socket back.

The socket is closed with a reset as soon as the verdict stands, as HAProxy does: no connection of a check stays in
TIME_WAIT, where thousands would hold ports.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Final

from amphorad.health.probes.http import HttpConversation, status_matcher
from amphorad.health.probes.http2 import Http2Conversation, request_frames
from amphorad.health.probes.poller import FAILED, READABLE
from amphorad.health.probes.send_proxy import proxy_header
from amphorad.health.probes.tcp import TcpConversation
from amphorad.health.probes.tls_hello import RECEIVED_LIMIT, TlsConversation, make_context
from amphorad.health.verdict import CheckStatus, Finding

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

    from amphorad.health.probes.conversation import Conversation
    from amphorad.health.probes.poller import Poller
    from amphorad.health.probes.prober import Attempt, Owner
    from amphorad.health.target import CheckTls, HttpCheck, Target

__all__ = ["LOCAL_ERRORS", "StreamProber", "begin_stream", "error_text"]

LOCAL_ERRORS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN}
)
"""What `socket` and `connect` say when this machine has run out of something (connect(2); EAGAIN: no free port)."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_READ_BYTES: Final = 16384
_ENDING: Final = READABLE & ~select.EPOLLIN
_PROTOCOLS: Final = {False: socket.AF_INET, True: socket.AF_INET6}
_TYPE: Final = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


def error_text(number: int) -> str:
    """The system's word for an error, as HAProxy's logs have it."""
    return os.strerror(number)


class StreamProber:
    """TCP, HTTP, HTTPS and TLS-HELLO checks, with or without a PROXY header.

    Args:
        files: content of files that TLS options name, by path; the owner changes it and then calls `forget`.
    """

    def __init__(self, poller: Poller, files: Mapping[str, bytes] | None = None) -> None:
        self._files = files if files is not None else {}
        self._poller = poller
        self._contexts: dict[CheckTls, ssl.SSLContext] = {}
        self._requests: dict[int, tuple[HttpCheck, bytes, re.Pattern[str]]] = {}  # which keep what their id stands for

    def begin(self, target: Target, owner: Owner) -> Attempt | Finding:
        try:
            conversation = self._conversation(target)
        except (OSError, ssl.SSLError, ValueError) as error:
            return Finding(CheckStatus.LOCAL, None, f"TLS: {error}")
        try:
            connection = socket.socket(_PROTOCOLS[":" in target.address], _TYPE)
        except OSError as error:
            return Finding(CheckStatus.LOCAL, None, error_text(error.errno or 0))
        return begin_stream(self._poller, connection, conversation, owner, target)

    def forget(self) -> None:
        self._contexts.clear()
        self._requests.clear()

    def close(self) -> None:
        self.forget()

    def _conversation(self, target: Target) -> Conversation:
        http, tls = target.http, target.tls
        if tls is None:
            return TcpConversation() if http is None else self._http(http)
        context = self._contexts.get(tls)
        if context is None:
            context = self._contexts[tls] = make_context(tls, self._files)
        if http is None:
            return TlsConversation(context, None)

        def choose(protocol: str | None) -> Conversation:
            if protocol == "h2":
                authority = f"[{target.address}]" if ":" in target.address else target.address
                return Http2Conversation(request_frames(http, authority), status_matcher(http.expected))
            return self._http(http)

        return TlsConversation(context, choose)

    def _http(self, http: HttpCheck) -> HttpConversation:
        """By identity, because comparing and hashing all the fields costs as much as the check's own work."""
        known = self._requests.get(id(http))
        if known is None:
            known = self._requests[id(http)] = (http, http.request, status_matcher(http.expected))
        return HttpConversation(known[1], known[2])


def begin_stream(
    poller: Poller, connection: socket.socket, conversation: Conversation, owner: Owner, target: Target
) -> Attempt | Finding:
    """Connects a stream socket, which belongs to the attempt from now on, and carries the conversation on it."""
    try:
        number = connection.connect_ex((target.address, target.port))
    except (OSError, ValueError) as error:
        # ValueError: not an address of this family; a name would be looked up, and none comes here
        connection.close()
        return Finding(CheckStatus.L4CON, None, str(error))
    if number not in (0, errno.EINPROGRESS):
        connection.close()
        return _connect_failure(number)
    return _StreamAttempt(poller, connection, conversation, owner, target)


class _StreamAttempt:
    """CONNECTING -> TALKING -> closed. The socket is closed before the owner hears of the end."""

    __slots__ = (
        "_connected", "_connection", "_conversation", "_established", "_owner", "_poller", "_received", "_target",
        "_unsent",
    )  # fmt: skip

    def __init__(
        self, poller: Poller, connection: socket.socket, conversation: Conversation, owner: Owner, target: Target
    ) -> None:
        self._poller = poller
        self._connection = connection
        self._conversation = conversation
        self._owner = owner
        self._target = target
        self._connected = False
        self._established = False
        self._received = 0
        self._unsent = b""
        poller.add(connection.fileno(), self.on_event)

    def on_event(self, mask: int) -> None:
        finding = self._carry_on(mask)
        if finding is not None:
            self.close()
            self._owner.finish(finding)

    def time_out(self) -> Finding:
        connected = self._connected
        self.close()
        return self._conversation.timed_out() if connected else Finding(CheckStatus.L4TOUT)

    def close(self) -> None:
        connection = self._connection
        self._poller.forget(connection.fileno())
        if self._connected:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        connection.close()

    def _carry_on(self, mask: int) -> Finding | None:
        finding = None
        try:
            if not self._connected:
                finding = self._on_connected(mask)
            if self._connected:
                self._send()
            if finding is None and mask & READABLE:
                finding = self._receive(mask)
        except OSError as error:
            return self._conversation.broken(error_text(error.errno or 0))
        if finding is None and not self._established and self._conversation.is_established:
            self._established = True
            self._owner.established()
        return finding

    def _on_connected(self, mask: int) -> Finding | None:
        number = self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if mask & FAILED else 0
        if number and number != errno.ECONNRESET:
            return _connect_failure(number)
        self._connected = True
        if number:  # refused would be another error: the connection stood, and was reset before we looked
            finding = self._conversation.connected()
            return self._conversation.broken(error_text(number)) if finding is None else finding
        version = self._target.proxy_protocol
        if version is not None:
            own, member = self._connection.getsockname(), self._connection.getpeername()
            self._unsent = proxy_header(version, own[:2], member[:2])
        return self._conversation.connected()

    def _send(self) -> None:
        """Sends what waits, also after a conversation that is over with its first step (a PROXY header before TCP)."""
        conversation = self._conversation
        if conversation.outgoing:
            self._unsent += conversation.outgoing
            conversation.outgoing = b""
        if self._unsent:
            try:
                self._unsent = self._unsent[self._connection.send(self._unsent, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                pass  # the poller tells when there is room again

    def _receive(self, mask: int) -> Finding | None:
        """Reads all there is: the poller tells of it once."""
        conversation = self._conversation
        while True:
            try:
                data = self._connection.recv(_READ_BYTES)
            except BlockingIOError:
                return None
            if not data:
                return conversation.ended()
            self._received += len(data)
            if self._received > RECEIVED_LIMIT:
                return Finding(CheckStatus.L7RSP, None, "too many bytes")
            finding = conversation.received(data)
            self._send()
            if finding is not None:
                return finding
            if len(data) < _READ_BYTES and not mask & _ENDING:
                return None  # nothing more has come, and no end either


def _connect_failure(number: int) -> Finding:
    status = CheckStatus.LOCAL if number in LOCAL_ERRORS else CheckStatus.L4CON
    return Finding(status, None, error_text(number))
