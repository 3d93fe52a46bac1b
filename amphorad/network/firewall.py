"""nftables in the namespace: the VIP's firewall on SR-IOV ports, and no connection tracking where none is needed.

A text replaces its tables in one transaction, so it can be loaded again at any time. Source: Octavia contract sections 6.6, 6.7.

Other than the stock agent: the peer of VRRP over IPv6 gets a rule that nft takes, the port of stick-table replication is open for
VRRP peers, and an empty list of rules closes what was open.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from amphorad.network.namespace import namespace_path, run_program

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from amphorad.network.bodies import Rule

__all__ = ["load", "masquerade_text", "vip_text"]

TABLE = "inet amphora_table"
PEERS_PORT = 1025
ALWAYS = (
    "icmp type destination-unreachable accept",
    "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, packet-too-big, destination-unreachable } accept",
    "udp sport 67 udp dport 68 accept",
    "udp sport 547 udp dport 546 accept",
)


def vip_text(interface: str, rules: Sequence[Rule] | None) -> str:
    """The firewall of the VIP's interface.

    Args:
        rules: who may come in; None before the controller has said it.

    Raises:
        ValueError: a rule's network is none.
    """
    lines = [f"table {TABLE} {{}}", f"delete table {TABLE}", f"table {TABLE} {{"]
    lines += ["  chain amphora_chain {", "    type filter hook input priority filter; policy drop;"]
    if rules is not None:
        lines += ["    ct state established,related accept", "    ct state invalid drop"]
    lines += ["    iif lo accept", "    ip saddr 127.0.0.0/8 drop", "    ip6 saddr ::1 drop"]
    lines += [f"    {line}" for line in ALWAYS]
    if rules is not None:
        lines.append(f'    iifname "{interface}" jump amphora_vip_chain')
    lines.append("  }")
    if rules is not None:
        accepted = dict.fromkeys(line for rule in rules for line in _accept(rule))
        lines += ["  chain amphora_vip_chain {", *(f"    {line}" for line in accepted), "  }"]
    return "\n".join([*lines, "}"]) + "\n"


def _accept(rule: Rule) -> list[str]:
    source = _source(rule.cidr)
    if rule.protocol == "vrrp":
        return [f"{source}meta l4proto 112 accept", f"{source}tcp dport {PEERS_PORT} accept"]
    return [f"{source}{rule.protocol.lower()} dport {rule.port} accept"]


def _source(cidr: str | None) -> str:
    if cidr is None:
        return ""
    network = ipaddress.ip_network(cidr, strict=False)
    if network.prefixlen == 0:
        return "" if network.version == 4 else "meta nfproto ipv6 "
    return f"{'ip6' if network.version == 6 else 'ip'} saddr {network} "


def masquerade_text(interfaces: Mapping[str, Iterable[int]]) -> str:
    """Masquerading of what the kernel balances (UDP, SCTP), and no tracking of TCP, which it does not.

    Args:
        interfaces: IP versions of each interface; those with SR-IOV are left out, their firewall tracks.
    """
    lines = []
    for version, family in ((4, "ip"), (6, "ip6")):
        names = sorted(name for name, versions in interfaces.items() if version in versions)
        table = f"{family} octavia-ipv{version}"
        lines += [f"table {table} {{}}", f"delete table {table}"]
        if not names:
            continue
        quoted = ", ".join(f'"{name}"' for name in names)
        lines.append(f"table {table} {{")
        for protocol in ("udp", "sctp"):
            lines += [
                f"  chain {family}-{protocol}-masq {{",
                "    type nat hook postrouting priority srcnat; policy accept;",
                f"    oifname {{ {quoted} }} meta l4proto {protocol} masquerade",
                "  }",
            ]
        for chain, direction in (("prerouting", "iifname"), ("output", "oifname")):
            lines += [
                f"  chain {chain} {{",
                f"    type filter hook {chain} priority raw; policy accept;",
                f"    {direction} {{ {quoted} }} meta l4proto tcp notrack",
                "  }",
            ]
        lines.append("}")
    return "\n".join(lines) + "\n"


async def load(namespace: str, text: str) -> None:
    """Loads a text in a namespace, whole or not at all.

    Raises:
        OSError: nft or nsenter is not installed.
        RuntimeError: nft refuses it, with its reason.
    """
    await run_program("nsenter", f"--net={namespace_path(namespace)}", "nft", "-f", "-", stdin=text.encode())
