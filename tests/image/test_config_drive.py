"""Injected files are written before cloud-init comes: once per instance, whole, and never outside of what they name."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "images/elements/amphorad/static/usr/local/sbin/amphorad-config-drive"


def make_drive(at: Path, uuid: str, files: dict[str, bytes]) -> Path:
    content = at / "openstack/content"
    content.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, (path, data) in enumerate(files.items()):
        (content / f"{number:04}").write_bytes(data)
        entries.append({"path": path, "content_path": f"/content/{number:04}"})
    (at / "openstack/latest").mkdir(exist_ok=True)
    (at / "openstack/latest/meta_data.json").write_text(json.dumps({"uuid": uuid, "files": entries}))
    return at


def run(drive: Path, root: Path, *limits: str) -> str:
    found = subprocess.run(
        [*limits, sys.executable, "-IS", SCRIPT, drive, root], check=True, timeout=20, capture_output=True, text=True
    )
    assert not found.stderr
    return found.stdout


def test_files_are_written_once_per_instance(tmp_path: Path) -> None:
    root = tmp_path / "root"
    drive = make_drive(tmp_path / "drive", "one", {"/etc/octavia/certs/server.pem": b"first", "/etc/a.conf": b"\xff"})

    assert run(drive, root) == ""
    written = root / "etc/octavia/certs/server.pem"
    assert written.read_bytes() == b"first"
    assert (root / "etc/a.conf").read_bytes() == b"\xff"
    assert stat.S_IMODE(written.stat().st_mode) == 0o660
    assert sorted(path.name for path in written.parent.iterdir()) == ["server.pem"]

    written.write_bytes(b"from the controller")
    assert run(drive, root) == ""
    assert written.read_bytes() == b"from the controller"

    run(make_drive(tmp_path / "other", "two", {"/etc/octavia/certs/server.pem": b"second"}), root)
    assert written.read_bytes() == b"second"


@pytest.mark.parametrize("path", ["etc/relative", "/etc/../../outside", "/../outside"])
def test_path_that_leads_elsewhere_is_refused(path: str, tmp_path: Path) -> None:
    root = tmp_path / "deep/root"
    assert "not an absolute path" in run(make_drive(tmp_path / "drive", "one", {path: b"x"}), root)
    assert not list(tmp_path.rglob("outside"))
    assert not (root / "var/lib/amphorad/instance").exists()


@pytest.mark.parametrize("damage", ["no metadata", "no json", "not an object", "no content", "no uuid"])
def test_broken_drive_is_said_in_one_line_and_tried_again(damage: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    drive = make_drive(tmp_path / "drive", "one", {"/etc/a.conf": b"a"})
    meta = drive / "openstack/latest/meta_data.json"
    match damage:
        case "no metadata":
            meta.unlink()
        case "no json":
            meta.write_text("{")
        case "not an object":
            meta.write_text("[]")
        case "no content":
            (drive / "openstack/content/0000").unlink()
        case "no uuid":
            meta.write_text('{"files": []}')
    said = run(drive, root)
    assert said.startswith("amphorad: config drive: ")
    assert said.count("\n") == 1

    run(make_drive(drive, "one", {"/etc/a.conf": b"a"}), root)
    assert (root / "etc/a.conf").read_bytes() == b"a"


def test_disk_that_is_full_keeps_the_old_file_and_no_half_of_the_new(tmp_path: Path) -> None:
    root = tmp_path / "root"
    old = root / "etc/a.conf"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    drive = make_drive(tmp_path / "drive", "one", {"/etc/a.conf": b"x" * 8192})

    said = run(drive, root, "prlimit", "--fsize=4096")

    assert "config drive" in said
    assert "too large" in said
    assert old.read_bytes() == b"old"
    assert [entry.name for entry in old.parent.iterdir()] == ["a.conf"]
    assert run(drive, root) == ""
    assert old.read_bytes() == b"x" * 8192
