"""The LVS dialect: octavia-keepalivedlvs-<listener_id>.conf, one UDP or SCTP listener with its pool.

Comments are data here: the ids of all objects and what is disabled stand in them alone. The template writes the pool once for the IPv4 VIPs
and once for the IPv6 VIPs, each with the members of its family; both must say the same, and are one pool here.

What the text does not tell: the type of a monitor whose pool has no enabled member (or an HTTP monitor with a method other than GET, for which
the template writes no check at all), and everything below a listener or load balancer that is disabled.

Source: Octavia contract section 5.4, keepalived.conf(5) "Virtual server(s)".
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from amphorad.dialects.keepalived.reading import Block, address, header, match_words, number, version
from amphorad.dialects.keepalived.tokenizer import decode, read_tree
from amphorad.errors import ConfigError

if TYPE_CHECKING:
    from amphorad.dialects.keepalived.tokenizer import Node

__all__ = ["LvsConfiguration", "LvsMember", "LvsMonitor", "LvsPersistence", "LvsPool", "MonitorType", "check"]

_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_UDP_CHECK: Final = re.compile(r"/\S*/lvs/check/udp_check\.sh \S+ \S+\Z")
_ALGORITHMS: Final = {"wrr": "ROUND_ROBIN", "lc": "LEAST_CONNECTIONS", "sh": "SOURCE_IP"}
_ENTITIES: Final = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&#34;": '"', "&#39;": "'"}
_ENTITY: Final = re.compile("|".join(_ENTITIES))
_DAY_S: Final = 86400
_MOST_FLOWS: Final = 2**32 - 1

_SERVER: Final = (
    "lb_algo lb_kind protocol persistence_timeout persistence_granularity delay_loop delay_before_retry retry real_server{"
).split()
_CHECKERS: Final = ("MISC_CHECK", "HTTP_GET", "TCP_CHECK")


class MonitorType(StrEnum):
    """In the API's words."""

    UDP_CONNECT = "UDP-CONNECT"
    SCTP = "SCTP"
    HTTP = "HTTP"
    TCP = "TCP"


@dataclass(frozen=True, slots=True, kw_only=True)
class LvsMember:
    """One enabled member.

    Args:
        weight: 0..256; 0 gets no new flows.
        check_address, check_port: where the monitor asks; the member's own without a monitor.
    """

    id: str
    address: str
    port: int
    weight: int
    check_address: str
    check_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LvsMonitor:
    """The enabled health monitor of the pool.

    Args:
        type: None when the text does not tell.
        delay_s: between two checks, and between the retries of one that failed.
        timeout_s: of one check; None when the text does not tell.
        fall: checks that fail in a row before a member is down; one that passes makes it up again.
        url_path, expected_codes: of type HTTP. Any of the codes passes (the stock asks once for each code, and each must come).
    """

    id: str
    type: MonitorType | None
    delay_s: int
    timeout_s: int | None
    fall: int
    url_path: str | None = None
    expected_codes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LvsPersistence:
    """A client stays on its member until `timeout_s` after its last flow. Clients count as one if they agree in so many leading bits."""

    timeout_s: int
    ipv4_bits: int
    ipv6_bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LvsPool:
    """The default pool.

    Args:
        algorithm: ROUND_ROBIN, LEAST_CONNECTIONS or SOURCE_IP.
        members: enabled ones, of both families; empty while the pool is disabled. disabled_members: ids.
    """

    id: str
    is_enabled: bool
    algorithm: str
    persistence: LvsPersistence | None
    monitor: LvsMonitor | None
    members: tuple[LvsMember, ...]
    disabled_members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LvsConfiguration:
    """One listener.

    Args:
        is_enabled: False for a disabled listener.
        vips, port, protocol: where it listens; protocol is UDP or SCTP. Empty, 0 and None when the text has no pool: the listener or
            the load balancer is disabled, or there is no default pool.
        connection_limit: flows for each member at most; None for no limit, or when no member tells.
    """

    load_balancer_id: str
    listener_id: str
    is_enabled: bool
    namespace: str
    vips: tuple[str, ...] = ()
    port: int = 0
    protocol: str | None = None
    connection_limit: int | None = None
    pool: LvsPool | None = None


@dataclass(slots=True)
class _Group:
    """One `virtual_server`."""

    node: Node
    pool: LvsPool
    protocol: str
    limits: set[int | None] = field(default_factory=set)


def check(text: str | bytes, *, file: str) -> LvsConfiguration:
    """Reads the file of one listener.

    Raises:
        ConfigError: the first error in the text.
    """
    tree = read_tree(decode(text, file=file) if isinstance(text, bytes) else text, file=file)
    load_balancer_id = listener_id = ""
    is_enabled = True
    found: dict[str, Node] = {}
    for node in tree:
        if node.is_comment:
            kind, identifier, enabled = _comment(node)
            if kind == "Loadbalancer":
                load_balancer_id = _once(node, load_balancer_id, identifier)
            elif kind == "Listener":
                listener_id, is_enabled = _once(node, listener_id, identifier), enabled
            continue
        name = " ".join(node.words if node.children is not None else node.words[:1])
        if name not in _TOP or (node.children is not None) != _TOP[name]:
            raise node.error("not a directive of this dialect", name)
        if name in found:
            raise node.error(f"given twice (first in line {found[name].number})", name)
        found[name] = node
    if not load_balancer_id or not listener_id or "net_namespace" not in found:
        raise ConfigError("no line names the load balancer, the listener or the namespace", file=file)
    (namespace,) = header(found["net_namespace"], 1)
    head = LvsConfiguration(
        load_balancer_id=load_balancer_id, listener_id=listener_id, is_enabled=is_enabled, namespace=namespace
    )
    return _with_groups(head, found)


_TOP: Final = {"net_namespace": False} | {
    f"{kind} ipv{family}-group": True
    for kind in ("virtual_server_group", "virtual_server group")
    for family in ("4", "6")
}


def _with_groups(head: LvsConfiguration, found: dict[str, Node]) -> LvsConfiguration:
    vips: list[str] = []
    ports: set[int] = set()
    groups: list[_Group] = []
    for family in (4, 6):
        addresses = found.get(f"virtual_server_group ipv{family}-group")
        server = found.get(f"virtual_server group ipv{family}-group")
        if (addresses is None) != (server is None):
            lone = addresses or server
            assert lone is not None
            raise lone.error("a group needs its addresses and its server")
        if addresses is None or server is None:
            continue
        for line in _directives(addresses):
            host, port = match_words(line, "? ?")
            vip = address(line, host)
            if version(vip) != family or vip in vips:
                raise line.error("a VIP of the wrong family, or given twice", host)
            vips.append(vip)
            ports.add(number(line, port, low=1, high=65535))
        groups.append(_server(server, family))
    if not groups:
        return head
    if not head.is_enabled:
        raise groups[0].node.error("a disabled listener has no server")
    if len(ports) != 1:
        raise groups[0].node.error("all VIPs have the same port, and there is at least one")
    first = groups[0]
    limits = set[int | None]().union(*(group.limits for group in groups))
    if len(limits) > 1:
        raise first.node.error("uthreshold is the same for all members")
    return LvsConfiguration(
        load_balancer_id=head.load_balancer_id,
        listener_id=head.listener_id,
        is_enabled=True,
        namespace=head.namespace,
        vips=tuple(vips),
        port=ports.pop(),
        protocol=first.protocol,
        connection_limit=limits.pop() if limits else None,
        pool=_merge(groups),
    )


def _merge(groups: list[_Group]) -> LvsPool:
    """One pool of what is said of it in each family."""
    first = groups[0]
    members: list[LvsMember] = []
    disabled: list[str] = []
    monitor = first.pool.monitor
    for group in groups:
        pool = group.pool
        if (pool.id, pool.is_enabled, pool.algorithm, pool.persistence, group.protocol) != (
            first.pool.id,
            first.pool.is_enabled,
            first.pool.algorithm,
            first.pool.persistence,
            first.protocol,
        ):
            raise group.node.error("the two families say different things of the pool")
        monitor = _same_monitor(group.node, monitor, pool.monitor)
        members += pool.members
        disabled += pool.disabled_members
    ids = [member.id for member in members] + disabled
    if len(set(ids)) != len(ids):
        raise first.node.error("a member is given twice")
    return LvsPool(
        id=first.pool.id,
        is_enabled=first.pool.is_enabled,
        algorithm=first.pool.algorithm,
        persistence=first.pool.persistence,
        monitor=monitor,
        members=tuple(members),
        disabled_members=tuple(disabled),
    )


def _same_monitor(node: Node, one: LvsMonitor | None, other: LvsMonitor | None) -> LvsMonitor | None:
    """The one of two descriptions of a monitor that says more."""
    if one is None or other is None:
        if one is not other:
            raise node.error("the two families say different things of the health monitor")
        return None
    if one.type is None or other.type is None:
        if (one.id, one.delay_s, one.fall) != (other.id, other.delay_s, other.fall):
            raise node.error("the two families say different things of the health monitor")
        return one if other.type is None else other
    if one != other:
        raise node.error("the two families say different things of the health monitor")
    return one


def _server(node: Node, family: int) -> _Group:
    block = Block(node, _SERVER, repeated=("real_server",))
    match_words(block.get("lb_kind"), "lb_kind NAT")
    protocol = block.word("protocol")
    if protocol not in ("UDP", "SCTP"):
        raise block.get("protocol").error("must be UDP or SCTP", protocol)
    if block.word("lb_algo") not in _ALGORITHMS:
        raise block.get("lb_algo").error("must be wrr, lc or sh", block.word("lb_algo"))
    pool_id = monitor_id = member_id = ""
    pool_enabled = True
    members: list[LvsMember] = []
    disabled: list[str] = []
    limits: set[int | None] = set()
    checks: list[tuple[Node, _Check]] = []
    for child in node.children or ():
        if child.is_comment:
            kind, identifier, enabled = _comment(child)
            if kind == "Pool":
                pool_id, pool_enabled = _once(child, pool_id, identifier), enabled
            elif kind == "HealthMonitor":
                monitor_id = _once(child, monitor_id, identifier)
            elif kind == "Member" and enabled:
                member_id = _once(child, member_id, identifier)
            elif kind == "Member":
                disabled.append(identifier)
        elif child.words[0] == "real_server":
            if not member_id:
                raise child.error("no comment names this member")
            member, limit, probe = _member(child, member_id, family)
            members.append(member)
            limits.add(limit)
            checks += [(child, probe)] if probe is not None else []
            member_id = ""
    if member_id:
        raise node.error("a member is named and not there", member_id)
    if not pool_id:
        raise node.error("no comment names the pool")
    if members and not pool_enabled:
        raise node.error("a disabled pool has no members here")
    pool = LvsPool(
        id=pool_id,
        is_enabled=pool_enabled,
        algorithm=_ALGORITHMS[block.word("lb_algo")],
        persistence=_persistence(block),
        monitor=_monitor(block, monitor_id, checks),
        members=tuple(members),
        disabled_members=tuple(disabled),
    )
    return _Group(node, pool, protocol, limits)


def _persistence(block: Block) -> LvsPersistence | None:
    """A mask is of one family, and the template writes the user's into both groups: the other family then counts single addresses."""
    if block.find("persistence_timeout") is None:
        if (stray := block.find("persistence_granularity")) is not None:
            raise stray.error("needs persistence_timeout", stray.words[0])
        return None
    timeout_s = block.number("persistence_timeout", low=1, high=31 * _DAY_S)
    node, word = block.get("persistence_granularity"), block.word("persistence_granularity")
    bits = {4: 32, 6: 128}
    if "." in word:
        try:
            bits[4] = ipaddress.IPv4Network(f"0.0.0.0/{word}").prefixlen
        except ValueError:
            raise node.error("not a netmask", word) from None
    else:
        bits[6] = number(node, word, low=1, high=128)
    return LvsPersistence(timeout_s=timeout_s, ipv4_bits=bits[4], ipv6_bits=bits[6])


@dataclass(frozen=True, slots=True)
class _Check:
    """What a member's checker says of the monitor."""

    type: MonitorType
    timeout_s: int
    url_path: str | None = None
    expected_codes: tuple[int, ...] = ()


def _monitor(block: Block, monitor_id: str, checks: list[tuple[Node, _Check]]) -> LvsMonitor | None:
    if not monitor_id:
        if block.find("delay_loop") is not None or checks:
            raise block.node.error("no comment names the health monitor")
        return None
    if any(found != checks[0][1] for _node, found in checks):
        odd = next(node for node, found in checks if found != checks[0][1])
        raise odd.error("this member is checked in another way than the first")
    probe = checks[0][1] if checks else None
    delay_s = block.number("delay_loop", low=1, high=_DAY_S)
    block.number("delay_before_retry", low=delay_s, high=delay_s)
    return LvsMonitor(
        id=monitor_id,
        type=probe.type if probe else None,
        delay_s=delay_s,
        timeout_s=probe.timeout_s if probe else None,
        fall=block.number("retry", low=1, high=255) if block.find("retry") is not None else 1,
        url_path=probe.url_path if probe else None,
        expected_codes=probe.expected_codes if probe else (),
    )


def _member(node: Node, member_id: str, family: int) -> tuple[LvsMember, int | None, _Check | None]:
    host, port_word = match_words(node, "real_server ? ?")
    at, port = address(node, host), number(node, port_word, low=1, high=65535)
    if version(at) != family:
        raise node.error("a member of the wrong family", host)
    block = Block(node, ("weight", "uthreshold", *(f"{name}{{" for name in _CHECKERS)))
    checkers = [found for name in _CHECKERS if (found := block.find(name)) is not None]
    if len(checkers) > 1:
        raise checkers[1].error("more than one check", checkers[1].words[0])
    probe, check_at, check_port = _checker(checkers[0]) if checkers else (None, at, port)
    limit = block.number("uthreshold", low=1, high=_MOST_FLOWS) if block.find("uthreshold") is not None else None
    member = LvsMember(
        id=member_id,
        address=at,
        port=port,
        weight=block.number("weight", low=0, high=256),
        check_address=check_at,
        check_port=check_port,
    )
    return member, limit, probe


def _checker(node: Node) -> tuple[_Check, str, int]:
    header(node, 0)
    if node.words[0] == "MISC_CHECK":
        return _misc_check(node)
    names = ["connect_ip", "connect_port", "connect_timeout"]
    block = Block(node, [*names, "url{"] if node.words[0] == "HTTP_GET" else names, repeated=("url",))
    at = address(block.get("connect_ip"), block.word("connect_ip"))
    port = block.number("connect_port", low=1, high=65535)
    timeout_s = block.number("connect_timeout", low=1, high=_DAY_S)
    if node.words[0] == "TCP_CHECK":
        return _Check(MonitorType.TCP, timeout_s), at, port
    urls = [Block(url, ("path", "status_code")) for url in block.every("url")]
    paths = {_ENTITY.sub(lambda match: _ENTITIES[match[0]], url.word("path")) for url in urls}
    if len(paths) > 1:
        raise node.error("one path for all codes", node.words[0])
    codes = tuple(url.number("status_code", low=100, high=599) for url in urls)
    return _Check(MonitorType.HTTP, timeout_s, paths.pop() if paths else None, codes), at, port


def _misc_check(node: Node) -> tuple[_Check, str, int]:
    block = Block(node, ("misc_path", "misc_timeout"))
    line, command = block.get("misc_path"), block.word("misc_path")
    timeout_s = block.number("misc_timeout", low=1, high=_DAY_S + 1)
    words = command.split(" ")
    if _UDP_CHECK.match(command):
        return _Check(MonitorType.UDP_CONNECT, timeout_s), address(line, words[1]), _port(line, words[2])
    if len(words) == 6 and words[:3] == ["amphora-health-checker", "sctp", "-t"]:
        own_s = number(line, words[3], low=1, high=_DAY_S)
        if timeout_s != own_s + 1:
            raise line.error("misc_timeout is one second more than that of the program", command)
        return _Check(MonitorType.SCTP, own_s), address(line, words[4]), _port(line, words[5])
    raise line.error("not a check of this dialect", command)


def _port(node: Node, word: str) -> int:
    return number(node, word, low=1, high=65535)


def _comment(node: Node) -> tuple[str, str, bool]:
    """Kind, id and whether it is enabled; a comment of an operator has no kind."""
    words = node.words
    if len(words) == 4 and words[:2] == ["Configuration", "for"] and _ID.match(words[3]):
        return words[2], words[3], True
    if len(words) == 4 and words[2:] == ["is", "disabled"] and _ID.match(words[1]):
        return words[0], words[1], False
    return "", "", True


def _once(node: Node, before: str, identifier: str) -> str:
    if before:
        raise node.error("named twice", identifier)
    return identifier


def _directives(node: Node) -> list[Node]:
    lines = [line for line in node.children or () if not line.is_comment]
    for line in lines:
        if line.children is not None:
            raise line.error("no block may stand here", line.words[0])
    return lines
