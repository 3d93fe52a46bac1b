"""A whole amphora as a container: a system with the real units, booted by systemd-nspawn at native speed.

The root tree (of the image, or made by `host_tree`) is only read, each container writes to a layer of its own. Its network is a namespace
that the test made; "plugging" an interface is moving one end of a veth pair into it. The kernel is the one of this machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Container", "Root", "mounted_image", "scratch", "why_impossible"]

BOOT_LIMIT_S = 60.0
# What belongs to a cloud and a real network card.
MASKED = (
    "cloud-init.target",
    "cloud-init-local.service",
    "amphorad-boot-interface.service",
    "systemd-networkd.service",
)


@dataclass(frozen=True)
class Root:
    """A root tree: the layers of an overlay mount from the topmost down, and directories that lie on other file systems."""

    layers: tuple[Path, ...]
    binds: tuple[Path, ...] = ()

    @property
    def option(self) -> str:
        return "lowerdir=" + ":".join(map(str, self.layers))


def why_impossible(*programs: str) -> str | None:
    """Why containers cannot be booted here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    needed = ("systemd-nspawn", "nsenter", "mount", "ip", "nft", *programs)
    missing = [name for name in needed if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if missing:
        return f"needs {', '.join(missing)}"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "needs overlay mounts"
    return None


@contextlib.contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """An empty file system in RAM: the writable layer of an overlay cannot lie on an overlay, nor within what is below it."""
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g,mode=0755", "tmpfs", str(directory)], check=True, timeout=30)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--recursive", str(directory)], check=False, capture_output=True, timeout=30)


@contextlib.contextmanager
def mounted_image(image: Path, work: Path) -> Iterator[Root]:
    """The root file system of an image without partition table, or with one partition, mounted read-only."""
    raw, root = work / "image.raw", work / "root"
    root.mkdir(parents=True)
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(image), str(raw)], check=True, timeout=120)
    with raw.open("rb") as disk:
        disk.seek(0x438)
        has_table = disk.read(2) != b"\x53\xef"  # the magic of ext4 where its superblock would be
    options = "loop,ro,offset=1048576" if has_table else "loop,ro"
    subprocess.run(["mount", "-o", options, str(raw), str(root)], check=True, timeout=30)
    try:
        yield Root((root,))
    finally:
        subprocess.run(["umount", str(root)], check=False, timeout=30)
        raw.unlink()


class Container:
    """One booted amphora; use it as a context manager.

    Args:
        work: an empty directory of a `scratch`.
        namespace: name of its network namespace, made by the caller.
        files: contents by absolute path, there before the boot.
    """

    def __init__(self, name: str, root: Root, work: Path, namespace: str, files: Mapping[str, bytes]) -> None:
        self.name = name
        self._root = root
        self._work = work
        self._namespace = namespace
        self._files = files
        self._process: subprocess.Popen[bytes] | None = None
        self.tree = work / "tree"

    def __enter__(self) -> Container:
        upper, other = self._work / "upper", self._work / "other"
        for directory in (self.tree, upper, other):
            directory.mkdir(parents=True)
        layers = f"{self._root.option},upperdir={upper},workdir={other}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, str(self.tree)], check=True, timeout=30)
        for path, content in self._files.items():
            target = self.tree / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(0o660)
        (self.tree / "etc/hostname").write_text(f"{self.name}\n")
        for unit in MASKED:
            mask = self.tree / "etc/systemd/system" / unit
            mask.unlink(missing_ok=True)
            mask.symlink_to("/dev/null")
        try:
            self.boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.pull_the_plug()
        subprocess.run(["umount", str(self.tree)], check=False, timeout=30)

    def boot(self) -> float:
        """Returns when systemd has started everything that it starts: the seconds that took."""
        self._console = (
            (self._work / "console.log").stat().st_size if self._work.joinpath("console.log").exists() else 0
        )
        command = [
            "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "-D", str(self.tree), "-M", self.name,
            f"--network-namespace-path=/run/netns/{self._namespace}", "--capability=CAP_NET_ADMIN,CAP_NET_RAW",
            *(f"--bind-ro={path}" for path in self._root.binds), "--resolv-conf=off", "--timezone=off",
            "--boot", "--console=read-only",
        ]  # fmt: skip
        with (self._work / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"},
            )
        began = time.monotonic()
        while self.run("systemctl", "is-system-running", check=False).strip() not in ("running", "degraded"):
            assert self._process.poll() is None, self.console
            assert time.monotonic() - began < BOOT_LIMIT_S, self.console
            time.sleep(0.05)
        return time.monotonic() - began

    def shut_down(self) -> None:
        """An orderly power-off."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        self.pull_the_plug()

    def pull_the_plug(self) -> None:
        """Everything in it dies at once."""
        if self._process is None:
            return
        leader = self.leader
        if leader is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(leader, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        self._process.kill()
        self._process.wait()
        self._process = None

    @property
    def console(self) -> str:
        """What it has written to its console since it was booted last."""
        with (self._work / "console.log").open("rb") as file:
            file.seek(self._console)
            return file.read().decode(errors="replace")

    def journal(self, *arguments: str) -> str:
        return self.run("journalctl", "--no-pager", "-q", "-o", "cat", *arguments)

    @property
    def processes_root(self) -> Path:
        """The root directory as its processes see it: with what is mounted inside, such as /run."""
        return Path(f"/proc/{self.leader}/root")

    def wait_active(self, unit: str, limit_s: float = BOOT_LIMIT_S) -> float:
        """Seconds until a unit runs; fails with what it has written."""
        began = time.monotonic()
        while self.run("systemctl", "is-active", unit, check=False).strip() != "active":
            if time.monotonic() - began > limit_s:
                raise AssertionError(
                    f"{unit} does not run:\n{self.journal('-u', unit)[-3000:]}\n{self.console[-1000:]}"
                )
            time.sleep(0.05)
        return time.monotonic() - began

    def main_pid(self, unit: str) -> int:
        """The main process of a unit, by its number inside; 0 while there is none."""
        return int(self.run("systemctl", "show", "--property=MainPID", "--value", unit))

    def run(self, *command: str, check: bool = True, timeout_s: float = 30.0) -> str:
        """Runs a command inside; returns its output.

        Raises:
            CalledProcessError: it failed, and `check`.
        """
        leader = self.leader
        if leader is None:
            return ""
        enter = ["nsenter", "-t", str(leader), "-m", "-p", "-n", "-u", "-i", *command]
        result = subprocess.run(enter, check=False, capture_output=True, text=True, timeout=timeout_s)
        if check and result.returncode:
            raise AssertionError(f"{' '.join(command)}: exit {result.returncode}\n{result.stdout}{result.stderr}")
        return result.stdout

    @property
    def leader(self) -> int | None:
        """The container's process 1, seen from outside: the child of systemd-nspawn."""
        assert self._process is not None
        listed = f"/proc/{self._process.pid}/task/{self._process.pid}/children"
        with contextlib.suppress(OSError, IndexError):
            with open(listed) as children:
                return int(children.read().split()[0])
        return None
