"""What the image's kernel has that the data plane uses, and that its next steps will: asked inside the booted image, read on its console.

A container cannot answer this: its kernel is that of the machine underneath.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

import pytest

from tests.image.conftest import IMAGE
from tests.support import vm
from tests.support.vm import ConfigDrive, VirtualMachine

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.vm,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(not IMAGE.exists(), reason=f"no image at {IMAGE}: make image"),
    pytest.mark.skipif(bool(vm.missing_programs()), reason=f"needs {', '.join(vm.missing_programs())}"),
]

# Each function does the thing; its name is the feature's. TCP_ULP is 31 (linux/tcp.h), SCTP protocol 132.
PROBES = """
import os, socket, subprocess

def ktls():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        client.setsockopt(socket.IPPROTO_TCP, 31, b"tls")

def sctp():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132) as server:
        server.bind(("127.0.0.1", 0)); server.listen()
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132) as client:
            client.connect(server.getsockname())

def ipvs():
    for name in ("ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_lc", "ip_vs_sh"):
        subprocess.run(["modprobe", name], check=True)
    assert open("/proc/net/ip_vs").read().startswith("IP Virtual Server")

def conntrack():
    rules = "table inet probe { chain c { type filter hook input priority 0; ct state established,related counter accept; }; }"
    subprocess.run(["nft", rules], check=True)
    subprocess.run(["nft", "delete table inet probe"], check=True)
    assert int(open("/proc/sys/net/netfilter/nf_conntrack_max").read()) > 0

def masquerade():
    rules = "table ip probe { chain c { type nat hook postrouting priority 100; meta l4proto { udp, sctp } masquerade; }; }"
    subprocess.run(["nft", rules], check=True)
    subprocess.run(["nft", "delete table ip probe"], check=True)

def splice():
    first, second = socket.socketpair()
    reader, writer = os.pipe()
    first.sendall(b"through")
    assert os.splice(second.fileno(), writer, 100) == 7
    assert os.read(reader, 100) == b"through"

def namespaces():
    subprocess.run(["ip", "netns", "add", "probe"], check=True)
    subprocess.run(["ip", "netns", "delete", "probe"], check=True)

def reuseport_and_nonlocal_bind():
    assert open("/proc/sys/net/ipv4/ip_nonlocal_bind").read().strip() == "1"
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("198.51.100.77", 8080))

for probe in (ktls, sctp, ipvs, conntrack, masquerade, splice, namespaces, reuseport_and_nonlocal_bind):
    try:
        probe()
        found = "present"
    except BaseException as error:
        found = f"absent {error!r}"
    print(f"PROBE {probe.__name__}: {found}", flush=True)
print("PROBE end: present", flush=True)
"""
FEATURES = (
    "ktls",
    "sctp",
    "ipvs",
    "conntrack",
    "masquerade",
    "splice",
    "namespaces",
    "reuseport_and_nonlocal_bind",
    "end",
)


def test_kernel_has_what_the_data_plane_and_its_next_steps_use(tmp_path: Path) -> None:
    """The machine has a config drive, but no file of the controller on it; the console says that too."""
    encoded = base64.b64encode(PROBES.encode()).decode()
    command = f"echo {encoded} | base64 -d > /run/probes.py; /opt/amphorad/bin/python /run/probes.py > /dev/ttyS0 2>&1"
    drive = ConfigDrive("amphora-probe", {}, user_data=f"#cloud-config\nruncmd:\n- {command}\n")

    with VirtualMachine(IMAGE, tmp_path / "vm", drive) as machine:
        machine.wait_serial("config drive is missing or broken; it did not bring /etc/octavia/amphora-agent.conf", 900)
        machine.wait_serial("PROBE end", 1200)
        print(f"{machine.cpu_seconds():.0f} s of CPU from power-on to the end of cloud-init")
        answers = dict(re.findall(r"PROBE (\w+): ([^\r\n]*)", machine.serial))

    assert answers == dict.fromkeys(FEATURES, "present")
