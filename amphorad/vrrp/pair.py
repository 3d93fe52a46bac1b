"""A pair of load balancers without a controller: a few lines of settings -> keepalived's configuration of both nodes.

    name = "web"                     # of the VRRP instance
    interface = "eth1"
    router_id = 51                   # 1 to 255, one of its own in the network segment
    vips = ["192.0.2.10/24", "2001:db8::10/64"]

    [[node]]
    name = "a"                       # of the file: keepalived-a.conf
    address = "192.0.2.11"           # on that interface

    [[node]]
    name = "b"
    address = "192.0.2.12"

Optional: advert_ms (100), state_dir (of `amphorad serve`, "/run/amphorad"), check_script ("/etc/keepalived/amphorad-check.sh"), and a node's
priority (100 for the first, 90 for the second).

VRRP version 3 with an advertisement every 100 ms: a silent node is replaced after 0.36 s. Ten times as often is possible and flaps on a busy
machine. A node that comes back does not take the VIPs back. Each node runs `amphorad serve --vrrp`, which tells keepalived through the
same two files as the agent whether it can serve.

Source: RFC 5798, keepalived.conf(5).
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from amphorad.errors import ConfigError
from amphorad.vrrp.paths import Paths

__all__ = ["Directive", "PairNode", "PairSettings", "configuration", "read_pair"]

Directive: TypeAlias = "tuple[str, str] | tuple[str, str, list[Directive]]"
"""Name and words of a line; a block has its lines as third."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")
_INTERFACE: Final = re.compile(r"[A-Za-z0-9._-]{1,15}\Z")
_PATH: Final = re.compile(r"/[A-Za-z0-9._/-]{1,200}\Z")
_PRIORITIES: Final = (100, 90)
_DEFAULTS: Final = {
    "advert_ms": 100,
    "state_dir": "/run/amphorad",
    "check_script": "/etc/keepalived/amphorad-check.sh",
}
_REQUIRED: Final = ("name", "interface", "router_id", "vips", "node")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairNode:
    """One of the two."""

    name: str
    address: str
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSettings:
    """See the module.

    Args:
        vips: addresses with their prefix length.
        advert_ms: 10..1000, whole tens: keepalived counts in hundredths of a second.
    """

    name: str
    interface: str
    router_id: int
    vips: tuple[str, ...]
    advert_ms: int
    state_dir: Path
    check_script: Path
    nodes: tuple[PairNode, PairNode]


def read_pair(text: str, *, file: str) -> PairSettings:
    """
    Raises:
        ConfigError: the first thing that is wrong.
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not TOML: {error}", file=file) from error
    values = _Values(found, file)
    values.only(*_REQUIRED, *_DEFAULTS)
    vips = values.list_of_text("vips")
    nodes = found["node"]
    if not isinstance(nodes, list) or len(nodes) != 2 or not all(isinstance(node, dict) for node in nodes):
        raise values.wrong("node", "there are two [[node]] tables")
    read = [_node(_Values(node, file), priority) for node, priority in zip(nodes, _PRIORITIES, strict=True)]
    first, second = read
    if first.name == second.name or first.address == second.address or first.priority == second.priority:
        raise values.wrong("node", "the nodes must differ in name, address and priority")
    if _version(first.address) != _version(second.address):
        raise values.wrong("node", "both addresses are of one family")
    if not any(_version(vip) == _version(first.address) for vip in vips if "/" in vip):
        raise values.wrong("vips", "one of them must be of the family of the nodes' addresses")
    advert_ms = values.number("advert_ms", 10, 1000)
    if advert_ms % 10:
        raise values.wrong("advert_ms", "a multiple of 10")
    return PairSettings(
        name=values.matching("name", _NAME),
        interface=values.matching("interface", _INTERFACE),
        router_id=values.number("router_id", 1, 255),
        vips=tuple(values.interface_address("vips", vip) for vip in vips),
        advert_ms=advert_ms,
        state_dir=Path(values.matching("state_dir", _PATH)),
        check_script=Path(values.matching("check_script", _PATH)),
        nodes=(first, second),
    )


def _node(values: _Values, priority: int) -> PairNode:
    values.only("name", "address", "priority", optional=("priority",))
    return PairNode(
        name=values.matching("name", _NAME),
        address=values.address("address"),
        priority=values.number("priority", 1, 254) if values.has("priority") else priority,
    )


class _Values:
    """Values of one table, with what is wrong about them."""

    def __init__(self, found: dict[str, object], file: str) -> None:
        self._found = {**found}
        self._file = file

    def only(self, *names: str, optional: tuple[str, ...] = tuple(_DEFAULTS)) -> None:
        for name in self._found:
            if name not in names:
                raise ConfigError("no such setting", file=self._file, word=name)
        for name in names:
            if name not in self._found and name not in optional:
                raise ConfigError("a setting is missing", file=self._file, word=name)

    def wrong(self, name: str, reason: str) -> ConfigError:
        return ConfigError(f"{name}: {reason}", file=self._file, word=str(self._value(name))[:100])

    def has(self, name: str) -> bool:
        return name in self._found

    def _value(self, name: str) -> object:
        return self._found.get(name, _DEFAULTS.get(name))

    def number(self, name: str, low: int, high: int) -> int:
        value = self._value(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(name, f"a number from {low} to {high}")
        return value

    def matching(self, name: str, pattern: re.Pattern[str]) -> str:
        value = self._value(name)
        if not isinstance(value, str) or not pattern.match(value):
            raise self.wrong(name, f"must match {pattern.pattern.removesuffix(chr(92) + 'Z')}")
        return value

    def list_of_text(self, name: str) -> list[str]:
        value = self._value(name)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "a list of at least one text")
        if len(set(value)) != len(value):
            raise self.wrong(name, "one is given twice")
        return value

    def address(self, name: str) -> str:
        try:
            return str(ipaddress.ip_address(str(self._value(name)).replace("%", "/")))
        except ValueError:
            raise self.wrong(name, "an IPv4 or IPv6 address") from None

    def interface_address(self, name: str, text: str) -> str:
        try:
            if "/" not in text or "%" in text:
                raise ValueError(text)
            return str(ipaddress.ip_interface(text))
        except ValueError:
            raise self.wrong(name, f"addresses with their prefix length, such as 192.0.2.10/24, not {text!r}") from None


def configuration(settings: PairSettings, node: PairNode) -> list[Directive]:
    """keepalived's configuration of one of the nodes."""
    (peer,) = (other for other in settings.nodes if other != node)
    paths = Paths(settings.state_dir, settings.state_dir)
    family = _version(node.address)
    vips = [vip for vip in settings.vips if _version(vip) == family]
    others = [vip for vip in settings.vips if _version(vip) != family]
    excluded: list[Directive] = [("virtual_ipaddress_excluded", "", [(vip, "") for vip in others])] if others else []

    return [
        (
            "global_defs",
            "",
            [("vrrp_version", "3"), ("script_user", "root"), ("vrrp_priority", "-20")],
        ),
        ("track_file", "data_plane", [("file", str(paths.fault)), ("weight", "0")]),
        (
            "vrrp_script",
            "check_script",
            [
                ("script", str(settings.check_script)),
                ("interval", "1"),
                ("timeout", "3"),
                ("fall", "1"),
                ("rise", "1"),
            ],
        ),
        (
            "vrrp_instance",
            settings.name,
            [
                ("state", "BACKUP"),
                ("interface", settings.interface),
                ("virtual_router_id", str(settings.router_id)),
                ("priority", str(node.priority)),
                ("nopreempt", ""),
                ("accept", ""),
                ("garp_master_refresh", "5"),
                ("garp_master_refresh_repeat", "2"),
                ("advert_int", f"{settings.advert_ms / 1000:g}"),
                ("unicast_src_ip", node.address),
                ("unicast_peer", "", [(peer.address, "")]),
                ("virtual_ipaddress", "", [(vip, "") for vip in vips]),
                *excluded,
                ("track_script", "", [("check_script", "")]),
                ("track_file", "", [("data_plane", "")]),
            ],
        ),
    ]


def _version(address: str) -> int:
    return ipaddress.ip_interface(address).version
