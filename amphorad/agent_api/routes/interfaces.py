"""Routes 5, 6, 16 and 17: which interface has an address, firewall rules, plugging of VIPs and member networks.

`GET interface` is more than a question: the controller finds the MASTER of a pair by it, and builds the VRRP configuration with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amphorad.agent_api.answers import Answer, Refusal, message, ok
from amphorad.agent_api.request_body import JSON_LIMIT, decode_json
from amphorad.agent_api.routing import Call, Route
from amphorad.network.bodies import NetworkPlug, Rule, VipPlug
from amphorad.network.errors import InvalidAddress

if TYPE_CHECKING:
    from amphorad.agent_api.services import Plugging

__all__ = ["routes"]


def routes(plugging: Plugging) -> list[Route]:
    """Routes 5, 6, 16 and 17."""
    area = _Interfaces(plugging)
    return [
        Route("GET", "/1.0/interface/{ip}", area.interface),
        Route("PUT", "/1.0/interface/{ip}/rules", area.set_rules, limit_bytes=JSON_LIMIT, mutates=True),
        Route("POST", "/1.0/plug/vip/{vip}", area.plug_vip, limit_bytes=JSON_LIMIT, mutates=True),
        Route("POST", "/1.0/plug/network", area.plug_network, limit_bytes=JSON_LIMIT, mutates=True),
    ]


class _Interfaces:
    def __init__(self, plugging: Plugging) -> None:
        self._plugging = plugging

    async def interface(self, call: Call) -> Answer:
        """Route 5."""
        return Answer.json({"message": "OK", "interface": await self._interface_of(call["ip"])})

    async def set_rules(self, call: Call) -> Answer:
        """Route 6: the interface is looked up before the rules are."""
        await self._interface_of(call["ip"])
        rules = decode_json(call.body, list[Rule], "Invalid rules information")
        await self._plugging.set_rules(call["ip"], rules)
        return ok()

    async def plug_vip(self, call: Call) -> Answer:
        """Route 16."""
        body = decode_json(call.body, VipPlug, "Invalid subnet information")
        return ok(status=202, details=await self._plugging.plug_vip(call["vip"], body))

    async def plug_network(self, call: Call) -> Answer:
        """Route 17."""
        body = decode_json(call.body, NetworkPlug, "Invalid port information")
        return ok(status=202, details=await self._plugging.plug_network(body))

    async def _interface_of(self, ip: str) -> str:
        try:
            return await self._plugging.interface_of(ip)
        except InvalidAddress:
            raise Refusal(message("Invalid IP address", status=400)) from None
