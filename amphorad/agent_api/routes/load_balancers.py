"""Routes 4 and 7 to 12: listeners, configurations, start, stop, reload, delete.

Answers are those of the stock agent, also where they are odd: 202 for one upload and 200 for the other, an ETag on one
text and none on the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amphorad.agent_api.answers import TEXT, Answer, Refusal, etag_of, message, ok
from amphorad.agent_api.identifiers import is_id, printable
from amphorad.agent_api.request_body import CONFIGURATION_LIMIT
from amphorad.agent_api.routes.actions import action_of
from amphorad.agent_api.routing import Call, Route

if TYPE_CHECKING:
    from amphorad.agent_api.services import LoadBalancers

__all__ = ["routes"]


def routes(load_balancers: LoadBalancers) -> list[Route]:
    """Routes 4 and 7 to 12."""
    area = _LoadBalancers(load_balancers)
    text = "/1.0/loadbalancer/{lb_id}/haproxy"
    lvs_text = "/1.0/listeners/{listener_id}/udp_listener"
    upload, lvs_upload = (
        "/1.0/loadbalancer/{amphora_id}/{lb_id}/haproxy",
        "/1.0/listeners/{amphora_id}/{listener_id}/udp_listener",
    )
    return [
        Route("GET", "/1.0/listeners", area.entries),
        Route("PUT", upload, area.upload, limit_bytes=CONFIGURATION_LIMIT, mutates=True),
        Route("GET", text, area.configuration),
        Route("PUT", "/1.0/loadbalancer/{object_id}/{action}", area.act, mutates=True),
        Route("DELETE", "/1.0/listeners/{object_id}", area.delete, mutates=True),
        Route("PUT", lvs_upload, area.upload_lvs, limit_bytes=CONFIGURATION_LIMIT, mutates=True),
        Route("GET", lvs_text, area.lvs_configuration),
    ]


class _LoadBalancers:
    def __init__(self, load_balancers: LoadBalancers) -> None:
        self._load_balancers = load_balancers

    async def entries(self, _call: Call) -> Answer:
        """Route 4."""
        return Answer.json(
            [
                {"status": entry.status, "uuid": entry.uuid, "type": entry.type}
                for entry in self._load_balancers.entries()
            ]
        )

    async def upload(self, call: Call) -> Answer:
        """Route 7: stores a configuration that can be read; nothing changes for traffic until a reload."""
        _require_ids(call, "amphora_id", "lb_id")
        await self._load_balancers.upload(call["amphora_id"], call["lb_id"], call.body)
        return ok(status=202, etag=etag_of(call.body))

    async def configuration(self, call: Call) -> Answer:
        """Route 8: the text as it is stored."""
        lb_id = call["lb_id"]
        if not is_id(lb_id):
            raise _no_load_balancer(lb_id)
        text = await self._load_balancers.configuration(lb_id)
        return Answer(200, text, TEXT, etag=etag_of(text))

    async def act(self, call: Call) -> Answer:
        """Route 9: answers when the configuration is in force (start, reload) or nothing listens any more (stop)."""
        action = action_of(call["action"])
        object_id = call["object_id"]
        if not is_id(object_id):
            raise _no_load_balancer(object_id)
        actions = {
            "start": self._load_balancers.start,
            "stop": self._load_balancers.stop,
            "reload": self._load_balancers.reload,
        }
        return ok(status=202, details=await actions[action](object_id))

    async def delete(self, call: Call) -> Answer:
        """Route 10: what is not there has been deleted."""
        if is_id(call["object_id"]):
            await self._load_balancers.delete(call["object_id"])
        return ok()

    async def upload_lvs(self, call: Call) -> Answer:
        """Route 11."""
        _require_ids(call, "amphora_id", "listener_id")
        await self._load_balancers.upload_lvs(call["amphora_id"], call["listener_id"], call.body)
        return ok(etag=etag_of(call.body))

    async def lvs_configuration(self, call: Call) -> Answer:
        """Route 12."""
        listener_id = call["listener_id"]
        if not is_id(listener_id):
            raise _no_lvs_listener(listener_id)
        return Answer(200, await self._load_balancers.lvs_configuration(listener_id), TEXT)


def _require_ids(call: Call, *names: str) -> None:
    for name in names:
        if not is_id(call[name]):
            details = f"{name} is not a UUID in lower case: {printable(call[name])}"
            raise Refusal(message("Invalid request", status=400, details=details))


def _no_load_balancer(lb_id: str) -> Refusal:
    """For what cannot be an id at all; what could be one is looked up."""
    details = f"No loadbalancer with UUID: {printable(lb_id)}"
    return Refusal(message("Loadbalancer Not Found", status=404, details=details))


def _no_lvs_listener(listener_id: str) -> Refusal:
    details = f"No UDP listener with UUID: {printable(listener_id)}"
    return Refusal(message("UDP Listener Not Found", status=404, details=details))
