"""A root tree for containers without an image: this machine's system, read-only, with units, settings and an installed amphorad of its own.

    with host_tree(directory) as root:      directory is in a `scratch`
        Container("a", root, ...)

Nothing is downloaded or copied: programs and libraries are this machine's, seen through an overlay mount that hides its services and
its state. amphorad is installed from a wheel into /opt/amphorad, as the image does it; only its
dependencies come from the environment that the tests run in. Takes about three seconds.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pip

from tests.support.nspawn import Root
from tests.support.package_wheel import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PIP", "add_pip", "host_tree"]

PROJECT = Path(__file__).parents[2]
ELEMENTS = PROJECT / "images" / "elements"
ELEMENT = ELEMENTS / "amphorad"
PIP = "/opt/pip"
SYSTEM_FILES = (
    "usr/local/sbin/amphorad-boot-report",
    "etc/systemd/system/amphorad-boot-report.service",
    "etc/systemd/journald.conf.d/90-amphorad.conf",
)
# Seen empty in the container, whatever this machine has there.
ENABLED = ("amphora-agent.service", "var-lib-octavia-certs.mount", "amphorad-boot-report.service")
HIDDEN = ("etc/systemd/system", "etc/cron.d", "etc/sysctl.d", "var", "tmp", "run")


@contextlib.contextmanager
def host_tree(directory: Path) -> Iterator[Root]:
    """Made on entry; the mount below it is gone at the end, the files are the `scratch`'s."""
    upper, other, tree = (directory / name for name in ("host", "host-work", "host-tree"))
    for path in (upper, other, tree):
        path.mkdir(parents=True)
    for name in HIDDEN:
        path = upper / name
        path.mkdir(parents=True)
        os.setxattr(path, "trusted.overlay.opaque", b"y")
    packages = Path(sysconfig.get_path("purelib"))
    elsewhere = tuple(path for path in (packages, Path(sys.base_prefix)) if _is_elsewhere(path))
    root = Root((upper, Path("/")), elsewhere)
    layers = f"lowerdir=/,upperdir={upper},workdir={other}"
    _run("mount", "-t", "overlay", "overlay", "-o", layers, str(tree))
    try:
        _base(tree)
        add_pip(tree)
        _install(tree, packages, directory)
    finally:
        _run("umount", str(tree))
    yield root


def add_pip(tree: Path) -> None:
    """A pip that any interpreter in the tree can run: `PYTHONPATH=/opt/pip PYTHON -m pip`."""
    shutil.copytree(Path(pip.__file__).parent, tree / PIP[1:] / "pip", ignore=shutil.ignore_patterns("__pycache__"))


def _is_elsewhere(path: Path) -> bool:
    """Whether the overlay mount does not show it: it shows one file system, without what is hidden."""
    is_hidden = any(path.is_relative_to(Path("/") / name) for name in HIDDEN)
    return is_hidden or path.stat().st_dev != Path("/").stat().st_dev


def _base(tree: Path) -> None:
    """What systemd wants of a system that boots for the first time."""
    for name in ("var/log", "var/tmp", "var/cache", "var/lib", "run"):
        (tree / name).mkdir(exist_ok=True)
    (tree / "var/run").symlink_to("/run")
    (tree / "var/lock").symlink_to("/run/lock")
    for name in ("etc/machine-id", "etc/fstab", "etc/resolv.conf"):
        (tree / name).unlink(missing_ok=True)
        (tree / name).write_text("")
    # As the image: no names are resolved, else keepalived waits for a name server when it looks for the name of this host.
    (tree / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
    (tree / "etc/systemd/system/default.target").symlink_to("/lib/systemd/system/multi-user.target")
    shutil.copytree(ELEMENT / "static" / "etc" / "sysctl.d", tree / "etc/sysctl.d", dirs_exist_ok=True)
    shutil.copytree(ELEMENT / "static" / "etc" / "systemd", tree / "etc/systemd", dirs_exist_ok=True)
    system = ELEMENTS / "amphorad-system" / "static"
    for name in SYSTEM_FILES:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(system / name, tree / name)
    for file, line in (
        ("passwd", "amphorad:x:979:979::/nonexistent:/usr/sbin/nologin"),
        ("group", "amphorad:x:979:"),
    ):
        _append(tree / "etc" / file, line)


def _append(file: Path, line: str) -> None:
    text = file.read_text()
    if not any(found.startswith("amphorad:") for found in text.splitlines()):
        file.write_text(f"{text.rstrip()}\n{line}\n")


def _install(tree: Path, packages: Path, directory: Path) -> None:
    """As install.d/50-amphorad of the element, with this environment's dependencies."""
    environment = tree / "opt/amphorad"
    if environment.exists():
        raise RuntimeError("/opt/amphorad exists on this machine")
    interpreter = str(Path(sys.executable).resolve())
    inside = ["chroot", str(tree)]
    _run(*inside, interpreter, "-m", "venv", "--without-pip", "/opt/amphorad")
    wheel = make_wheel(directory, "0.0.1")
    shutil.copy(wheel, tree / "opt")
    _run(
        *inside,
        "env",
        f"PYTHONPATH={PIP}",
        "/opt/amphorad/bin/python",
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--no-deps",
        "--root-user-action=ignore",
        f"/opt/{wheel.name}",
    )
    site = next(environment.glob("lib/python3*/site-packages"))
    (site / "dependencies.pth").write_text(f"{packages}\n")
    link = tree / "usr/local/bin/amphorad"
    link.unlink(missing_ok=True)
    link.symlink_to("/opt/amphorad/bin/amphorad")
    for name in ("etc/octavia/certs", "var/lib/octavia/certs"):
        (tree / name).mkdir(parents=True, mode=0o700)
    for unit in (site / "amphorad" / "data" / "systemd").glob("*.service"):
        shutil.copy(unit, tree / "etc/systemd/system")
    _run("systemctl", f"--root={tree}", "enable", *ENABLED)


def _run(*command: str) -> None:
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, f"{' '.join(command)}: exit {result.returncode}\n{result.stdout}{result.stderr}"
