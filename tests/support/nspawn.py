"""A whole amphora as a container: the image's own system and units, booted by systemd-nspawn at native speed.

The image is mounted read-only, each container writes to a layer of its own. Its network is a namespace that the test made;
"plugging" an interface is moving one end of a veth pair into it. The kernel is the one of this machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["Container", "mounted_image", "why_impossible"]

BOOT_LIMIT_S = 60.0
# What belongs to a cloud and a real network card.
MASKED = (
    "cloud-init.target",
    "cloud-init-local.service",
    "amphorad-boot-interface.service",
    "systemd-networkd.service",
)


def why_impossible() -> str | None:
    """Why containers cannot be booted here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [name for name in ("systemd-nspawn", "nsenter", "qemu-img", "mount") if shutil.which(name) is None]
    return f"needs {', '.join(missing)}" if missing else None


@contextlib.contextmanager
def mounted_image(image: Path, work: Path) -> Iterator[Path]:
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
        yield root
    finally:
        subprocess.run(["umount", str(root)], check=False, timeout=30)
        raw.unlink()


class Container:
    """One booted amphora; use it as a context manager.

    Args:
        namespace: name of its network namespace, made by the caller.
        files: contents by absolute path, there before the boot.
    """

    def __init__(self, name: str, root: Path, work: Path, namespace: str, files: Mapping[str, bytes]) -> None:
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
        layers = f"lowerdir={self._root},upperdir={upper},workdir={other}"
        # `work` must not lie on an overlay itself: a tmpfs always works.
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
        self.boot()
        return self

    def __exit__(self, *_: object) -> None:
        self.shut_down()
        subprocess.run(["umount", str(self.tree)], check=False, timeout=30)

    def boot(self) -> None:
        """Returns when systemd has started everything."""
        command = [
            "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "-D", str(self.tree), "-M", self.name,
            f"--network-namespace-path=/run/netns/{self._namespace}", "--capability=CAP_NET_ADMIN,CAP_NET_RAW",
            "--boot", "--console=pipe",
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
            time.sleep(0.1)

    def shut_down(self) -> None:
        """An orderly power-off."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    @property
    def console(self) -> str:
        return (self._work / "console.log").read_text(errors="replace")

    def run(self, *command: str, check: bool = True, timeout_s: float = 30.0) -> str:
        """Runs a command inside; returns its output.

        Raises:
            CalledProcessError: it failed, and `check`.
        """
        leader = self._leader()
        if leader is None:
            return ""
        enter = ["nsenter", "-t", str(leader), "-m", "-p", "-n", "-u", "-i", *command]
        result = subprocess.run(enter, check=False, capture_output=True, text=True, timeout=timeout_s)
        if check and result.returncode:
            raise AssertionError(f"{' '.join(command)}: exit {result.returncode}\n{result.stdout}{result.stderr}")
        return result.stdout

    def _leader(self) -> int | None:
        """The container's process 1, seen from outside: the child of systemd-nspawn."""
        assert self._process is not None
        listed = f"/proc/{self._process.pid}/task/{self._process.pid}/children"
        with contextlib.suppress(OSError, IndexError):
            with open(listed) as children:
                return int(children.read().split()[0])
        return None
