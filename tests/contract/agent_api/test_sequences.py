"""The controller's call sequences, made by its real driver, against a real `amphorad agent` in namespaces: every call, its effect, its time.

Source: Octavia contract section 1.6.
"""

from __future__ import annotations

import contextlib
import http.client
import re
from typing import TYPE_CHECKING, Any

import pytest

from amphorad.agent.settings import read_settings
from tests.support.agent_rig import LB_ID, OUTSIDE_IP, OWN_IP, SUBNET, VIP, AmphoraRig, LoopIn
from tests.support.controller import RETRIES, Controller, modules
from tests.support.octavia_render import make_listener, make_member, make_monitor, make_pool, require_octavia
from tests.support.served import wait_until
from tests.support.traffic import Members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

require_octavia()
pytest.importorskip("amphorad.agent.process", reason="the agent is not complete yet")
pytest.importorskip("amphorad.network.plugging", reason="the agent is not complete yet")

pytestmark = [pytest.mark.netns, pytest.mark.timeout(90)]

MEMBER_SUBNET = "198.51.100.0/24"
MEMBER_IP = "198.51.100.1"  # of the outer network
OWN_MEMBER_IP = "198.51.100.20"
LIMIT_MS = 50.0
LOADED = 4.0  # the machine of a test run does other things too


class Amphora:
    """A running agent and the controller that drives it."""

    def __init__(self, rig: AmphoraRig, controller: Controller) -> None:
        self.rig = rig
        self.controller = controller

    def drive(self, call: Callable[[Any, Any], Any]) -> Any:
        """Calls the driver (with the amphora's record) from the management network."""
        driver, record = self.controller.driver, self.controller.amphora
        return self.rig.management.call(lambda: call(driver, record))

    @property
    def calls(self) -> list[tuple[str, str, int, float]]:
        """Method, path, status and milliseconds of every call so far; the log may be a little late."""
        pattern = re.compile(r"call method=(\S+) path=(\S+) status=(\d+) ms=(\S+) ")
        return [(m, path, int(status), float(ms)) for m, path, status, ms in pattern.findall(self.rig.log)]

    def wait_count(self, method: str, path: str, number: int) -> None:
        """Until the log has that many of these calls."""
        wait_until(lambda: sum(call[:2] == (method, path) for call in self.calls) == number)

    # --- what the controller's flows do ---

    def plug_vip(self, mac: str) -> None:
        models = modules().network_models
        port = models.Port(
            id="port-1",
            mac_address=mac,
            network=models.Network(id="network-1", mtu=1500),
            fixed_ips=[],
            vnic_type="normal",
        )
        subnet = models.Subnet(cidr=SUBNET, gateway_ip=OUTSIDE_IP, host_routes=[])
        balancer = self.load_balancer([])
        self.drive(lambda driver, record: driver.post_vip_plug(record, balancer, {}, port, subnet, []))

    def plug_network(self, mac: str) -> None:
        models = modules().network_models
        subnet = models.Subnet(cidr=MEMBER_SUBNET, gateway_ip=MEMBER_IP, host_routes=[])
        port = models.Port(
            id="port-2",
            mac_address=mac,
            network=models.Network(id="network-2", mtu=1500),
            fixed_ips=[models.FixedIP(ip_address=OWN_MEMBER_IP, subnet=subnet)],
            vnic_type="normal",
        )
        self.drive(lambda driver, record: driver.post_network_plug(record, port, {}))

    def update(self, balancer: Any) -> None:
        self.drive(lambda driver, record: driver.update_amphora_listeners(balancer, record))

    def load_balancer(self, listeners: list[Any], topology: str = "SINGLE") -> Any:
        models = modules().data_models
        found = models.LoadBalancer(
            id=LB_ID,
            project_id="e2c1d7a2b3f84d5f9a0b1c2d3e4f5a6b",
            enabled=True,
            topology=topology,
            vip=models.Vip(ip_address=VIP, vnic_type="normal"),
            additional_vips=[],
            listeners=listeners,
            amphorae=[self.controller.amphora],
            vrrp_group=models.VRRPGroup(
                vrrp_group_name=LB_ID.replace("-", ""), vrrp_auth_type="PASS", vrrp_auth_pass="e2c1d7a", advert_int=1
            ),
        )
        for listener in listeners:
            listener.load_balancer = found
        return found

    def get(self, port: int) -> bytes:
        """One request of a client in the outer network to the VIP."""

        def fetch() -> bytes:
            with contextlib.closing(http.client.HTTPConnection(VIP, port, timeout=5)) as connection:
                connection.request("GET", "/")
                return connection.getresponse().read()

        return self.rig.outside.call(fetch)


@contextlib.contextmanager
def amphora(topology: str) -> Iterator[Amphora]:
    with AmphoraRig(topology) as rig:
        rig.start()
        with Controller.configured(
            rig.identities,
            port=9443,
            cert_dir=rig.directory / "lib" / "certs",
            base_path=rig.directory / "lib",
            vrrp_ip=OWN_IP,
            ha_ip=VIP,
            vrrp_id=1,
        ) as controller:
            yield Amphora(rig, controller)


@pytest.fixture
def single() -> Iterator[Amphora]:
    with amphora("SINGLE") as found:
        yield found


@pytest.fixture
def members(single: Amphora) -> Iterator[Members]:
    """Two HTTP members in a network of their own behind the bridge."""
    single.rig.outside.run("ip", "address", "add", f"{MEMBER_IP}/24", "dev", "br0")
    with LoopIn(single.rig.outside.name) as loop:
        yield loop.enter(Members(2, MEMBER_IP))


def http_listener(members: Members, port: int = 80) -> Any:
    pool = make_pool(
        "HTTP",
        members=[make_member(MEMBER_IP, number) for number in members.ports],
        monitor=make_monitor("TCP", delay=1, timeout=1),
    )
    return make_listener("HTTP", port, default_pool=pool, project_id="p")


def test_sequence_from_boot_to_deletion(single: Amphora, members: Members) -> None:
    # first contact after boot
    single.drive(lambda driver, record: driver.check(record))
    info = single.drive(lambda driver, record: driver.get_info(record))
    assert info["keepalived_version"][0].isdigit()

    # the VIP's interface is not there yet: the controller repeats its call
    mac = "02:00:00:00:99:99"
    with pytest.raises(modules().driver_errors.TimeOutException):
        single.plug_vip(mac)
    single.wait_count("POST", f"/1.0/plug/vip/{VIP}", RETRIES)
    mac = single.rig.plug_interface()
    single.plug_vip(mac)
    single.plug_vip(mac)  # a repeated flow: 409, which is fine
    for address in (VIP, OWN_IP):
        assert single.drive(lambda driver, record, a=address: driver.get_interface_from_ip(record, a)) == "eth1"
    with pytest.raises(modules().errors.NotFound):
        single.drive(lambda driver, record: driver.get_interface_from_ip(record, "203.0.113.99"))

    # a member network, then the first listener
    single.plug_network(single.rig.plug_interface())
    assert single.drive(lambda driver, record: driver.get_interface_from_ip(record, OWN_MEMBER_IP)) == "eth2"
    listener = http_listener(members)
    balancer = single.load_balancer([listener])
    single.update(balancer)
    answers = {int(single.get(80)) for _ in range(8)}
    assert answers == set(members.ports)
    details = single.drive(lambda driver, record: driver.clients["1.0"].get_details(record))
    assert details["haproxy_count"] == 1
    assert details["listeners"] == [listener.id]
    assert set(details["networks"]) == {"eth1", "eth2"}
    assert all(figure > 0 for figures in details["networks"].values() for figure in figures.values())
    listed = single.drive(lambda driver, record: driver.clients["1.0"].get_all_listeners(record))
    assert listed == [{"status": "ACTIVE", "uuid": listener.id, "type": "HTTP"}]

    # a change: one member less, one listener more
    listener.default_pool.members = listener.default_pool.members[:1]
    second = http_listener(members, 8080)
    balancer.listeners.append(second)
    second.load_balancer = balancer
    single.update(balancer)
    assert {int(single.get(80)) for _ in range(4)} == {members.ports[0]}
    assert {int(single.get(8080)) for _ in range(8)} == set(members.ports)

    # a configuration that is refused: the old one serves on
    refused = single.rig.upload("frontend x\n    no such word\n")
    assert (refused.status, refused.json["message"]) == (400, "Invalid request")
    assert single.get(80)

    # one listener is deleted, then the last one
    single.drive(lambda driver, _record: driver.delete(second))
    assert single.get(80)
    with pytest.raises(ConnectionRefusedError):
        single.get(8080)
    single.drive(lambda driver, _record: driver.delete(listener))
    with pytest.raises(ConnectionRefusedError):
        single.get(80)
    single.drive(lambda driver, _record: driver.delete(listener))  # repeated
    assert single.drive(lambda driver, record: driver.clients["1.0"].get_all_listeners(record)) == []
    assert not (single.rig.directory / "lib" / LB_ID).exists()

    assert_in_time(single)


def assert_in_time(found: Amphora) -> None:
    """Every call that is not bound by another program: by a data plane that starts or ends, or by the kernel's interfaces."""
    deletion = ("DELETE", f"/1.0/listeners/{LB_ID}")
    found.wait_count(*deletion, 2)
    first_start = next(number for number, call in enumerate(found.calls) if call[1].endswith("/reload"))
    own = [
        call
        for number, call in enumerate(found.calls)
        if number != first_start and call[:2] != deletion and "/plug/" not in call[1]
    ]
    assert [call for call in own if call[3] > LIMIT_MS * LOADED] == []
    assert {call[2] for call in found.calls} <= {200, 202, 400, 404, 409}


def test_sequence_of_a_udp_listener(single: Amphora) -> None:
    pool = make_pool("UDP", members=[make_member(MEMBER_IP, 53)], monitor=make_monitor("UDP-CONNECT"))
    listener = make_listener("UDP", 53, default_pool=pool)
    balancer = single.load_balancer([listener])

    single.update(balancer)
    listed = single.drive(lambda driver, record: driver.clients["1.0"].get_all_listeners(record))
    text = single.rig.call("GET", f"/1.0/listeners/{listener.id}/udp_listener")
    single.drive(lambda driver, _record: driver.delete(listener))
    gone = single.rig.call("GET", f"/1.0/listeners/{listener.id}/udp_listener")

    assert [(entry["uuid"], entry["type"]) for entry in listed] == [(listener.id, "UDP")]
    assert text.body.decode().startswith(f"# Configuration for Loadbalancer {LB_ID}\n")
    assert gone.status == 404


def test_sequence_of_rotation_and_configuration(single: Amphora) -> None:
    rig = single.rig
    fresh = rig.identities.server_authority.issue(rig.identities.amphora_id)
    text = rig.file.read_text().replace("heartbeat_interval = 1", "heartbeat_interval = 3")

    single.drive(lambda driver, record: driver.upload_cert_amp(record, fresh))
    single.drive(lambda driver, record: driver.update_amphora_agent_config(record, text))
    single.drive(lambda driver, record: driver.get_info(record))
    with pytest.raises(modules().errors.InternalServerError):
        single.drive(
            lambda driver, record: driver.update_amphora_agent_config(
                record, "[health_manager]\nheartbeat_interval=x\n"
            )
        )

    assert (rig.directory / "server.pem").read_bytes() == fresh
    assert read_settings([rig.file]).heartbeat_interval == 3
    wait_until(lambda: {call[2] for call in single.calls} == {200, 202, 500})


def test_sequence_of_vrrp_before_any_listener() -> None:
    with amphora("ACTIVE_STANDBY") as found:
        found.plug_vip(found.rig.plug_interface())
        record = found.controller.amphora
        record.vrrp_interface = found.drive(lambda driver, of: driver.get_interface_from_ip(of, OWN_IP))
        balancer = found.load_balancer([], "ACTIVE_STANDBY")
        network = {
            record.id: {
                "vip_subnet": {"cidr": SUBNET, "gateway_ip": OUTSIDE_IP, "host_routes": []},
                "additional_vip_data": [],
            }
        }

        found.drive(lambda driver, of: driver.update_vrrp_conf(balancer, network, of))
        found.drive(lambda driver, of: driver.start_vrrp_service(of))
        running = [command for command in found.rig.tenant_processes().values() if "keepalived" in command]
        found.drive(lambda driver, of: driver.start_vrrp_service(of))  # a reload
        found.drive(lambda driver, _of: driver.reload_vrrp_service(balancer))
        found.drive(lambda driver, _of: driver.stop_vrrp_service(balancer))

        assert record.vrrp_interface == "eth1"
        assert running
        found.wait_count("PUT", "/1.0/vrrp/start", 2)
        assert not [command for command in found.rig.tenant_processes().values() if "keepalived" in command]
        # no listener, so nobody is MASTER and the VIP is nowhere
        with pytest.raises(modules().errors.NotFound):
            found.drive(lambda driver, of: driver.get_interface_from_ip(of, VIP))
