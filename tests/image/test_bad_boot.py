"""Whole amphorae whose boot went wrong: one line on the console says what, nothing listens, and what is repaired is taken without a restart.

The units and scripts are the image's; a container stands for the machine, an interface without address for a network without DHCP.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.image.conftest import needs_containers
from tests.support.agent_rig import Namespace
from tests.support.api_certificates import Identities, make_identities
from tests.support.boot_files import boot_files
from tests.support.container_pair import wait_for
from tests.support.controller import Controller, modules
from tests.support.nspawn import Container, Root, scratch
from tests.support.octavia_render import make_listener, make_member, make_pool, require_octavia

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

require_octavia()
pytestmark = [pytest.mark.nspawn, pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.may_leak, *needs_containers]

AMPHORA_ID = "33333333-39b2-4a36-8f0a-0e6c3c1a1a11"
CONTROLLER, OWN = "192.0.2.1", "192.0.2.21"
CONF, SERVER, CLIENT_CA = (
    "/etc/octavia/amphora-agent.conf",
    "/etc/octavia/certs/server.pem",
    "/etc/octavia/certs/client_ca.pem",
)
QUICK_REPORT = b"[Service]\nEnvironment=AMPHORAD_FIRST=1 AMPHORAD_PAUSE=1\n"


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    return make_identities(tmp_path_factory.mktemp("pki"), AMPHORA_ID)


@pytest.fixture
def good(identities: Identities) -> dict[str, bytes]:
    return boot_files(identities, f"{CONTROLLER}:5555")


class Machine:
    """One container, connected to a controller's namespace."""

    def __init__(self, container: Container, inside: Namespace, outside: Namespace) -> None:
        self.container = container
        self.inside = inside
        self.outside = outside

    def wait_console(self, *words: str) -> str:
        """The first line of the console that has all these words."""

        def found() -> str | None:
            lines = self.container.console.splitlines()
            return next((line for line in lines if all(word in line for word in words)), None)

        line: str = wait_for(found, f"a line on the console with {words}")
        print(line)
        return line

    def listening(self) -> list[str]:
        """Local addresses and ports of all sockets that wait for somebody."""
        return [line.split()[4] for line in self.container.run("ss", "-Hltun").splitlines()]

    def wait_listening(self) -> None:
        wait_for(lambda: "*:9443" in self.listening(), "the API")

    def greet(self, identities: Identities, certificate: Path | None = None) -> None:
        """A request of the controller, or of somebody with another certificate.

        Raises:
            OSError: no answer.
        """
        context = ssl.create_default_context(cafile=str(identities.server_ca))
        context.load_cert_chain(certificate or identities.client)
        plain = self.outside.call(lambda: socket.create_connection((OWN, 9443), 10))
        with plain, context.wrap_socket(plain, server_hostname=AMPHORA_ID) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            if not connection.recv(100).startswith(b"HTTP/1.1 200 "):
                raise ConnectionError("no answer")

    def put(self, files: Mapping[str, bytes]) -> None:
        for path, content in files.items():
            (self.container.tree / path[1:]).write_bytes(content)


@contextlib.contextmanager
def machine(
    root: Root, directory: Path, files: Mapping[str, bytes], *, has_address: bool = True, before: str = ""
) -> Iterator[Machine]:
    """Args: before: a shell command for a unit that runs before the agent."""
    token = secrets.token_hex(2)
    with contextlib.ExitStack() as stack:
        stack.enter_context(scratch(directory))
        inside, outside = Namespace(f"bb{token}i"), Namespace(f"bb{token}o")
        for namespace in (inside, outside):
            stack.callback(namespace.delete)
        ends = ["ip", "link", "add", "ctl0", "type", "veth", "peer", "name", "mgmt0", "netns", inside.name]
        outside.run(*ends)
        outside.run("ip", "address", "add", f"{CONTROLLER}/24", "dev", "ctl0")
        outside.run("ip", "link", "set", "ctl0", "up")
        inside.run("ip", "link", "set", "mgmt0", "up")
        if has_address:
            inside.run("ip", "address", "add", f"{OWN}/24", "dev", "mgmt0")
        mac = inside.run("ip", "-o", "link", "show", "dev", "mgmt0").split("link/ether ")[1].split()[0]
        more = {
            "/var/lib/amphorad/boot-interface": mac.encode(),
            "/etc/systemd/system/amphorad-boot-report.service.d/quick.conf": QUICK_REPORT,
        }
        if before:
            unit = f"[Service]\nExecStartPre=/bin/sh -c '{before}'\n"
            more["/etc/systemd/system/amphora-agent.service.d/before.conf"] = unit.encode()
        container = Container(f"bb{token}", root, directory / "machine", inside.name, {**files, **more})
        # The agent is not there yet when its files are missing, so the boot is over while it still starts.
        yield Machine(stack.enter_context(container), inside, outside)


def test_machine_without_injected_files_says_so_and_serves_when_they_come(
    tree: Root, tmp_path: Path, good: dict[str, bytes]
) -> None:
    with machine(tree, tmp_path / "m", {}) as found:
        found.wait_console(f"{CONF}: No such file")
        report = found.wait_console("config drive is missing", CONF, SERVER, CLIENT_CA)
        assert report.count("\n") == 0
        assert found.listening() == []

        (found.container.tree / "etc/octavia/certs").mkdir(exist_ok=True)
        found.put({path: content for path, content in good.items() if path.startswith("/etc/octavia/")})

        found.wait_listening()
        found.wait_console("amphorad: reachable at", OWN)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\x00\xff\xfe not a text", CONF), (b"[haproxy_amphora]\nbind_port = ninety\n", "ninety")],
    ids=["binary", "wrong-value"],
)
def test_broken_settings_are_named_and_nothing_listens_until_they_are_repaired(
    tree: Root, tmp_path: Path, good: dict[str, bytes], content: bytes, words: str
) -> None:
    with machine(tree, tmp_path / "m", good | {CONF: content}) as found:
        found.wait_console("amphorad", words)
        time.sleep(1.0)  # it tries again meanwhile, and must not open anything
        assert found.listening() == []

        found.put({CONF: good[CONF]})

        found.wait_listening()


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (SERVER, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        (SERVER, b""),
        (CLIENT_CA, b"no certificate"),
    ],
    ids=["certificate-broken", "certificate-empty", "authority-broken"],
)
def test_broken_certificate_is_named_and_nobody_gets_in_until_it_is_repaired(
    tree: Root, tmp_path: Path, good: dict[str, bytes], identities: Identities, path: str, content: bytes
) -> None:
    with machine(tree, tmp_path / "m", good | {path: content}) as found:
        found.wait_console("TLS files refused", path)
        found.wait_listening()
        with pytest.raises(OSError, match=r"."):
            found.greet(identities)

        found.put({path: good[path]})

        found.greet(identities)
        with pytest.raises(OSError, match=r"."):
            found.greet(identities, identities.strangers_client)


def test_certificate_of_another_time_is_taken_for_a_wrong_clock(
    tree: Root, tmp_path: Path, good: dict[str, bytes], identities: Identities
) -> None:
    """To the amphora it is the same whether its clock is a year ahead or its certificate a year old."""
    old = identities.server_authority.issue(AMPHORA_ID, days=-365)
    with machine(tree, tmp_path / "m", good | {SERVER: old}) as found:
        found.wait_console("amphorad: the clock says", "expired")
        found.wait_listening()  # with mutual TLS: the controller may be the one whose clock is right

        found.put({SERVER: good[SERVER]})

        found.wait_console("amphorad: reachable at", OWN)


def test_network_without_dhcp_is_said_until_there_is_an_address(
    tree: Root, tmp_path: Path, good: dict[str, bytes]
) -> None:
    with machine(tree, tmp_path / "m", good, has_address=False) as found:
        found.wait_console("amphorad: no address on the management interface", "DHCP")
        found.wait_listening()  # on whatever address comes

        found.inside.run("ip", "address", "add", f"{OWN}/24", "dev", "mgmt0")

        found.wait_console("amphorad: reachable at", OWN)


def test_full_disk_refuses_the_upload_with_a_reason_and_keeps_the_agent(
    tree: Root, tmp_path: Path, good: dict[str, bytes], identities: Identities
) -> None:
    small = "mountpoint -q /var/lib/octavia || mount -t tmpfs -o size=128k tmpfs /var/lib/octavia"
    with machine(tree, tmp_path / "m", good, before=small) as found:
        found.wait_listening()
        certificates = tmp_path / "controller" / "certs"
        certificates.mkdir(parents=True)
        configured = Controller.configured(
            identities,
            port=9443,
            cert_dir=certificates,
            base_path=Path("/var/lib/octavia"),
            lb_network_ip=OWN,
        )
        with configured as controller:
            driver, record = controller.driver, controller.amphora
            balancer = load_balancer(record)
            found.container.run("sh", "-c", "cat /dev/zero > /var/lib/octavia/filler || true")

            with pytest.raises(modules().errors.InternalServerError):
                found.outside.call(lambda: driver.update_amphora_listeners(balancer, record))

            assert found.outside.call(lambda: driver.get_info(record))["api_version"] == "1.0"
            assert "No space left on device" in found.container.journal("-u", "amphora-agent")
            found.container.run("rm", "/var/lib/octavia/filler")
            found.outside.call(lambda: driver.update_amphora_listeners(balancer, record))


def load_balancer(record: Any) -> Any:
    models = modules().data_models
    pool = make_pool("HTTP", members=[make_member("192.0.2.10", 8080)])
    listener = make_listener("HTTP", 80, default_pool=pool, project_id="p")
    listener.load_balancer = models.LoadBalancer(
        id="5f8e4a53-39b2-4a36-8f0a-0e6c3c1a1a11",
        project_id="e2c1d7a2b3f84d5f9a0b1c2d3e4f5a6b",
        enabled=True,
        topology="SINGLE",
        vip=models.Vip(ip_address="203.0.113.7", vnic_type="normal"),
        additional_vips=[],
        listeners=[listener],
        amphorae=[record],
    )
    return listener.load_balancer
