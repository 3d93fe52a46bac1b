"""Routes 1 to 3: version discovery, `info`, `details`."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from amphorad.agent_api import machine
from amphorad.agent_api.answers import Answer
from amphorad.agent_api.programs import HAPROXY_VERSION, IPVSADM_VERSION
from amphorad.agent_api.routing import Call, Route

if TYPE_CHECKING:
    from amphorad.agent_api.programs import Versions
    from amphorad.agent_api.services import LoadBalancers, Plugging

__all__ = ["API_VERSION", "routes"]

API_VERSION = "1.0"  # a key of a table in the controller; no other text will do


def routes(load_balancers: LoadBalancers, plugging: Plugging, versions: Versions) -> list[Route]:
    """Routes 1 to 3."""
    area = _Discovery(load_balancers, plugging, versions)
    return [
        Route("GET", "/", area.version),
        Route("GET", "/1.0/info", area.info),
        Route("GET", "/1.0/details", area.details),
    ]


class _Discovery:
    def __init__(self, load_balancers: LoadBalancers, plugging: Plugging, versions: Versions) -> None:
        self._load_balancers = load_balancers
        self._plugging = plugging
        self._versions = versions

    async def version(self, _call: Call) -> Answer:
        return Answer.json({"api_version": API_VERSION})

    async def info(self, _call: Call) -> Answer:
        return Answer.json(await self._info())

    async def details(self, _call: Call) -> Answer:
        """Asked once before each upload of a configuration; constants are those of the stock agent."""
        body = await self._info()
        body |= {
            "networks": {
                name: {"network_tx": sent, "network_rx": received}
                for name, (sent, received) in (await self._plugging.traffic()).items()
            },
            "active": True,
            "haproxy_count": self._load_balancers.running_count,
            "cpu_count": os.cpu_count(),
            "cpu": machine.cpu_figures(),
            "memory": machine.memory_figures(),
            "disk": machine.disk_figures(),
            "load": machine.load_figures(),
            "active_tuned_profiles": machine.tuned_profiles(),
            "topology": "SINGLE",
            "topology_status": "OK",
            "listeners": sorted({entry.uuid for entry in self._load_balancers.entries()}),
            "packages": {},
            "lvs_listener_process_count": self._load_balancers.lvs_count,
        }
        return Answer.json(body)

    async def _info(self) -> dict[str, Any]:
        return {
            "hostname": socket.gethostname(),
            "haproxy_version": HAPROXY_VERSION,
            "api_version": API_VERSION,
            "keepalived_version": await self._versions.keepalived(),
            "ipvsadm_version": IPVSADM_VERSION,
        }
