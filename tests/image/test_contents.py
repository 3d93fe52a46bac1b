"""What is in the image's file system, and what must not be: keys, passwords, logins, other services."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.image.conftest import IMAGE, needs_containers
from tests.support.nspawn import mounted_image, scratch

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.nspawn,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not IMAGE.exists(), reason=f"no image at {IMAGE}: make image"),
    *needs_containers,
]

SIZE_LIMIT_BYTES = 200 * 2**20
USED_LIMIT_BYTES = 450 * 2**20
# A whole one; what cloud-init's documentation shows breaks off after a line.
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+([A-Za-z0-9+/=]{20,}\s+){2,}-----END")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("image")
    with scratch(directory), mounted_image(IMAGE, directory / "image") as found:
        yield found.layers[0]


def files(root: Path) -> Iterator[Path]:
    """Regular files, without following links out of the tree."""
    for directory, _names, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def test_image_keeps_its_size(root: Path) -> None:
    figures = os.statvfs(root)
    used = (figures.f_blocks - figures.f_bfree) * figures.f_frsize
    print(f"image {IMAGE.stat().st_size / 2**20:.0f} MiB, file system {used / 2**20:.0f} MiB")

    assert IMAGE.stat().st_size <= SIZE_LIMIT_BYTES
    assert used <= USED_LIMIT_BYTES


def test_no_private_key_is_in_the_image(root: Path) -> None:
    found = [path for path in files(root) if path.stat().st_size < 2**20 and PRIVATE_KEY.search(path.read_bytes())]

    assert found == []


def test_nobody_can_log_in(root: Path) -> None:
    passwords = [line.split(":")[1] for line in (root / "etc/shadow").read_text().splitlines()]

    assert all(password.startswith(("!", "*")) for password in passwords)
    assert not list(root.glob("**/authorized_keys"))
    assert not (root / "usr/sbin/sshd").exists()
    assert not list((root / "etc").glob("ssh/ssh_host_*"))
    assert not (root / "usr/sbin/in.telnetd").exists()


def test_nothing_of_the_machine_that_built_it_is_left(root: Path) -> None:
    machine_id = root / "etc/machine-id"

    assert machine_id.read_text().strip() in ("", "uninitialized")
    assert not (root / "var/lib/systemd/random-seed").exists()
    assert not (root / "var/lib/amphorad").exists()
    assert not list((root / "etc/octavia/certs").iterdir())
    assert not (root / "etc/octavia/octavia.conf").exists()  # Octavia contract section 8.4, number 9
    for directory in ("root", "home"):
        assert not [path for path in files(root / directory) if path.name not in (".bashrc", ".profile")]
    sources = "".join(
        path.read_text() for path in (root / "etc/apt").rglob("*") if path.suffix in (".list", ".sources")
    )
    assert "@" not in sources  # a mirror with a password


def test_only_known_units_start_at_boot(root: Path) -> None:
    units = root / "etc/systemd/system"
    wanted = {path.name for path in units.glob("*.target.wants/*")}
    masked = {path.name for path in units.iterdir() if path.is_symlink() and os.readlink(path) == "/dev/null"}
    enabled = wanted - masked

    assert {"amphora-agent.service", "amphorad-config-drive.service", "systemd-networkd.service"} <= enabled
    assert "cloud-init.target" in enabled
    assert not any(name.startswith(("ssh", "keepalived", "haproxy", "nftables", "apt-daily")) for name in enabled)
    assert {"keepalived.service", "getty.target"} <= masked


def test_programs_that_the_agent_calls_are_there(root: Path) -> None:
    for program in ("usr/sbin/keepalived", "usr/sbin/nft", "usr/sbin/ip", "usr/sbin/rsyslogd", "usr/sbin/dhclient"):
        assert os.path.lexists(root / program) or os.path.lexists(root / program.replace("usr/", "")), program
    assert os.readlink(root / "usr/local/bin/amphorad") == "/opt/amphorad/bin/amphorad"
    assert list(root.glob("opt/amphorad/lib/python3*/site-packages/amphorad/proxy/engine/*.so"))
    assert list(root.glob("opt/amphorad/lib/python3*/site-packages/amphorad/__pycache__/*.pyc"))
