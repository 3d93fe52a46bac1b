"""One HTTP/1.1 connection of the API, on aiohttp's protocol class.

What aiohttp would answer by itself in plain text or HTML (a request that is no HTTP, a head that is too long) becomes JSON here,
always 400. Nothing of it reaches a route.

Limits: request line 8 KiB, one header 8 KiB, 64 headers, HEAD_TIMEOUT_S for the whole head; LINGER_S for a client that goes on
sending after its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from amphorad.agent_api.answers import Answer, frame_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["HEAD_TIMEOUT_S", "ConnectionFactory", "response_of"]

HEAD_TIMEOUT_S = 30.0
LINGER_S = 5.0
FAREWELL_S = 0.5  # for a client to answer the end of TLS when the server ends
MAX_LINE = 8190
MAX_HEADERS = 64

_log = logging.getLogger(__name__)


class Connection(RequestHandler):
    """aiohttp's protocol with our error bodies."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers what never became a request (400), or an error of our own outside of the routes (500)."""
        if status == 500:
            _log.error("connection failed remote=%s", request.remote, exc_info=exc)
            return response_of(frame_error(500, "internal error, see the agent's log"))
        _log.info("not a request remote=%s", request.remote)
        return response_of(frame_error(400, "this is no HTTP request that can be read"))


class ConnectionFactory(web.Server):
    """Makes a `Connection` for each accepted transport and knows those that are open."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(
            handler,
            logger=_log,
            access_log=None,
            keepalive_timeout=HEAD_TIMEOUT_S,  # of the first head: no connection carries a second one
            lingering_time=LINGER_S,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_HEADERS,
            auto_decompress=False,  # a few bytes could become gigabytes
        )

        self._open: dict[RequestHandler, asyncio.Transport] = {}
        self._changed = asyncio.Event()

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)

    @property
    def open_count(self) -> int:
        """Connections whose handshake is over and whose transport is not closed yet."""
        return len(self._open)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._open[handler] = transport

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._open.pop(handler, None)
        self._changed.set()

    async def end(self, timeout_s: float) -> None:
        """Lets calls end that have begun, closes all connections, and returns when the last transport is closed."""
        self.pre_shutdown()
        await self.shutdown(timeout_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await self._wait_none_open()
        for transport in [*self._open.values()]:
            transport.abort()
        await self._wait_none_open()

    async def _wait_none_open(self) -> None:
        while self._open:
            self._changed.clear()
            await self._changed.wait()


def response_of(answer: Answer) -> web.Response:
    """An answer as aiohttp sends it; the connection ends with it."""
    headers = {"Server": "amphorad"}
    if answer.etag is not None:
        headers["ETag"] = answer.etag
    if answer.allow is not None:
        headers["Allow"] = answer.allow
    response = web.Response(status=answer.status, body=answer.body, content_type=answer.content_type, headers=headers)
    response.force_close()
    return response
