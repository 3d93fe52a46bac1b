"""One HTTP/1.1 connection of the API, on aiohttp's protocol class.

What aiohttp would answer by itself in plain text or HTML (a request that is no HTTP, a head that is too long) becomes JSON here,
always 400. Nothing of it reaches a route.

Limits: request line 8 KiB, one header 8 KiB, 64 headers, HEAD_TIMEOUT_S for the whole head; LINGER_S for a client that goes on
sending after its answer.
"""

from __future__ import annotations

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

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


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
