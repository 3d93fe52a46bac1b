"""Routes 20 and 21: the VRRP configuration and the life of keepalived."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amphorad.agent_api.answers import Answer, etag_of, ok
from amphorad.agent_api.request_body import VRRP_LIMIT
from amphorad.agent_api.routes.actions import action_of
from amphorad.agent_api.routing import Call, Route

if TYPE_CHECKING:
    from amphorad.agent_api.services import Vrrp

__all__ = ["routes"]


def routes(vrrp: Vrrp) -> list[Route]:
    """Routes 20 and 21."""
    area = _Vrrp(vrrp)
    return [
        Route("PUT", "/1.0/vrrp/upload", area.upload, limit_bytes=VRRP_LIMIT, mutates=True),
        Route("PUT", "/1.0/vrrp/{action}", area.act, mutates=True),
    ]


class _Vrrp:
    def __init__(self, vrrp: Vrrp) -> None:
        self._vrrp = vrrp

    async def upload(self, call: Call) -> Answer:
        """Route 20: 200, not 202. Nothing is started."""
        await self._vrrp.upload(call.body)
        return ok(etag=etag_of(call.body))

    async def act(self, call: Call) -> Answer:
        """Route 21; `details` tells what was done, which for a start of a running one is a reload."""
        actions = {"start": self._vrrp.start, "stop": self._vrrp.stop, "reload": self._vrrp.reload}
        return ok(status=202, details=await actions[action_of(call["action"])]())
