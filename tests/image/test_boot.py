"""The image as Nova boots it: config drive, first contact, VIP, traffic, heartbeats, reboot without a controller. Emulated, so slow."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.image.conftest import IMAGE
from tests.support import vm
from tests.support.api_certificates import Identities, make_identities
from tests.support.boot_files import HEARTBEAT_KEY, boot_files
from tests.support.controller import Controller, modules
from tests.support.octavia_render import make_listener, make_member, make_monitor, make_pool, require_octavia
from tests.support.vm import ConfigDrive, Machine, VirtualMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

require_octavia()

pytestmark = [
    pytest.mark.vm,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.may_leak,  # qemu and the controller's session pool live longer than one test
    pytest.mark.skipif(not IMAGE.exists(), reason=f"no image at {IMAGE}: make image"),
    pytest.mark.skipif(bool(vm.missing_programs()), reason=f"needs {', '.join(vm.missing_programs())}"),
]
AMPHORA_ID = "33333333-39b2-4a36-8f0a-0e6c3c1a1a11"
LB_ID = "5f8e4a53-39b2-4a36-8f0a-0e6c3c1a1a11"
VIP, OWN_IP, SUBNET = "203.0.113.7", "203.0.113.20", "203.0.113.0/24"
HOST_THERE = "203.0.113.2"  # this machine, as the guest sees it on that network (qemu's user network)
MEMBER_SUBNET, MEMBER_IP, MEMBER = "198.51.100.0/24", "198.51.100.20", "198.51.100.2"  # likewise, on another one
HOST_HERE = "10.0.2.2"  # the same on the management network
MAC, MEMBER_MAC = "fa:16:3e:00:00:77", "fa:16:3e:00:00:78"
BUDGET_BYTES = 200 * 2**20
PORT_LIMIT_S = 60.0


class MemberHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"member")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    return make_identities(tmp_path_factory.mktemp("identities"), AMPHORA_ID)


@contextlib.contextmanager
def member() -> Iterator[int]:
    """An HTTP server on loopback; gives its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), MemberHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def config_drive(identities: Identities, heartbeat_port: int) -> ConfigDrive:
    files = boot_files(identities, f"{HOST_HERE}:{heartbeat_port}")
    return ConfigDrive("amphora-33333333", files)


def balancer(record: Any, member_port: int) -> Any:
    models = modules().data_models
    pool = make_pool(
        "HTTP", members=[make_member(MEMBER, member_port)], monitor=make_monitor("TCP", delay=2, timeout=2)
    )
    listener = make_listener("HTTP", 80, default_pool=pool, project_id="p")
    found = models.LoadBalancer(
        id=LB_ID,
        project_id="e2c1d7a2b3f84d5f9a0b1c2d3e4f5a6b",
        enabled=True,
        topology="SINGLE",
        vip=models.Vip(ip_address=VIP, vnic_type="normal"),
        additional_vips=[],
        listeners=[listener],
        amphorae=[record],
    )
    listener.load_balancer = found
    return found


def plug_vip(driver: Any, record: Any, machine: VirtualMachine) -> None:
    models = modules().network_models
    network = models.Network(id="network-1", mtu=1500)
    port = models.Port(id="port-1", mac_address=MAC, network=network, fixed_ips=[], vnic_type="normal")
    subnet = models.Subnet(cidr=SUBNET, gateway_ip=HOST_THERE, host_routes=[])
    machine.plug("vip", MAC, SUBNET, {80: VIP})
    when_seen(lambda: driver.post_vip_plug(record, balancer(record, 1), {}, port, subnet, []))


def plug_member_network(driver: Any, record: Any, machine: VirtualMachine) -> None:
    models = modules().network_models
    subnet = models.Subnet(cidr=MEMBER_SUBNET, gateway_ip=MEMBER, host_routes=[])
    port = models.Port(
        id="port-2",
        mac_address=MEMBER_MAC,
        network=models.Network(id="network-2", mtu=1500),
        fixed_ips=[models.FixedIP(ip_address=MEMBER_IP, subnet=subnet)],
        vnic_type="normal",
    )
    machine.plug("members", MEMBER_MAC, MEMBER_SUBNET)
    when_seen(lambda: driver.post_network_plug(record, port, {}))


def when_seen(plug: Callable[[], None]) -> None:
    """The guest may not have seen the interface yet."""
    with contextlib.suppress(modules().driver_errors.TimeOutException):
        plug()
        return
    time.sleep(10)
    plug()


def memory_used_mib(driver: Any, record: Any) -> float:
    """Of the whole guest, without what it would give back, as the agent tells the controller in KiB."""
    found = driver.clients["1.0"].get_details(record)["memory"]
    return float(found["total"] - found["free"] - found["buffers"] - found["cached"]) / 1024


def wait_answer(port: int, limit_s: float) -> bytes:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as client:
                client.request("GET", "/")
                return client.getresponse().read()
        except (OSError, http.client.HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def heartbeat(receiver: socket.socket, wanted: int, limit_s: float = 400.0) -> dict[str, Any]:
    """The first one, read by the real decoder, that has that many listeners."""
    decode = pytest.importorskip("octavia.amphorae.backends.health_daemon.status_message").unwrap_envelope
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        found: dict[str, Any] = decode(receiver.recv(65536), HEARTBEAT_KEY)
        if len(found["listeners"]) == wanted:
            return found
    raise AssertionError(f"no heartbeat with {wanted} listeners")


def test_image_keeps_its_size() -> None:
    assert IMAGE.stat().st_size <= BUDGET_BYTES


@pytest.mark.parametrize("hardware", [vm.IDE, vm.VIRTIO_SCSI, vm.SATA], ids=lambda machine: machine.name)
def test_controller_takes_it_to_service_and_it_comes_back_without_one(
    hardware: Machine, identities: Identities, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver, member() as member_port:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(240)
        drive = config_drive(identities, receiver.getsockname()[1])
        with VirtualMachine(IMAGE, tmp_path / "vm", drive, hardware) as machine:
            took_s = machine.wait_port(9443)
            print(f"{hardware.name}: port 9443 answers after {took_s:.1f} s and {machine.cpu_seconds():.1f} s of CPU")
            assert heartbeat(receiver, 0)["id"] == AMPHORA_ID
            certificates = tmp_path / "controller" / "certs"
            certificates.mkdir(parents=True)
            with Controller.configured(
                identities, port=machine.port(9443), cert_dir=certificates, base_path=Path("/var/lib/octavia")
            ) as controller:
                driver, record = controller.driver, controller.amphora
                driver.check(record)
                assert driver.get_info(record)["api_version"] == "1.0"
                print(f"{hardware.name}: {memory_used_mib(driver, record):.0f} MiB of memory used when idle")
                plug_vip(driver, record, machine)
                plug_member_network(driver, record, machine)
                driver.update_amphora_listeners(balancer(record, member_port), record)
            assert wait_answer(machine.port(80), 200) == b"member"
            assert heartbeat(receiver, 1)["listeners"].popitem()[1]["status"] == "OPEN"
            if hardware is not vm.IDE:
                return
            machine.qmp("system_reset")  # as a crash of the machine: nothing is shut down
            time.sleep(5)
            assert wait_answer(machine.port(80), 700) == b"member"


def test_machine_without_a_config_drive_says_so_and_opens_no_port(tmp_path: Path) -> None:
    with VirtualMachine(IMAGE, tmp_path / "vm", None) as machine:
        machine.wait_serial("/etc/octavia/amphora-agent.conf")
        with pytest.raises(AssertionError, match="no port 9443"):
            machine.wait_port(9443, 10)
