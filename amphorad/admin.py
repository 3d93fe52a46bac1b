"""The admin socket: how the command line talks to a running load balancer.

A unix stream socket of mode 0600, so only the same user and root get in. One JSON object per line in each direction; a
client may send any number of requests, one after the other. Requests carry `version`; an answer is either
`{"version": 1, "result": {...}}` or `{"version": 1, "error": {"code": ..., "messages": [...]}}`.

Limits: REQUEST_LIMIT bytes per request (a configuration is one), MAX_CLIENTS at a time, IDLE_S seconds between requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING, Protocol

import msgspec

from amphorad.agent.status import AgentStatus
from amphorad.errors import AmphoradError, ConfigError, ListenError
from amphorad.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = [
    "VERSION",
    "AdminError",
    "AdminServer",
    "Apply",
    "ApplyReceipt",
    "Client",
    "GetStatus",
    "Handler",
    "NotRunning",
    "Refused",
]

VERSION = 1
REQUEST_LIMIT = 64 * 1024 * 1024
ANSWER_LIMIT = 256 * 1024 * 1024
MAX_CLIENTS = 32
IDLE_S = 60.0


class GetStatus(msgspec.Struct, frozen=True, tag="status", tag_field="command"):
    version: int = VERSION


class Apply(msgspec.Struct, frozen=True, tag="apply", tag_field="command"):
    """Serve this text from now on; `file` is its name in messages."""

    text: str
    file: str
    version: int = VERSION


class ApplyReceipt(msgspec.Struct, frozen=True):
    """What an apply did. `elapsed_s` is from the request to its effect; `changes` is one line per step of the plan."""

    generation: int
    changed: bool
    summary: str
    changes: tuple[str, ...]
    sockets_opened: int
    sockets_closed: int
    sockets_kept: int
    elapsed_s: float
    draining: int


class Failure(msgspec.Struct, frozen=True):
    """`code`: config (refused), listen (an address is taken), internal, request (not understood)."""

    code: str
    messages: tuple[str, ...]


class Answer(msgspec.Struct, frozen=True):
    version: int = VERSION
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: Failure | None = None


class AdminError(AmphoradError):
    """The running load balancer could not do what was asked."""

    def __init__(self, failure: Failure) -> None:
        self.code = failure.code
        self.messages = failure.messages
        super().__init__("; ".join(failure.messages))


class NotRunning(AmphoradError):
    """Nothing answers on the admin socket."""


class Refused(AmphoradError):
    """A configuration has several errors, all of them worth showing."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(map(str, errors)))


class Handler(Protocol):
    """What the admin socket needs from a supervisor, or from an agent."""

    def status_builder(self) -> Callable[[], Status | AgentStatus]:
        """Called in the loop; what it returns is called in another thread, and raises ValueError when the board is gone."""

    async def apply_text(self, text: str, file: str) -> ApplyReceipt: ...


_requests: msgspec.json.Decoder[GetStatus | Apply] = msgspec.json.Decoder(GetStatus | Apply)


class AdminServer:
    """Serves one admin socket. `start` binds it, `stop` ends it and removes the file."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path = path
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Takes the path over from a dead predecessor.

        Raises:
            OSError: the path cannot be bound; EADDRINUSE when a living process answers there.
        """
        listening = _bind(self._path)
        self._server = await asyncio.start_unix_server(self._on_client, sock=listening, limit=REQUEST_LIMIT)

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if len(self._clients) <= MAX_CLIENTS:
                await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client is gone, too slow, or we are stopping
        finally:
            self._clients.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(IDLE_S):
                try:
                    line = await reader.readuntil()
                except asyncio.LimitOverrunError:
                    line = b""
            answer = await self._answer(line)
            async with asyncio.timeout(IDLE_S):
                writer.write(msgspec.json.encode(answer) + b"\n")
                await writer.drain()
            if not line:
                return  # the rest of an over-long request would be taken for the next one

    async def _answer(self, line: bytes) -> Answer:
        if not line:
            return _failure("request", f"a request is at most {REQUEST_LIMIT} bytes")
        try:
            request = _requests.decode(line)
            if request.version != VERSION:
                return _failure("request", f"version {request.version} is not supported, this is version {VERSION}")
            if isinstance(request, Apply):
                receipt = await self._handler.apply_text(request.text, request.file)
                result = msgspec.json.encode(receipt)
            else:
                result = await self._status()
        except msgspec.DecodeError as error:
            return _failure("request", str(error))
        except Refused as error:
            return _failure("config", *map(str, error.errors))
        except ConfigError as error:
            return _failure("config", str(error))
        except ListenError as error:
            return _failure("listen", str(error))
        except AmphoradError as error:
            return _failure("internal", str(error))
        return Answer(result=msgspec.Raw(result))

    async def _status(self) -> bytes:
        """Built beside the loop, which has heartbeats to send and health to watch meanwhile."""
        for _attempt in range(2):
            try:
                return await asyncio.to_thread(_encoded, self._handler.status_builder())
            except ValueError:  # the board was replaced under its hands
                continue
        raise AmphoradError("the data plane is being replaced; ask again")


def _encoded(build: Callable[[], Status | AgentStatus]) -> bytes:
    return msgspec.json.encode(build())


def _failure(code: str, *messages: str) -> Answer:
    return Answer(error=Failure(code, messages))


def _bind(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    old_mask = os.umask(0o177)
    try:
        if path.is_socket() and not _answers(path):
            path.unlink()
        listening.bind(str(path))
        listening.listen(MAX_CLIENTS)
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(old_mask)
    return listening


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError as error:
            return error.errno not in (errno.ECONNREFUSED, errno.ENOENT)
    return True


class Client:
    """A blocking client of an admin socket, for the command line.

    Raises:
        NotRunning: nothing answers there, or it went away.
    """

    def __init__(self, path: Path, timeout_s: float = 60.0) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise NotRunning(f"no amphorad answers on {path}: {error.strerror or error}") from error
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def status(self) -> Status:
        """Of one load balancer.

        Raises:
            NotRunning: also when it is an agent that answers.
        """
        answer = self.any_status()
        if isinstance(answer, AgentStatus):
            raise NotRunning(f"an agent answers on {self._path}, not a load balancer")
        return answer

    def any_status(self) -> Status | AgentStatus:
        """Of one load balancer, or of an agent with all that it has."""
        return msgspec.json.decode(self._ask(GetStatus()), type=Status | AgentStatus)

    def apply(self, text: str, file: str) -> ApplyReceipt:
        """
        Raises:
            AdminError: refused; nothing changed.
        """
        return msgspec.json.decode(self._ask(Apply(text=text, file=file)), type=ApplyReceipt)

    def _ask(self, request: GetStatus | Apply) -> msgspec.Raw:
        try:
            self._socket.sendall(msgspec.json.encode(request) + b"\n")
            line = self._file.readline(ANSWER_LIMIT)
        except OSError as error:
            raise NotRunning(f"amphorad on {self._path} does not answer: {error.strerror or error}") from error
        if not line.endswith(b"\n"):
            raise NotRunning(f"amphorad on {self._path} closed the connection")
        answer = msgspec.json.decode(line, type=Answer)
        if answer.error is not None:
            raise AdminError(answer.error)
        return answer.result
