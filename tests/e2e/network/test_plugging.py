"""Interfaces plugged for real: veth pairs stand for network cards, namespaces for the tenant's side and for the outside."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from amphorad.agent.settings import AgentSettings, parse_settings
from amphorad.network.announcement import frame
from amphorad.network.bodies import AdditionalVip, FixedIp, HostRoute, NetworkPlug, Rule, VipNetwork, VipPlug
from amphorad.network.errors import AlreadyPlugged, InvalidAddress, NoInterface, UnknownInterface
from amphorad.network.plugging import Plugging
from tests.support.agent_rig import in_namespace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root, ip and nft"),
    pytest.mark.timeout(60),
]
VIP = "203.0.113.7"
OWN = "203.0.113.20"
OUTSIDE = "203.0.113.1"


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


@dataclass
class Machine:
    """The names of one test: its two namespaces, and cards in this one whose other ends are outside."""

    token: str
    directory: Path

    @property
    def tenant(self) -> str:
        return f"tn{self.token}"

    @property
    def outside(self) -> str:
        return f"ou{self.token}"

    def settings(self, topology: str = "SINGLE") -> AgentSettings:
        text = (
            f"[haproxy_amphora]\nbase_path = {self.directory}/base\n"
            f"[amphora_agent]\nagent_server_network_dir = {self.directory}/interfaces\n"
            f"[controller_worker]\nloadbalancer_topology = {topology}\n[amphorad]\nnamespace = {self.tenant}\n"
        )
        return parse_settings([(self.directory / "agent.conf", text)])

    def card(self, number: int, address: str | None = None) -> str:
        """Another card; gives its MAC. Its other end is `outN` outside, with that address."""
        name, peer = f"c{number}{self.token}", f"out{number}"
        run("ip", "link", "add", name, "type", "veth", "peer", "name", peer, "netns", self.outside)
        run("ip", "-n", self.outside, "link", "set", peer, "up")
        if address is not None:
            run(
                "ip", "-n", self.outside, "address", "add", address, "dev", peer, *(["nodad"] if ":" in address else [])
            )
        found = json.loads(run("ip", "-j", "link", "show", name))[0]["address"]
        assert isinstance(found, str)
        return found

    def look(self, *what: str) -> Any:
        return json.loads(run("ip", "-j", "-n", self.tenant, *what) or "[]")

    def addresses(self, name: str) -> set[str]:
        found = self.look("address", "show", name)[0]["addr_info"]
        return {f"{item['local']}/{item['prefixlen']}" for item in found if item["scope"] != "link"}

    def state(self) -> str:
        """Everything that plugging can change, for comparing."""
        parts = [run("ip", "-j", "-n", self.tenant, *what) for what in (("rule",), ("-6", "rule"), ("address",))]
        parts += [run("ip", "-n", self.tenant, *family, "route", "show", "table", "all") for family in ((), ("-6",))]
        return "\n".join(parts)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(secrets.token_hex(3), tmp_path)
    run("ip", "netns", "add", machine.outside)
    yield machine
    for name in (machine.outside, machine.tenant):
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
    for number in range(1, 5):
        subprocess.run(["ip", "link", "delete", f"c{number}{machine.token}"], check=False, capture_output=True)


@pytest_asyncio.fixture
async def plugging(machine: Machine) -> AsyncIterator[Plugging]:
    plugging = Plugging(machine.settings())
    await plugging.restore()
    yield plugging
    await plugging.close()


def vip_body(mac: str, **change: Any) -> VipPlug:
    values: dict[str, Any] = {
        "subnet_cidr": "203.0.113.0/24",
        "gateway": OUTSIDE,
        "mac_address": mac,
        "mtu": 1450,
        "vrrp_ip": OWN,
        "host_routes": (HostRoute("198.51.100.0/24", "203.0.113.9"),),
    }
    return VipPlug(**(values | change))


@pytest.mark.asyncio
async def test_vip_gets_addresses_routes_and_rules_and_answers(machine: Machine, plugging: Plugging) -> None:
    mac = machine.card(1, f"{OUTSIDE}/24")
    assert await plugging.plug_vip(VIP, vip_body(mac)) == f"VIPs plugged on interface eth1: {VIP}"
    assert machine.addresses("eth1") == {f"{OWN}/24", f"{VIP}/32"}
    assert machine.look("link", "show", "eth1")[0]["mtu"] == 1450
    table = {
        (item["dst"], item.get("gateway"), item.get("prefsrc")) for item in machine.look("route", "show", "table", "1")
    }
    assert table == {
        ("default", OUTSIDE, None),
        ("203.0.113.0/24", None, VIP),
        ("198.51.100.0/24", "203.0.113.9", None),
    }
    assert any(item["src"] == VIP and item["table"] == "1" for item in machine.look("rule"))
    assert await plugging.interface_of(VIP) == "eth1"
    assert await plugging.interface_of(OWN) == "eth1"
    assert reachable(machine, 80)
    assert set(await plugging.traffic()) == {"eth1"}
    assert (machine.directory / "base" / "plugged_interfaces").read_text() == f"{mac} eth1\n"
    assert plugging.vips() == (VIP,)


@pytest.mark.asyncio
async def test_second_call_changes_nothing_and_says_so(machine: Machine, plugging: Plugging) -> None:
    mac = machine.card(1)
    await plugging.plug_vip(VIP, vip_body(mac))
    before = machine.state()
    with pytest.raises(AlreadyPlugged):
        await plugging.plug_vip(VIP, vip_body(mac))
    assert machine.state() == before


@pytest.mark.asyncio
async def test_card_that_is_not_there_yet_is_asked_for_again(machine: Machine, plugging: Plugging) -> None:
    body = vip_body("fa:16:3e:aa:bb:cc")
    with pytest.raises(NoInterface, match="No suitable network interface found"):
        await plugging.plug_vip(VIP, body)
    assert not (machine.directory / "interfaces" / "eth1.json").exists()


@pytest.mark.asyncio
async def test_bad_address_touches_nothing(machine: Machine, plugging: Plugging) -> None:
    mac = machine.card(1)
    with pytest.raises(InvalidAddress):
        await plugging.plug_vip("not-an-address", vip_body(mac))
    assert run("ip", "-br", "link", "show", f"c1{machine.token}")


@pytest.mark.asyncio
async def test_ipv6_and_additional_vips_stay_when_the_network_is_plugged_again(
    machine: Machine, plugging: Plugging
) -> None:
    mac = machine.card(1)
    additional = (AdditionalVip("2001:db8::/64", "2001:db8::7", "2001:db8::1", ()),)
    await plugging.plug_vip(VIP, vip_body(mac, additional_vips=additional))
    everything = {f"{OWN}/24", f"{VIP}/32", "2001:db8::7/128"}
    assert machine.addresses("eth1") == everything
    assert any(item["src"] == "2001:db8::7" for item in machine.look("-6", "rule"))
    network = VipNetwork(subnet_cidr="203.0.113.0/24", gateway=OUTSIDE, mac_address=mac, vrrp_ip=OWN, vip=VIP)
    member = FixedIp("203.0.113.50", "203.0.113.0/24", (), OUTSIDE)
    call = NetworkPlug(mac_address=mac, fixed_ips=(member,), vip_net_info=network)
    assert await plugging.plug_network(call) == "Updated existing interface eth1"
    assert machine.addresses("eth1") == everything | {"203.0.113.50/24"}


@pytest.mark.asyncio
async def test_standby_leaves_the_vip_to_keepalived(machine: Machine) -> None:
    plugging = Plugging(machine.settings("ACTIVE_STANDBY"))
    await plugging.restore()
    mac = machine.card(1)
    await plugging.plug_vip(VIP, vip_body(mac))
    assert machine.addresses("eth1") == {f"{OWN}/24"}
    run("ip", "-n", machine.tenant, "address", "add", f"{VIP}/32", "dev", "eth1")  # as keepalived does
    with pytest.raises(AlreadyPlugged):
        await plugging.plug_vip(VIP, vip_body(mac))
    assert machine.addresses("eth1") == {f"{OWN}/24", f"{VIP}/32"}
    assert not any(item["src"] == VIP for item in machine.look("rule"))
    await plugging.close()


@pytest.mark.asyncio
async def test_member_network_takes_the_next_name_and_follows_its_changes(machine: Machine, plugging: Plugging) -> None:
    await plugging.plug_vip(VIP, vip_body(machine.card(1)))
    mac = machine.card(2)
    first = FixedIp("10.0.0.5", "10.0.0.0/24", (HostRoute("10.9.0.0/16", "10.0.0.1"),), "10.0.0.1")
    assert await plugging.plug_network(NetworkPlug(mac_address=mac, fixed_ips=(first,))) == "Plugged on interface eth2"
    assert machine.addresses("eth2") == {"10.0.0.5/24"}
    routes = {item["dst"] for item in machine.look("route", "show", "dev", "eth2")}
    assert routes == {"10.0.0.0/24", "10.9.0.0/16"}  # a member network gives no default route
    other = FixedIp("10.1.0.5", "10.1.0.0/24")
    assert (
        await plugging.plug_network(NetworkPlug(mac_address=mac, fixed_ips=(other,)))
        == "Updated existing interface eth2"
    )
    assert machine.addresses("eth2") == {"10.1.0.5/24"}
    assert {item["dst"] for item in machine.look("route", "show", "dev", "eth2")} == {"10.1.0.0/24"}


@pytest.mark.asyncio
async def test_interrupted_call_is_completed_by_its_repetition(machine: Machine, plugging: Plugging) -> None:
    mac = machine.card(1)
    for state in ("recorded", "moved"):
        await plugging.plug_vip(VIP, vip_body(mac))
        if state == "recorded":  # the files are there, the interface is not in the namespace yet
            run(
                "ip",
                "-n",
                machine.tenant,
                "link",
                "set",
                "eth1",
                "netns",
                str(os.getpid()),
                "name",
                f"c1{machine.token}",
            )
            await plugging.plug_vip(VIP, vip_body(mac))
        else:
            run("ip", "-n", machine.tenant, "address", "flush", "dev", "eth1")
            with pytest.raises(AlreadyPlugged):
                await plugging.plug_vip(VIP, vip_body(mac))
        assert machine.addresses("eth1") == {f"{OWN}/24", f"{VIP}/32"}
        run("ip", "-n", machine.tenant, "link", "set", "eth1", "netns", str(os.getpid()), "name", f"c1{machine.token}")


@pytest.mark.asyncio
async def test_everything_is_back_after_a_reboot(machine: Machine, plugging: Plugging) -> None:
    await plugging.plug_vip(VIP, vip_body(machine.card(1)))
    await plugging.plug_network(
        NetworkPlug(mac_address=machine.card(2), fixed_ips=(FixedIp("10.0.0.5", "10.0.0.0/24"),))
    )
    await plugging.plug_network(
        NetworkPlug(mac_address=machine.card(3), fixed_ips=(FixedIp("10.1.0.5", "10.1.0.0/24"),))
    )
    before = {name: machine.addresses(name) for name in ("eth1", "eth2")}
    for number in (1, 2, 3):  # after a boot the cards are in the default namespace, and the tenant's is not there
        here = f"c{number}{machine.token}"
        run("ip", "-n", machine.tenant, "link", "set", f"eth{number}", "netns", str(os.getpid()), "name", here)
    run("ip", "link", "delete", f"c3{machine.token}")  # unplugged while the machine was off
    run("ip", "netns", "delete", machine.tenant)
    await plugging.restore()
    assert {name: machine.addresses(name) for name in ("eth1", "eth2")} == before
    assert machine.addresses("lo") >= {"127.0.0.1/8"}
    assert "eth3" not in {item["ifname"] for item in machine.look("link")}


@pytest.mark.asyncio
async def test_address_of_nobody_and_no_address(plugging: Plugging) -> None:
    with pytest.raises(UnknownInterface):
        await plugging.interface_of("192.0.2.99")
    with pytest.raises(InvalidAddress):
        await plugging.interface_of("eth1")


@pytest.mark.asyncio
async def test_announcements_reach_the_neighbours(machine: Machine, plugging: Plugging) -> None:
    mac = machine.card(1, f"{OUTSIDE}/24")
    additional = (AdditionalVip("2001:db8::/64", "2001:db8::7", None, ()),)
    await plugging.plug_vip(VIP, vip_body(mac, additional_vips=additional))
    listener = in_namespace(machine.outside, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
    with listener:
        listener.bind(("out1", 3))
        listener.settimeout(5)
        await plugging.announce([VIP, "2001:db8::7", "192.0.2.99"])
        missing = {frame(VIP, mac), frame("2001:db8::7", mac)}
        for _ in range(50):
            missing.discard(listener.recv(2000))
            if not missing:
                break
    assert not missing


def reachable(machine: Machine, port: int) -> bool:
    def connect() -> bool:
        try:
            socket.create_connection((VIP, port), 0.5).close()
        except OSError as error:
            return isinstance(error, ConnectionRefusedError)  # came through, nobody listens
        return True

    return in_namespace(machine.outside, connect)


@pytest.mark.asyncio
async def test_firewall_of_an_sriov_port_lets_in_what_the_rules_say(machine: Machine, plugging: Plugging) -> None:
    await plugging.plug_vip(VIP, vip_body(machine.card(1, f"{OUTSIDE}/24"), is_sriov=True))
    assert not reachable(machine, 80)
    await plugging.set_rules(
        VIP, [Rule("TCP", f"{OUTSIDE}/32", 80), Rule("TCP", "192.0.2.0/24", 81), Rule("TCP", None, 82)]
    )
    assert [reachable(machine, port) for port in (80, 81, 82, 83)] == [True, False, True, False]
    await plugging.set_rules(VIP, [Rule("vrrp", "2001:db8::9/128", 112), Rule("vrrp", "192.0.2.1/32", 112)])
    assert [reachable(machine, port) for port in (80, 82)] == [False, False]
    await plugging.set_rules(VIP, [Rule("TCP", "0.0.0.0/0", 80)])
    assert reachable(machine, 80)
    await plugging.set_rules(VIP, [])
    assert not reachable(machine, 80)
    with pytest.raises(InvalidAddress):
        await plugging.set_rules(VIP, [Rule("TCP", "10.0.0.0/99", 80)])
