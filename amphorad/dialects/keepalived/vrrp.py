"""The VRRP dialect: octavia-keepalived.conf of one amphora of a pair.

One `vrrp_script` and one `vrrp_instance`, in which every directive of the controller's template must stand exactly once. What is more than that
template can write is refused: other scripts, notifications, other tables, an interface of another name in a route, addresses in the block
of the other family. So is the interface `None`, which the controller writes when it could not find the interface out: keepalived would
start and never hold the VIP, and a refused upload makes the controller try again.

Source: Octavia contract section 5.1, keepalived.conf(5), RFC 5798 section 6.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from amphorad.dialects.keepalived.reading import Block, address, header, match_words, network, number, version
from amphorad.dialects.keepalived.tokenizer import decode, read_tree
from amphorad.errors import ConfigError

if TYPE_CHECKING:
    from amphorad.dialects.keepalived.tokenizer import Node

__all__ = ["MAX_VIPS", "CheckScript", "VirtualRoute", "VrrpConfiguration", "check"]

MAX_VIPS: Final = 255  # what one advertisement can carry (RFC 5798 section 5.2.5)

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}\Z")
_INTERFACE: Final = re.compile(r"[A-Za-z0-9._-]{1,15}\Z")
_PASSWORD: Final = re.compile(
    r"[A-Za-z0-9._-]{1,36}\Z"
)  # seven hexadecimal digits; the controller's column has room for 36
_TABLE: Final = "1"
_SCRIPT: Final = "check_script"

_INSTANCE: Final = (
    "interface virtual_router_id priority nopreempt accept garp_master_refresh garp_master_refresh_repeat advert_int authentication{"
    " unicast_src_ip unicast_peer{ virtual_ipaddress{ virtual_ipaddress_excluded{ virtual_routes{ virtual_rules{ track_script{"
).split()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckScript:
    """How keepalived asks whether this node can serve.

    Args:
        interval_s: between two runs.
        fall: failures in a row that make it bad; rise: successes in a row that make it good again.
    """

    path: str
    interval_s: int
    fall: int
    rise: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualRoute:
    """A route of table 1 that a MASTER has.

    Args:
        destination: a network, or `default`.
        gateway: None for a network that is on the link.
        source: preferred source address; only of a network on the link.
    """

    destination: str
    gateway: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VrrpConfiguration:
    """One node of a pair. Addresses are in their shortest standard form.

    Args:
        name: of the instance: the load balancer's id without dashes.
        interface: where the VIPs and the advertisements are.
        priority: 1..255; who has more becomes MASTER when both start at once.
        garp_refresh_s: between two repetitions of the announcements of a MASTER; garp_refresh_repeat: how many each time.
        advert_interval_s: seconds between two advertisements.
        auth_type, auth_pass: of VRRP version 2; version 3 has none, and keepalived ignores them.
        source: this node's address in advertisements.
        peers: the other nodes' addresses; empty while the controller replaces the other amphora.
        vips: carried in advertisements, all of the family of `source`; excluded_vips: the others.
        rule_sources: the VIPs that table 1 is looked up for.
    """

    name: str
    interface: str
    virtual_router_id: int
    priority: int
    garp_refresh_s: int
    garp_refresh_repeat: int
    advert_interval_s: int
    auth_type: str
    auth_pass: str
    source: str
    peers: tuple[str, ...]
    vips: tuple[str, ...]
    excluded_vips: tuple[str, ...]
    routes: tuple[VirtualRoute, ...]
    rule_sources: tuple[str, ...]
    check: CheckScript

    @property
    def all_vips(self) -> tuple[str, ...]:
        return self.vips + self.excluded_vips

    @property
    def vrrp_version(self) -> int:
        """2 for IPv4, 3 for IPv6."""
        return 2 if version(self.source) == 4 else 3

    @property
    def master_down_s(self) -> float:
        """How long a BACKUP waits for an advertisement before it takes over (RFC 3768 section 6.1, RFC 5798 section 6.1)."""
        unit_s = 1 if self.vrrp_version == 2 else self.advert_interval_s
        return 3 * self.advert_interval_s + (256 - self.priority) / 256 * unit_s


def check(text: str | bytes, *, file: str, script: str) -> VrrpConfiguration:
    """Reads the file of one node.

    Args:
        script: the only path that the check script may have.

    Raises:
        ConfigError: the first error in the text.
    """
    tree = read_tree(decode(text, file=file) if isinstance(text, bytes) else text, file=file)
    found: dict[str, Node] = {}
    for node in tree:
        if node.is_comment:
            continue
        kind = node.words[0]
        if kind not in ("vrrp_script", "vrrp_instance") or node.children is None:
            raise node.error("not a block of this dialect", kind)
        if kind in found:
            raise node.error(f"given twice (first in line {found[kind].number})", kind)
        found[kind] = node
    for kind in ("vrrp_script", "vrrp_instance"):
        if kind not in found:
            raise ConfigError(f"there is no {kind}", file=file)
    return _read_instance(found["vrrp_instance"], _read_script(found["vrrp_script"], script))


def _read_script(node: Node, path: str) -> CheckScript:
    match_words(node, f"vrrp_script {_SCRIPT}")
    block = Block(node, ("script", "interval", "fall", "rise"))
    if block.word("script") != path:
        raise block.get("script").error(f"the check script must be {path}", block.word("script"))
    return CheckScript(
        path=path,
        interval_s=block.number("interval", low=1, high=3600),
        fall=block.number("fall", low=1, high=255),
        rise=block.number("rise", low=1, high=255),
    )


def _read_instance(node: Node, script: CheckScript) -> VrrpConfiguration:
    (name,) = header(node, 1)
    if not _NAME.match(name):
        raise node.error("an instance's name is made of letters, digits, '-' and '_'", name)
    block = Block(node, _INSTANCE)
    for flag in ("nopreempt", "accept"):
        block.flag(flag)
    match_words(_only_line(block.get("track_script")), _SCRIPT)
    interface = _interface(block)
    source = address(block.get("unicast_src_ip"), block.word("unicast_src_ip"))
    vips = _vips(block.get("virtual_ipaddress"), version(source), is_excluded=False)
    excluded = _vips(block.get("virtual_ipaddress_excluded"), version(source), is_excluded=True)
    routes, rules = block.get("virtual_routes"), block.get("virtual_rules")
    auth_type, auth_pass = _authentication(block.get("authentication"))
    return VrrpConfiguration(
        name=name,
        interface=interface,
        virtual_router_id=block.number("virtual_router_id", low=1, high=255),
        priority=block.number("priority", low=1, high=255),
        garp_refresh_s=block.number("garp_master_refresh", low=0, high=86400),
        garp_refresh_repeat=block.number("garp_master_refresh_repeat", low=1, high=255),
        advert_interval_s=block.number("advert_int", low=1, high=255 if version(source) == 4 else 40),
        auth_type=auth_type,
        auth_pass=auth_pass,
        source=source,
        peers=_peers(block.get("unicast_peer"), source),
        vips=vips,
        excluded_vips=excluded,
        routes=tuple(_route(line, interface, vips + excluded) for line in _lines(routes)),
        rule_sources=tuple(_rule(line, vips + excluded) for line in _lines(rules)),
        check=script,
    )


def _interface(block: Block) -> str:
    node, word = block.get("interface"), block.word("interface")
    if word == "None":
        raise node.error("the controller did not know the interface of the VIP (none had that address)", word)
    if not _INTERFACE.match(word) or word in (".", ".."):
        raise node.error("not a name of an interface", word)
    return word


def _authentication(node: Node) -> tuple[str, str]:
    header(node, 0)
    block = Block(node, ("auth_type", "auth_pass"))
    kind, password = block.word("auth_type"), block.word("auth_pass")
    if kind not in ("PASS", "AH"):
        raise block.get("auth_type").error("must be PASS or AH", kind)
    if not _PASSWORD.match(password):  # not shown: it is a secret
        raise block.get("auth_pass").error("must be 1 to 36 letters, digits, '.', '-' and '_'")
    return kind, password


def _peers(node: Node, source: str) -> tuple[str, ...]:
    peers = []
    for line in _lines(node):
        (word,) = match_words(line, "?")
        peer = address(line, word)
        if version(peer) != version(source):
            raise line.error("a peer is not of the family of unicast_src_ip", word)
        if peer == source or peer in peers:
            raise line.error("this peer is this node itself, or given twice", word)
        peers.append(peer)
    return tuple(peers)


def _vips(node: Node, family: int, *, is_excluded: bool) -> tuple[str, ...]:
    vips: list[str] = []
    for line in _lines(node):
        (word,) = match_words(line, "?")
        vip = address(line, word)
        if (version(vip) != family) != is_excluded:
            raise line.error(f"a VIP of the wrong family for {node.words[0]}", word)
        if vip in vips:
            raise line.error("given twice", word)
        vips.append(vip)
    if len(vips) > MAX_VIPS:
        raise node.error(f"more than {MAX_VIPS} addresses", node.words[0])
    if not vips and not is_excluded:
        raise node.error("no VIP", node.words[0])
    return tuple(vips)


def _route(line: Node, interface: str, vips: tuple[str, ...]) -> VirtualRoute:
    """The three forms that the template has."""
    if line.words[0] == "default":
        (word,) = match_words(line, f"default via ? dev {interface} onlink table {_TABLE}")
        return VirtualRoute(destination="default", gateway=address(line, word))
    if "src" in line.words:
        destination, word = match_words(line, f"? dev {interface} src ? scope link table {_TABLE}")
        source = address(line, word)
        if source not in vips:
            raise line.error("the source of a route is not a VIP", word)
        return VirtualRoute(destination=network(line, destination), source=source)
    destination, word = match_words(line, f"? dev {interface} gateway ? onlink table {_TABLE}")
    return VirtualRoute(destination=network(line, destination), gateway=address(line, word))


def _rule(line: Node, vips: tuple[str, ...]) -> str:
    (word,) = match_words(line, f"from ? table {_TABLE} priority 100")
    host, slash, length = word.partition("/")
    vip = address(line, host)
    if not slash or number(line, length, low=32, high=128) != (32 if version(vip) == 4 else 128):
        raise line.error("a rule is for one address, ADDRESS/32 or ADDRESS/128", word)
    if vip not in vips:
        raise line.error("a rule for an address that is not a VIP", word)
    return vip


def _lines(node: Node) -> list[Node]:
    """The lines of a block without a name, none of which opens another one."""
    header(node, 0)
    lines = [line for line in node.children or () if not line.is_comment]
    for line in lines:
        if line.children is not None:
            raise line.error("no block may stand here", line.words[0])
    return lines


def _only_line(node: Node) -> Node:
    lines = _lines(node)
    if len(lines) != 1:
        raise node.error("must have one line", node.words[0])
    return lines[0]
