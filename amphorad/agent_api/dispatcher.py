"""From a request to its answer: finds the route, reads the body, waits for the turn, calls, writes one line to the log.

Whatever a route raises becomes an answer: its own `Refusal`, an error of a service by `failures`, and anything else a 500 with a
short text; the trace of that one is in the log only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from amphorad.agent_api.answers import Answer, Refusal, frame_error
from amphorad.agent_api.connection import response_of
from amphorad.agent_api.failures import answer_of
from amphorad.agent_api.identifiers import printable
from amphorad.agent_api.request_body import read_body
from amphorad.agent_api.routing import Call

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest, StreamResponse

    from amphorad.agent_api.mutations import Mutations
    from amphorad.agent_api.routing import Router

__all__ = ["WRITE_TIMEOUT_S", "Dispatcher"]

WRITE_TIMEOUT_S = 30.0  # for a client that does not read its answer

_log = logging.getLogger(__name__)


class Dispatcher:
    """The one request handler of all connections.

    Args:
        router: all routes.
        mutations: where the mutating ones wait for their turn.
        read_timeout_s: for the body of a request.
    """

    def __init__(self, router: Router, mutations: Mutations, read_timeout_s: float) -> None:
        self._router = router
        self._mutations = mutations
        self._read_timeout_s = read_timeout_s

    async def __call__(self, request: BaseRequest) -> StreamResponse:
        """Answers a request, to its last byte."""
        began = time.perf_counter()  # the event loop's own clock counts whole milliseconds
        answer = await self._answer(request)
        took_s = time.perf_counter() - began
        _log.info(
            "call method=%s path=%s status=%d ms=%.1f bytes=%s remote=%s",
            printable(request.method, 20),
            printable(request.raw_path, 200),
            answer.status,
            took_s * 1000,
            request.content_length or 0,
            request.remote,
        )
        response = response_of(answer)
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await response.prepare(request)
                await response.write_eof()
        except (TimeoutError, ConnectionError):
            _log.info("answer not taken path=%s remote=%s", printable(request.raw_path, 200), request.remote)
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _answer(self, request: BaseRequest) -> Answer:
        try:
            return await self._called(request)
        except Refusal as refusal:
            return refusal.answer
        except Exception as error:
            answer = answer_of(error)
            if answer is not None:
                _log.warning(
                    "call failed path=%s error=%s", printable(request.raw_path, 200), printable(str(error), 1000)
                )
                return answer
            _log.exception("call failed unexpectedly path=%s", printable(request.raw_path, 200))
            return frame_error(500, "internal error, see the agent's log")

    async def _called(self, request: BaseRequest) -> Answer:
        match = self._router.match(request.method, request.raw_path)
        route = match.route
        body = b""
        if route.limit_bytes is not None:
            body = await read_body(request, route.limit_bytes, self._read_timeout_s)
        call = Call(match.parameters, body)
        if route.mutates:
            return await self._mutations.run(lambda: route.handler(call))
        return await route.handler(call)
