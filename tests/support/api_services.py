"""Stand-ins for the parts that the API calls. For tests of shapes, errors and order only; contract tests have the real parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from amphorad.agent.sources import ListenerEntry
from amphorad.agent_api.services import Services
from amphorad.errors import NotFound

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

__all__ = ["FakeLoadBalancers", "FakePlugging", "FakeVrrp", "Recorder", "fake_services"]


@dataclass
class Recorder:
    """Every call that changes something, in order; `raises` ends the next call of that name with an error.

    `gate`: a call waits for it before it does anything, so a test can look at what happens meanwhile.
    """

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    raises: dict[str, Exception] = field(default_factory=dict)
    gate: asyncio.Event | None = None

    async def did(self, name: str, *arguments: Any) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if name in self.raises:
            raise self.raises[name]
        self.calls.append((name, *arguments))


@dataclass
class FakeLoadBalancers:
    recorder: Recorder
    texts: dict[str, bytes] = field(default_factory=dict)
    lvs_texts: dict[str, bytes] = field(default_factory=dict)
    running_count: int = 2
    lvs_count: int = 1

    async def upload(self, amphora_id: str, lb_id: str, body: bytes) -> None:
        await self.recorder.did("upload", amphora_id, lb_id, body)
        self.texts[lb_id] = body

    async def configuration(self, lb_id: str) -> bytes:
        self._known(lb_id)
        return self.texts[lb_id]

    async def start(self, object_id: str) -> str:
        self._known(object_id)
        await self.recorder.did("start", object_id)
        return f"Configuration file is valid\nhaproxy daemon for {object_id} started"

    async def stop(self, object_id: str) -> str:
        self._known(object_id)
        await self.recorder.did("stop", object_id)
        return f"Listener {object_id} stoped"

    async def reload(self, object_id: str) -> str:
        self._known(object_id)
        await self.recorder.did("reload", object_id)
        return f"Listener {object_id} reloaded"

    async def delete(self, object_id: str) -> None:
        await self.recorder.did("delete", object_id)
        self.texts.pop(object_id, None)

    async def upload_lvs(self, amphora_id: str, listener_id: str, body: bytes) -> None:
        await self.recorder.did("upload_lvs", amphora_id, listener_id, body)
        self.lvs_texts[listener_id] = body

    async def lvs_configuration(self, listener_id: str) -> bytes:
        if listener_id not in self.lvs_texts:
            raise NotFound("UDP Listener Not Found", f"No UDP listener with UUID: {listener_id}")
        return self.lvs_texts[listener_id]

    def entries(self) -> list[ListenerEntry]:
        return [ListenerEntry("ACTIVE", key, "HTTP") for key in self.texts] + [
            ListenerEntry("OFFLINE", key, "UDP") for key in self.lvs_texts
        ]

    def _known(self, object_id: str) -> None:
        if object_id not in self.texts and object_id not in self.lvs_texts:
            raise NotFound("Loadbalancer Not Found", f"No loadbalancer with UUID: {object_id}")


@dataclass
class FakePlugging:
    recorder: Recorder

    async def plug_vip(self, vip: str, body: Any) -> str:
        await self.recorder.did("plug_vip", vip, body)
        return f"VIPs plugged on interface eth1: {vip}"

    async def plug_network(self, body: Any) -> str:
        await self.recorder.did("plug_network", body)
        return "Plugged on interface eth2"

    async def interface_of(self, ip: str) -> str:
        if "interface_of" in self.recorder.raises:
            raise self.recorder.raises["interface_of"]
        return "eth1"

    async def set_rules(self, ip: str, rules: Sequence[Any]) -> None:
        await self.recorder.did("set_rules", ip, list(rules))

    async def traffic(self) -> dict[str, tuple[int, int]]:
        return {"eth1": (10, 20), "eth2": (30, 40)}


@dataclass
class FakeVrrp:
    recorder: Recorder

    async def upload(self, body: bytes) -> None:
        await self.recorder.did("vrrp_upload", body)

    async def start(self) -> str:
        await self.recorder.did("vrrp_start")
        return "keepalived started"

    async def stop(self) -> str:
        await self.recorder.did("vrrp_stop")
        return "keepalived stoped"

    async def reload(self) -> str:
        await self.recorder.did("vrrp_reload")
        return "keepalived reloaded"


def fake_services(recorder: Recorder) -> Services:
    async def reread() -> None:
        await recorder.did("reread_settings")

    return Services(
        load_balancers=FakeLoadBalancers(recorder),
        plugging=FakePlugging(recorder),
        vrrp=FakeVrrp(recorder),
        reread_settings=reread,
    )
