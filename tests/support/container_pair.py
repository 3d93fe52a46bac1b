"""An ACTIVE_STANDBY pair of whole amphorae in containers, taken to service by the real Octavia driver.

    with ContainerPair(root, directory, identities) as pair:     booted; nothing plugged yet
        pair.bring_up()                                          plugged, VRRP started, listeners uploaded, by the driver
        pair.master, pair.backup, pair.client(), pair.traffic()

Around the two is the switch, a namespace with two bridges: the management network (the controller is there) and the tenant's (clients and
members). Needs root.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amphorad.admin import Client
from amphorad.agent.status import AgentStatus
from tests.support.agent_rig import LoopIn, Namespace
from tests.support.boot_files import boot_files
from tests.support.controller import Controller, modules
from tests.support.host_tree import PIP, add_pip
from tests.support.nspawn import Container, Root, scratch
from tests.support.octavia_render import make_listener, make_member, make_monitor, make_pool
from tests.support.traffic import Load, Members
from tests.support.vrrp_rig import VipClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.api_certificates import Identities

__all__ = ["HTTP", "LB_ID", "TCP", "VIP", "AmphoraNode", "ContainerPair", "SharedPair", "wait_for"]

LB_ID = "5f8e4a53-39b2-4a36-8f0a-0e6c3c1a1a11"
VIP, SUBNET, OUTSIDE = "203.0.113.7", "203.0.113.0/24", "203.0.113.1"
CONTROLLER = "192.0.2.1"
HTTP, TCP = 8080, 8081  # VipClient asks the first
HEARTBEAT_PORT = 5555
BASE_PATH = Path("/var/lib/octavia")
WAIT_S = 40.0


def wait_for(fact: Callable[[], Any], what: str, limit_s: float = WAIT_S) -> Any:
    """Looks until it is true; gives what it found."""
    deadline = time.monotonic() + limit_s
    while not (found := fact()):
        assert time.monotonic() < deadline, f"waited {limit_s:g} s in vain for {what}"
        time.sleep(0.05)
    return found


class AmphoraNode:
    """One of the two: its container, its interfaces, and the controller's record of it."""

    def __init__(self, pair: ContainerPair, name: str, number: int, priority: int, identities: Identities) -> None:
        self.name = name
        self.amphora_id = f"{identities.amphora_id[:-2]}{number}"
        self.priority = priority
        self.own_ip = f"203.0.113.{number}"
        self.management_ip = f"192.0.2.{number}"
        self.namespace = Namespace(f"{pair.prefix}{name}")
        self._pair = pair
        self._mac = f"fa:16:3e:00:00:{number}"
        self._port = f"{pair.prefix}t{name}"
        self.record: Any = None
        files = boot_files(
            identities,
            f"{CONTROLLER}:{HEARTBEAT_PORT}",
            amphora_id=self.amphora_id,
            topology="ACTIVE_STANDBY",
            interval=1,
            options="[amphorad]\nthreads = 1\n",
        )
        self.container = Container(f"{pair.prefix}{name}", pair.root, pair.directory / name, self.namespace.name, files)
        self._plug_management()

    def _plug_management(self) -> None:
        switch, inner, outer = self._pair.switch, "mgmt0", f"{self._pair.prefix}m{self.name}"
        ends = ["ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", self.namespace.name]
        switch.run(*ends)
        switch.run("ip", "link", "set", outer, "master", "mgmt", "up")
        self.namespace.run("ip", "address", "add", f"{self.management_ip}/24", "dev", inner)
        self.namespace.run("ip", "link", "set", inner, "up")

    def hot_plug(self) -> None:
        """The interface of the VIP appears in the container, as the cloud's compute service would make it."""
        switch, inner = self._pair.switch, f"{self._pair.prefix}v{self.name}"
        switch.run("ip", "link", "add", self._port, "type", "veth", "peer", "name", inner, "address", self._mac)
        switch.run("ip", "link", "set", self._port, "master", "tenant", "up")
        switch.run("ip", "link", "set", inner, "netns", self.namespace.name)

    def plug_vip(self) -> None:
        models = modules().network_models
        port = models.Port(
            id=f"port-{self.name}",
            mac_address=self._mac,
            network=models.Network(id="network-1", mtu=1500),
            fixed_ips=[],
            vnic_type="normal",
        )
        subnet = models.Subnet(cidr=SUBNET, gateway_ip=OUTSIDE, host_routes=[])
        self.hot_plug()
        balancer = self._pair.load_balancer([])
        network = {self.amphora_id: models.AmphoraNetworkConfig(amphora=self.record)}
        self._pair.drive(lambda driver: driver.post_vip_plug(self.record, balancer, network, port, subnet, []))

    # --- what happens to it ---

    def cut_link(self) -> None:
        """The carrier of its tenant interface goes, and nobody is told."""
        self._pair.switch.run("ip", "link", "set", self._port, "down")

    def mend_link(self) -> None:
        self._pair.switch.run("ip", "link", "set", self._port, "up")

    def lose_power(self) -> None:
        """Everything ends at once, the interface of the VIP first: what a dying kernel would still send reaches nobody.

        Taken away, because the namespace below it lives on for as long as one of its connections waits for an answer.
        """
        self._pair.switch.run("ip", "link", "delete", self._port)
        self.container.pull_the_plug()

    def power_on(self) -> float:
        """Seconds until it has booted. A virtual machine has its interfaces at power-on."""
        self.hot_plug()
        return self.container.boot()

    def install(self, wheel: Path) -> None:
        """What an operator does to upgrade in place; the agent is restarted by the caller."""
        tree = self.container.tree
        if not (tree / PIP[1:]).exists():
            add_pip(tree)
        shutil.copy(wheel, tree / "opt")
        options = ["-q", "--no-index", "--no-deps", "--root-user-action=ignore", f"/opt/{wheel.name}"]
        program = ["env", f"PYTHONPATH={PIP}", "/opt/amphorad/bin/python", "-m", "pip", "install"]
        self.container.run(*program, *options, timeout_s=120)

    # --- what it says ---

    def status(self) -> AgentStatus:
        with Client(self.container.processes_root / "run/amphorad/admin.sock", 10.0) as client:
            found = client.any_status()
        assert isinstance(found, AgentStatus)
        return found

    def vrrp(self) -> str:
        with contextlib.suppress(Exception):
            return self.status().vrrp
        return "no agent"

    def data_plane(self) -> int:
        """Process id inside of the one that serves, 0 while there is none."""
        with contextlib.suppress(Exception):
            return self.status().load_balancers[0].data_plane.pid
        return 0

    def runs(self, pid: int) -> bool:
        """Whether there is that process inside."""
        return (self.container.processes_root / "proc" / str(pid)).exists()

    def keepalived(self) -> list[int]:
        """Process ids inside: the parent, and its child that speaks VRRP."""
        pattern = "--use-file=/run/amphorad/vrrp/keepalived.conf"
        return [int(pid) for pid in self.container.run("pgrep", "-f", "--", pattern, check=False).split()]

    def has_vip(self) -> bool:
        listed = self.container.run(
            "ip", "-netns", "amphora-haproxy", "-o", "address", "show", "dev", "eth1", check=False
        )
        return f" {VIP}/" in listed


class ContainerPair:
    """Both nodes, the switch, a controller, members. Everything is gone after `with`."""

    def __init__(self, root: Root, directory: Path, identities: Identities) -> None:
        self.prefix = f"np{secrets.token_hex(2)}"
        self.root = root
        self.directory = directory
        self._identities = identities
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> ContainerPair:
        with contextlib.ExitStack() as stack:
            stack.enter_context(scratch(self.directory))
            self.switch = Namespace(f"{self.prefix}s")
            stack.callback(self.switch.delete)
            for name, address in (("mgmt", CONTROLLER), ("tenant", OUTSIDE)):
                self.switch.run("ip", "link", "add", name, "type", "bridge")
                self.switch.run("ip", "address", "add", f"{address}/24", "dev", name)
                self.switch.run("ip", "link", "set", name, "up")
            self.heartbeats = stack.enter_context(
                self.switch.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            )
            self.heartbeats.bind((CONTROLLER, HEARTBEAT_PORT))
            self.heartbeats.settimeout(WAIT_S)
            self.nodes: list[AmphoraNode] = []
            for name, number, priority in (("a", 21, 100), ("b", 22, 90)):
                node = AmphoraNode(self, name, number, priority, self._identities)
                stack.callback(node.namespace.delete)
                stack.enter_context(node.container)
                self.nodes.append(node)
            certificates = self.directory / "controller" / "certs"
            certificates.mkdir(parents=True)
            self._controller = stack.enter_context(
                Controller.configured(
                    self._identities, port=9443, cert_dir=certificates, base_path=BASE_PATH, ha_ip=VIP, vrrp_id=1
                )
            )
            for node in self.nodes:
                node.record = self._record(node)
            self.loop = stack.enter_context(LoopIn(self.switch.name))
            self.members = self.loop.enter(Members(2, OUTSIDE))
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._cleanup.close()

    def _record(self, node: AmphoraNode) -> Any:
        return modules().data_models.Amphora(
            id=node.amphora_id,
            lb_network_ip=node.management_ip,
            status="ALLOCATED",
            vrrp_ip=node.own_ip,
            ha_ip=VIP,
            vrrp_port_id=f"port-{node.name}",
            role="MASTER" if node.priority == 100 else "BACKUP",
            vrrp_priority=node.priority,
            vrrp_id=1,
        )

    # --- the controller ---

    def drive(self, call: Callable[[Any], Any]) -> Any:
        """Calls the driver from the management network."""
        return self.switch.call(lambda: call(self._controller.driver))

    def load_balancer(self, listeners: list[Any]) -> Any:
        models = modules().data_models
        found = models.LoadBalancer(
            id=LB_ID,
            project_id="e2c1d7a2b3f84d5f9a0b1c2d3e4f5a6b",
            enabled=True,
            topology="ACTIVE_STANDBY",
            vip=models.Vip(ip_address=VIP, vnic_type="normal"),
            additional_vips=[],
            listeners=listeners,
            amphorae=[node.record for node in self.nodes],
            vrrp_group=models.VRRPGroup(
                vrrp_group_name=LB_ID.replace("-", ""), vrrp_auth_type="PASS", vrrp_auth_pass="e2c1d7a", advert_int=1
            ),
        )
        for listener in listeners:
            listener.load_balancer = found
        return found

    def bring_up(self) -> None:
        """The controller's flow of a new load balancer, and of its listeners (Octavia contract section 1.6)."""
        for node in self.nodes:
            node.container.wait_active("amphora-agent", WAIT_S)
            self.drive(lambda driver, of=node.record: driver.check(of))
            node.plug_vip()
            node.record.vrrp_interface = self.drive(
                lambda driver, of=node: driver.get_interface_from_ip(of.record, of.own_ip)
            )
        balancer = self.load_balancer([])
        data = {"vip_subnet": {"cidr": SUBNET, "gateway_ip": OUTSIDE, "host_routes": []}, "additional_vip_data": []}
        network = {node.amphora_id: data for node in self.nodes}
        for node in self.nodes:
            self.drive(lambda driver, of=node.record: driver.update_vrrp_conf(balancer, network, of))
            self.drive(lambda driver, of=node.record: driver.start_vrrp_service(of))
        self.upload()
        self.settle()

    def upload(self, weight: int = 1) -> None:
        listeners = []
        for protocol, port in (("HTTP", HTTP), ("TCP", TCP)):
            members = [make_member(OUTSIDE, number, weight=weight) for number in self.members.ports]
            monitor = make_monitor("TCP", delay=2, timeout=2)
            pool = make_pool(protocol, members=members, monitor=monitor)
            listeners.append(make_listener(protocol, port, default_pool=pool, project_id="p"))
        balancer = self.load_balancer(listeners)
        for node in self.nodes:
            self.drive(lambda driver, of=node.record: driver.update_amphora_listeners(balancer, of))

    # --- the pair ---

    def settle(self) -> None:
        """Until one is MASTER and has the VIP, the other is BACKUP and has not, and both serve."""
        wait_for(self._is_settled, "a master and a backup")

    def _is_settled(self) -> bool:
        states = sorted(node.vrrp() for node in self.nodes)
        if states != ["BACKUP", "MASTER"] or not all(node.data_plane() for node in self.nodes):
            return False
        return all(node.has_vip() == (node.vrrp() == "MASTER") for node in self.nodes)

    @property
    def master(self) -> AmphoraNode:
        return next(node for node in self.nodes if node.vrrp() == "MASTER")

    @property
    def backup(self) -> AmphoraNode:
        return next(node for node in self.nodes if node.vrrp() != "MASTER")

    def client(self) -> VipClient:
        """One request per 10 ms."""
        return VipClient(self.switch.name, VIP)

    @contextlib.contextmanager
    def traffic(self) -> Iterator[Load]:
        """Clients of every kind, none of which may see a failure."""
        load = Load(HTTP, TCP, keep_alive=2, short=2, held=2, address=VIP)
        with contextlib.ExitStack() as stack:
            self.loop.run(load.__aenter__())
            stack.callback(lambda: self.loop.run(load.__aexit__(None, None, None)))
            self.loop.run(load.wait_answered(20))
            yield load
            self.loop.run(load.wait_answered(20))
        assert load.failures == [], load.failures[:5]

    def wait_heartbeat(self, node: AmphoraNode, decode: Callable[[bytes], Any], fact: Callable[[Any], bool]) -> Any:
        """The next heartbeat of a node for which something is true."""

        def found() -> Any:
            message = decode(self.heartbeats.recv(65536))
            return message if message["id"] == node.amphora_id and fact(message) else None

        return wait_for(found, f"a heartbeat of {node.name}")


class SharedPair:
    """A pair in service for many tests, one after the other; `with` ends it.

    Args:
        make: gives a pair that has not been booted.
    """

    def __init__(self, make: Callable[[], ContainerPair]) -> None:
        self._make = make
        self._pair: ContainerPair | None = None

    def __enter__(self) -> SharedPair:
        return self

    def __exit__(self, *_unused: object) -> None:
        pair, self._pair = self._pair, None
        if pair is not None:
            pair.__exit__()

    def settled(self) -> ContainerPair:
        """All links and agents there, one node MASTER, the other BACKUP, whatever the test before has done."""
        if self._pair is None:
            self._pair = self._make().__enter__()
            began = time.monotonic()
            self._pair.bring_up()
            print(f"in service {time.monotonic() - began:.1f} s after the boot")
        for node in self._pair.nodes:
            node.mend_link()
            node.container.run("systemctl", "start", "amphora-agent")
        self._pair.settle()
        return self._pair

    def give_up(self) -> None:
        """Ends a pair that a failed test may have left in any state, and prints what its agents said; the next one is new."""
        for node in self._pair.nodes if self._pair is not None else ():
            with contextlib.suppress(Exception):
                print(f"--- agent {node.name}:\n{node.container.journal('-u', 'amphora-agent')[-3000:]}")
        self.__exit__()
