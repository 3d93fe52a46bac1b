from __future__ import annotations

import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from amphorad.agent.storage import Storage
from amphorad.agent_api.identifiers import is_id

if TYPE_CHECKING:
    from pathlib import Path

LB = "5f8e4a53-39b2-4a36-8f0a-0e6c3c1a1a11"
OTHER = "00000000-39b2-4a36-8f0a-0e6c3c1a1a11"
OLD = b"old" * 1000
NEW = b"new" * 2000

# Ends the process, as SIGKILL does, before the nth system call that changes a disk.
CRASHING = """
import os, sys
from pathlib import Path
from amphorad.agent.storage import Storage
steps = 0
def counted(function):
    def called(*arguments, **options):
        global steps
        steps += 1
        if steps == int(sys.argv[3]):
            os._exit(9)
        return function(*arguments, **options)
    return called
for name in ("fsync", "replace", "rename", "unlink", "mkdir", "rmdir", "open", "fchmod", "chmod"):
    setattr(os, name, counted(getattr(os, name)))
storage = Storage(Path(sys.argv[1]), Path(sys.argv[1]) / "certs")
eval(sys.argv[2])
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path, tmp_path / "certs")


def everything_below(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def crashed(directory: Path, step: int, action: str) -> bool:
    """Runs an action up to a step; False when it has no such step."""
    ended = subprocess.run([sys.executable, "-c", CRASHING, str(directory), action, str(step)], capture_output=True)
    assert ended.returncode in (0, 9), ended.stderr.decode()
    return ended.returncode == 9


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "../" + LB,
        LB + "/",
        LB.upper(),
        LB[:-1],
        LB + "0",
        LB.replace("-", "_"),
        "x" * 36,
        LB + "\n",
        "１" + LB[1:],
    ],
)
def test_names_that_are_no_uuid_never_reach_the_disk(tmp_path: Path, storage: Storage, text: str) -> None:
    assert not is_id(text)
    for call in (storage.uploaded, storage.active, storage.delete, storage.lvs, storage.delete_lvs):
        with pytest.raises(ValueError, match="identifier"):
            call(text)
    with pytest.raises(ValueError, match="identifier"):
        storage.set_uploaded(text, b"")
    assert everything_below(tmp_path) == []


def test_texts_are_kept_byte_for_byte_and_private(tmp_path: Path, storage: Storage) -> None:
    text = b"bytes \xff\r\n of any kind"

    storage.set_uploaded(LB, text)
    storage.set_active(LB, b"other")

    assert (storage.uploaded(LB), storage.active(LB)) == (text, b"other")
    for name in ("haproxy.cfg", "active.cfg"):
        assert stat.S_IMODE((tmp_path / LB / name).stat().st_mode) == 0o600


def test_what_is_not_there_reads_as_none(storage: Storage) -> None:
    assert (storage.uploaded(LB), storage.active(LB), storage.lvs(LB)) == (None, None, None)
    assert (storage.load_balancer_ids(), storage.lvs_ids(), storage.is_lvs_started(LB)) == ((), (), False)


def test_only_directories_with_a_text_are_load_balancers(tmp_path: Path, storage: Storage) -> None:
    storage.set_uploaded(LB, b"")
    for name in ("vrrp", "lvs", "certs", OTHER):
        (tmp_path / name).mkdir(exist_ok=True)

    assert storage.load_balancer_ids() == (LB,)


def test_delete_takes_certificates_along_and_leaves_other_load_balancers(tmp_path: Path, storage: Storage) -> None:
    for lb_id in (LB, OTHER):
        storage.set_uploaded(lb_id, b"")
        (tmp_path / "certs" / lb_id).mkdir(parents=True)
        (tmp_path / "certs" / lb_id / "a.pem").touch()

    storage.delete(LB)
    storage.delete(LB)

    assert everything_below(tmp_path) == [
        OTHER,
        f"{OTHER}/haproxy.cfg",
        "certs",
        f"certs/{OTHER}",
        f"certs/{OTHER}/a.pem",
    ]


def test_lvs_text_has_the_stock_name_and_mode_and_remembers_its_start(tmp_path: Path, storage: Storage) -> None:
    """Octavia contract section 6.1."""
    storage.set_lvs(LB, b"text")
    storage.set_lvs_started(LB, True)

    path = tmp_path / "lvs" / f"octavia-keepalivedlvs-{LB}.conf"
    assert path.read_bytes() == b"text"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert (storage.lvs_ids(), storage.is_lvs_started(LB)) == ((LB,), True)

    storage.set_lvs_started(LB, False)
    assert not storage.is_lvs_started(LB)
    storage.delete_lvs(LB)
    assert storage.lvs_ids() == ()


def test_crash_at_every_step_of_a_write_leaves_the_old_or_the_new_text(tmp_path: Path) -> None:
    step = 0
    while True:
        step += 1
        storage = Storage(tmp_path, tmp_path / "certs")
        storage.set_uploaded(LB, OLD)
        storage.set_active(LB, OLD)
        more = crashed(tmp_path, step, f"storage.set_uploaded('{LB}', b'new' * 2000)")
        more |= crashed(tmp_path, step, f"storage.set_active('{LB}', b'new' * 2000)")

        assert storage.uploaded(LB) in (OLD, NEW)
        assert storage.active(LB) in (OLD, NEW)
        storage.clean()
        assert everything_below(tmp_path) == [LB, f"{LB}/active.cfg", f"{LB}/haproxy.cfg"]
        if not more:
            break
    assert step > 5
    assert (storage.uploaded(LB), storage.active(LB)) == (NEW, NEW)


def test_crash_at_every_step_of_a_first_write_leaves_nothing_or_the_text(tmp_path: Path) -> None:
    step, more = 0, True
    while more:
        step += 1
        base = tmp_path / str(step)
        storage = Storage(base, base / "certs")
        more = crashed(base, step, f"storage.set_uploaded('{LB}', b'new' * 2000)")

        assert storage.uploaded(LB) in (None, NEW)
        storage.clean()
        assert storage.load_balancer_ids() in ((), (LB,))
    assert step > 5
    assert storage.uploaded(LB) == NEW


def test_crash_at_every_step_of_a_delete_leaves_all_or_nothing(tmp_path: Path) -> None:
    step, more = 0, True
    while more:
        step += 1
        storage = Storage(tmp_path, tmp_path / "certs")
        storage.set_uploaded(LB, OLD)
        storage.set_active(LB, OLD)
        (tmp_path / "certs" / LB).mkdir(parents=True, exist_ok=True)
        (tmp_path / "certs" / LB / "key.pem").touch()
        more = crashed(tmp_path, step, f"storage.delete('{LB}')")

        assert (storage.uploaded(LB), storage.active(LB)) in ((OLD, OLD), (None, None))
        storage.clean()
        left = [LB, f"{LB}/active.cfg", f"{LB}/haproxy.cfg", "certs", f"certs/{LB}", f"certs/{LB}/key.pem"]
        assert everything_below(tmp_path) in (left, ["certs"])
    assert step > 2
    assert storage.uploaded(LB) is None


def test_clean_forgets_the_start_of_a_listener_that_has_no_text(tmp_path: Path, storage: Storage) -> None:
    storage.set_lvs(LB, b"text")
    storage.set_lvs_started(LB, True)
    storage.lvs_path(LB).unlink()

    storage.clean()

    assert everything_below(tmp_path) == ["lvs"]
