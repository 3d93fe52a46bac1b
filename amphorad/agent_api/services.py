"""What the routes call, as protocols; the parts of the agent fulfil them and are passed in.

What they raise on purpose is in `amphorad.errors`, `amphorad.admin` and `amphorad.network`; `failures` has the answers. Anything
else that they raise is a bug and is answered with 500.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from amphorad.network.bodies import NetworkPlug, Rule, VipPlug

__all__ = [
    "ApiSettings",
    "ListenerEntry",
    "LoadBalancers",
    "Plugging",
    "Services",
    "Vrrp",
]


class ListenerEntry(Protocol):
    """One element of `GET /1.0/listeners`."""

    @property
    def status(self) -> str: ...
    @property
    def uuid(self) -> str: ...
    @property
    def type(self) -> str: ...


class LoadBalancers(Protocol):
    """Load balancers with their TCP-family listeners by load balancer id, UDP and SCTP listeners by listener id.

    `object_id` is either. Texts that are returned are the `details` of the answers. Raises: NotFound, OperationFailed, and for
    uploads Refused or ConfigError.
    """

    async def upload(self, amphora_id: str, lb_id: str, body: bytes) -> None: ...
    async def configuration(self, lb_id: str) -> bytes: ...
    async def start(self, object_id: str) -> str: ...
    async def stop(self, object_id: str) -> str: ...
    async def reload(self, object_id: str) -> str: ...
    async def delete(self, object_id: str) -> None: ...
    async def upload_lvs(self, amphora_id: str, listener_id: str, body: bytes) -> None: ...
    async def lvs_configuration(self, listener_id: str) -> bytes: ...
    def entries(self) -> Sequence[ListenerEntry]: ...
    @property
    def running_count(self) -> int: ...
    @property
    def lvs_count(self) -> int: ...


class Plugging(Protocol):
    """Interfaces in the namespace. Errors: see `amphorad.network`."""

    async def plug_vip(self, vip: str, body: VipPlug) -> str: ...
    async def plug_network(self, body: NetworkPlug) -> str: ...
    async def interface_of(self, ip: str) -> str: ...
    async def set_rules(self, ip: str, rules: Sequence[Rule]) -> None: ...
    async def traffic(self) -> Mapping[str, tuple[int, int]]: ...


class Vrrp(Protocol):
    """Keepalived. Raises: OperationFailed, and for an upload ConfigError."""

    async def upload(self, body: bytes) -> None: ...
    async def start(self) -> str: ...
    async def stop(self) -> str: ...
    async def reload(self) -> str: ...


class ApiSettings(Protocol):
    """The part of the agent's settings that the API reads."""

    @property
    def files(self) -> tuple[Path, ...]: ...
    @property
    def base_cert_dir(self) -> Path: ...
    @property
    def bind_host(self) -> str: ...
    @property
    def bind_port(self) -> int: ...
    @property
    def server_ca(self) -> Path: ...
    @property
    def server_cert(self) -> Path: ...
    @property
    def request_read_timeout(self) -> float: ...
    @property
    def keepalived_command(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that the routes call.

    Args:
        reread_settings: called after the agent's configuration file has been replaced by one that can be read; what changed and
            may change takes effect.
    """

    load_balancers: LoadBalancers
    plugging: Plugging
    vrrp: Vrrp
    reread_settings: Callable[[], Awaitable[None]]
