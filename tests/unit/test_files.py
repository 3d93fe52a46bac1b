from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from amphorad import files

if TYPE_CHECKING:
    from pathlib import Path

WRITER = """
import sys, itertools
from pathlib import Path
from amphorad.files import write_atomically
path = Path(sys.argv[1])
write_atomically(path, b"a" * 100000)
print("begun", flush=True)
for letter in itertools.cycle((b"b", b"a")):
    write_atomically(path, letter * 100000)
"""


@pytest.fixture
def wide_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


def test_write_new_file_has_content_and_mode(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        files.write_atomically(tmp_path / "file", b"content", 0o640)
    finally:
        os.umask(before)

    assert (tmp_path / "file").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.usefixtures("wide_umask")
def test_write_secret_is_private_under_any_umask(tmp_path: Path) -> None:
    files.write_atomically(tmp_path / "file", b"secret")

    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a long old content")

    files.write_atomically(tmp_path / "file", b"new")

    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"new"


def test_write_through_a_symbolic_link_replaces_the_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"target")
    (tmp_path / "file").symlink_to(tmp_path / "target")

    files.write_atomically(tmp_path / "file", b"new")

    assert (tmp_path / "target").read_bytes() == b"target"
    assert not (tmp_path / "file").is_symlink()


def test_write_that_fails_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inner").touch()

    with pytest.raises(OSError, match="directory"):
        files.write_atomically(tmp_path / "taken", b"new")

    assert os.listdir(tmp_path) == ["taken"]


def test_write_without_space_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit of the process stands for the full disk; the child ignores the signal that comes with it."""
    (tmp_path / "file").write_bytes(b"old")
    program = (
        "import resource, signal, sys, pathlib; from amphorad.files import write_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_atomically(pathlib.Path(sys.argv[1]), b'x' * 5000)\n"
        "except OSError as error: print(error.strerror)\n"
    )

    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path / "file")], capture_output=True, text=True)

    assert ended.stdout == "File too large\n", ended.stderr
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_writer_killed_at_any_moment_leaves_one_of_the_two_contents(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for _ in range(10):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "begun\n"
            for _ in range(20):  # it is looked at while it writes, too
                assert path.read_bytes() in (b"a" * 100000, b"b" * 100000)
            writer.send_signal(signal.SIGKILL)

        assert path.read_bytes() in (b"a" * 100000, b"b" * 100000)
        assert all(name == "file" or name.startswith(files.TEMPORARY_PREFIX) for name in os.listdir(tmp_path))


def test_make_directory_makes_parents_and_keeps_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir(mode=0o700)

    files.make_directory(tmp_path / "one" / "two" / "three", 0o750)

    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "one" / "two").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "one" / "two" / "three").stat().st_mode) == 0o750


def test_make_directory_over_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(NotADirectoryError):
        files.make_directory(tmp_path / "file")


def test_remove_says_whether_there_was_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert files.remove(tmp_path / "file")
    assert not files.remove(tmp_path / "file")
