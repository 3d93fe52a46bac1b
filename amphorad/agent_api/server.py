"""The HTTPS server: listening sockets, accepting, TLS handshakes, and the life of everything in this package.

Connections are accepted here rather than by the event loop, so that each gets the TLS context of its moment, a handshake has its
own limit, and strangers (who cannot end a handshake) never take the place of a controller: when all places for handshakes are taken, the
oldest one is dropped.

Limits: MAX_CONNECTIONS that have shown a certificate, MAX_HANDSHAKES, HANDSHAKE_TIMEOUT_S; one more connection is closed at once,
and the controller tries again after 5 s. A client that does not read its answer is let go after SHUTDOWN_TIMEOUT_S.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from typing import TYPE_CHECKING

from amphorad.agent_api.connection import ConnectionFactory
from amphorad.agent_api.dispatcher import Dispatcher
from amphorad.agent_api.mutations import Mutations
from amphorad.agent_api.programs import Versions
from amphorad.agent_api.routes import all_routes
from amphorad.agent_api.routing import Router
from amphorad.agent_api.tls import TlsFiles
from amphorad.errors import ListenError

if TYPE_CHECKING:
    from amphorad.agent_api.services import ApiSettings, Services

__all__ = ["AgentServer"]

MAX_CONNECTIONS = 64
MAX_HANDSHAKES = 64
HANDSHAKE_TIMEOUT_S = 10.0
SHUTDOWN_TIMEOUT_S = 10.0  # for the rest of an answer and the end of TLS
BACKLOG = 128
ACCEPTED_AT_ONCE = 16
CLOSE_TIMEOUT_S = 10.0  # for the operation that is running when the server ends
LAST_ANSWERS_S = 1.0  # and for the clients after that
PAUSE_WITHOUT_DESCRIPTORS_S = 0.5

_log = logging.getLogger(__name__)


class AgentServer:
    """Serves the API from `start` to `close`.

    Args:
        settings: read once; address and file names take effect at the start only.
        services: what the routes call.
    """

    def __init__(self, settings: ApiSettings, services: Services) -> None:
        self._settings = settings
        self._tls = TlsFiles(settings.server_cert, settings.server_ca)
        self._versions = Versions(settings.keepalived_command)
        self._mutations = Mutations()
        self._router = Router(all_routes(settings, services, self._versions))
        self._connections: ConnectionFactory | None = None
        self._socket: socket.socket | None = None
        self._resting: asyncio.TimerHandle | None = None
        self._handshakes: dict[asyncio.Task[None], None] = {}  # in the order in which they began

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        assert self._socket is not None, "not started"
        host, port = self._socket.getsockname()[:2]
        return host, port

    async def start(self) -> None:
        """Listens. Without usable certificate files it listens too, and closes every connection until they are there.

        Raises:
            ListenError: the address and port cannot be bound.
        """
        await self._versions.keepalived()  # the first call of `info` need not wait for a program
        self._tls.context()  # tells the log about files that cannot be used
        dispatcher = Dispatcher(self._router, self._mutations, self._settings.request_read_timeout)
        self._connections = ConnectionFactory(dispatcher)
        self._socket = _listening_socket(self._settings.bind_host, self._settings.bind_port)
        asyncio.get_running_loop().add_reader(self._socket, self._accept)
        _log.info("agent API listening address=%s port=%d", *self.address)

    async def close(self) -> None:
        """Accepts nothing any more, lets the operation end that is running, refuses those that wait, closes all connections."""
        if self._socket is None:
            return
        self._rest()
        handshakes = [*self._handshakes]
        for task in handshakes:
            task.cancel()
        await asyncio.gather(*handshakes, return_exceptions=True)
        self._socket.close()
        await self._mutations.close(CLOSE_TIMEOUT_S)
        if self._connections is not None:
            await self._connections.end(LAST_ANSWERS_S)

    def _accept(self) -> None:
        """Takes the connections that wait, a few at a time."""
        assert self._socket is not None
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, _address = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    _log.error("connection not accepted error=%s", error)
                    self._rest(PAUSE_WITHOUT_DESCRIPTORS_S)
                    return
                continue  # anything else concerns that one connection; accept(2)
            connection.setblocking(False)
            self._begin(connection)

    def _rest(self, pause_s: float | None = None) -> None:
        """Accepts nothing for a while, or for ever."""
        loop = asyncio.get_running_loop()
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if self._socket is not None and self._socket.fileno() >= 0:
            loop.remove_reader(self._socket)
            if pause_s is not None:
                self._resting = loop.call_later(pause_s, loop.add_reader, self._socket, self._accept)

    def _begin(self, connection: socket.socket) -> None:
        assert self._connections is not None
        if self._connections.open_count >= MAX_CONNECTIONS:
            _log.warning("connection refused, too many are open limit=%d", MAX_CONNECTIONS)
            connection.close()
            return
        context = self._tls.context()
        if context is None:
            connection.close()
            return
        going_on = [task for task in self._handshakes if not task.cancelling()]
        if len(going_on) >= MAX_HANDSHAKES:
            going_on[0].cancel()
        task = asyncio.create_task(self._handshake(connection, context), name="agent-api-handshake")
        self._handshakes[task] = None
        task.add_done_callback(lambda done: self._handshake_over(done, connection))

    def _handshake_over(self, task: asyncio.Task[None], connection: socket.socket) -> None:
        del self._handshakes[task]
        if task.cancelled():
            connection.close()

    async def _handshake(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        """Makes the handshake; from then on the connection lives by itself."""
        assert self._connections is not None
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                self._connections,
                connection,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
            )
        except (OSError, ssl.SSLError) as error:
            _log.info("TLS handshake failed error=%s", error)
            connection.close()


def _listening_socket(host: str, port: int) -> socket.socket:
    """Listens on an address; `::` takes IPv4 too, because the management network may have either (Octavia contract section 1.1)."""
    try:
        return _bound(host, port)
    except OSError as error:
        if host == "::" and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            _log.warning("no IPv6 on this machine, the agent API listens on IPv4 alone")
            return _listening_socket("0.0.0.0", port)
        raise ListenError(f"the agent API cannot listen on {host} port {port}: {error.strerror or error}") from None


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening
