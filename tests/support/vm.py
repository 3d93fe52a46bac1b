"""A virtual machine booted from an amphora image, as Nova would: config drive, boot interface, interfaces plugged while it runs.

Emulated (qemu TCG): about fifteen times slower than the machine underneath, so nothing here measures speed. The guest's
management interface is qemu's user network; ports of the guest are forwarded to loopback.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.served import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["ConfigDrive", "Machine", "VirtualMachine", "missing_programs"]

PROGRAMS = ("qemu-system-x86_64", "qemu-img", "xorriso")
BOOT_LIMIT_S = 600.0  # a machine that does other things gives a guest a tenth of what an idle one does


def missing_programs() -> list[str]:
    """Programs that a virtual machine needs and this machine does not have."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@dataclass(frozen=True)
class Machine:
    """How the config drive is attached: `pc` has IDE, `q35` gets a virtio-scsi or a SATA (AHCI) drive."""

    name: str
    machine: str
    drive: tuple[str, ...]


IDE = Machine("pc-ide", "pc", ("-device", "ide-cd,drive=cd0"))
VIRTIO_SCSI = Machine("q35-virtio-scsi", "q35", ("-device", "virtio-scsi-pci", "-device", "scsi-cd,drive=cd0"))
SATA = Machine("q35-sata", "q35", ("-device", "ide-cd,drive=cd0"))


@dataclass(frozen=True)
class ConfigDrive:
    """A Nova config drive: injected files, host name and user data.

    Args:
        files: contents by absolute path inside the guest.
    """

    hostname: str
    files: Mapping[str, bytes]
    user_data: str = "#cloud-config\nruncmd:\n- systemctl restart rsyslog\ntimezone: UTC\n"

    def write(self, image: Path, work: Path) -> None:
        """Makes the ISO file, in the layout and with the label that Nova gives it."""
        tree = work / "config-drive"
        latest, content = tree / "openstack" / "latest", tree / "openstack" / "content"
        latest.mkdir(parents=True)
        content.mkdir()
        listed = []
        for number, (path, data) in enumerate(self.files.items()):
            (content / f"{number:04}").write_bytes(data)
            listed.append({"path": path, "content_path": f"/content/{number:04}"})
        meta = {
            "uuid": "7d2a5f1e-0000-4000-8000-000000000001",
            "hostname": self.hostname,
            "name": self.hostname,
            "files": listed,
        }
        (latest / "meta_data.json").write_text(json.dumps(meta))
        (latest / "user_data").write_text(self.user_data)
        command = ["xorriso", "-as", "mkisofs", "-quiet", "-V", "config-2", "-J", "-R", "-o", str(image), str(tree)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


class VirtualMachine:
    """One machine on an overlay of the image; use it as a context manager.

    Args:
        ports: TCP ports of the guest to reach on loopback; see `port`.
        drive: None for a machine without a config drive.
    """

    def __init__(
        self,
        image: Path,
        work: Path,
        drive: ConfigDrive | None,
        machine: Machine = IDE,
        ports: tuple[int, ...] = (9443,),
        memory_mib: int = 1024,
    ) -> None:
        self._work = work
        self._image = image
        self._drive = drive
        self._machine = machine
        self._memory_mib = memory_mib
        self._ports = {port: free_port() for port in ports}
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: socket.socket | None = None
        self._plugged: list[str] = []
        self._starts = 0

    def __enter__(self) -> VirtualMachine:
        work = self._work
        work.mkdir(parents=True, exist_ok=True)
        overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(self._image.resolve()), "-F", "qcow2"]
        subprocess.run([*overlay, str(work / "disk.qcow2"), "4G"], check=True, timeout=60)
        if self._drive is not None:
            self._drive.write(work / "config.iso", work)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Powers the machine on, the first time or again."""
        self._starts += 1
        self._plugged.clear()
        self._serial = self._work / f"serial-{self._starts}.log"
        forwards = ",".join(f"hostfwd=tcp:127.0.0.1:{ours}-:{theirs}" for theirs, ours in self._ports.items())
        command = [
            "qemu-system-x86_64", "-machine", self._machine.machine, "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
            "-m", str(self._memory_mib), "-nographic", "-nodefaults", "-serial", f"file:{self._serial}",
            "-drive", f"file={self._work / 'disk.qcow2'},if=virtio,cache=unsafe",
            "-netdev", f"user,id=n0,{forwards}", "-device", "virtio-net-pci,netdev=n0,romfile=",
            "-device", "virtio-rng-pci", "-qmp", f"unix:{self._work / 'qmp.sock'},server=on,wait=off",
        ]  # fmt: skip
        if self._machine.machine == "q35":  # hot-plug needs root ports there
            for number in range(4):
                command += ["-device", f"pcie-root-port,id=port{number},chassis={number + 1}"]
        if self._drive is not None:
            iso = f"file={self._work / 'config.iso'},media=cdrom,readonly=on,if=none,id=cd0"
            command += ["-drive", iso, *self._machine.drive]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def stop(self) -> None:
        """Pulls the plug."""
        if self._qmp is not None:
            self._qmp.close()
            self._qmp = None
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def port(self, guest_port: int) -> int:
        """The loopback port that reaches a port of the guest."""
        return self._ports[guest_port]

    @property
    def serial(self) -> str:
        """What the guest wrote to its serial console since the last start."""
        with contextlib.suppress(FileNotFoundError):
            return self._serial.read_text(errors="replace")
        return ""

    def wait_serial(self, text: str, limit_s: float = BOOT_LIMIT_S) -> float:
        """Seconds until the serial console showed a text; fails with the console's end."""
        began = time.monotonic()
        while text not in self.serial:
            self._check(began, limit_s, f"{text!r} on the serial console")
            time.sleep(0.25)
        return time.monotonic() - began

    def wait_port(self, guest_port: int, limit_s: float = BOOT_LIMIT_S) -> float:
        """Seconds until a port of the guest speaks TLS: qemu accepts connections before the guest does."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        began = time.monotonic()
        while True:
            self._check(began, limit_s, f"port {guest_port}")
            with contextlib.suppress(OSError):
                with socket.create_connection(("127.0.0.1", self.port(guest_port)), 10.0) as plain:
                    with context.wrap_socket(plain):  # TLS 1.3: done before the server asks who we are
                        return time.monotonic() - began
            time.sleep(0.25)

    def cpu_seconds(self) -> float:
        """CPU time that the machine has taken since its last start: unlike the time of a clock, it does not depend on what else runs here."""
        assert self._process is not None
        with open(f"/proc/{self._process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _check(self, began: float, limit_s: float, what: str) -> None:
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"qemu ended: {self._process.communicate()[1].decode()}\n{self.serial[-3000:]}")
        if time.monotonic() - began > limit_s:
            raise AssertionError(f"no {what} after {limit_s:.0f} s:\n{self.serial[-3000:]}")

    def qmp(self, execute: str, **arguments: Any) -> Any:
        """One command of the QEMU Machine Protocol."""
        if self._qmp is None:
            self._qmp = socket.socket(socket.AF_UNIX)
            self._qmp.settimeout(30)
            self._qmp.connect(str(self._work / "qmp.sock"))
            self._lines = self._qmp.makefile("rb")
            self._lines.readline()
            self._command("qmp_capabilities", {})
        return self._command(execute, arguments)

    def _command(self, execute: str, arguments: dict[str, Any]) -> Any:
        assert self._qmp is not None
        self._qmp.sendall(json.dumps({"execute": execute, "arguments": arguments}).encode() + b"\n")
        for _ in range(1000):
            answer = json.loads(self._lines.readline())
            if "error" in answer:
                raise AssertionError(f"{execute}: {answer['error']}")
            if "return" in answer:
                return answer["return"]
        raise AssertionError(f"{execute}: no answer")

    def plug(self, name: str, mac: str, network: str, forward: Mapping[int, str] | None = None) -> None:
        """Hot-plugs a virtio interface on a user network of its own.

        Args:
            network: IPv4 prefix of the network, such as 203.0.113.0/24.
            forward: address in the guest by TCP port there; reach it by `port`.
        """
        forwards = []
        for theirs, address in (forward or {}).items():
            self._ports[theirs] = free_port()
            forwards.append({"str": f"tcp:127.0.0.1:{self._ports[theirs]}-{address}:{theirs}"})
        self.qmp("netdev_add", type="user", id=name, net=network, hostfwd=forwards)
        where = {"bus": f"port{len(self._plugged)}"} if self._machine.machine == "q35" else {}
        self.qmp("device_add", driver="virtio-net-pci", id=f"{name}-card", netdev=name, mac=mac, romfile="", **where)
        self._plugged.append(name)
