"""Files that are either the old or the new ones, whatever happens in between.

Everything here blocks for as long as the disk takes (an fsync may take seconds on a bad day): call it in a thread
(`asyncio.to_thread`) from an event loop.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TEMPORARY_PREFIX", "make_directory", "remove", "sync_directory", "write_atomically"]

TEMPORARY_PREFIX = ".new-"  # of files that a crash may leave behind; nobody reads them


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Makes `path` hold exactly `content`, durably; after a crash at any point it is the old file or the new one.

    The content goes to a temporary file in the same directory, which is flushed to the disk, renamed over `path`, and the
    directory is flushed too. The temporary file has `mode` from its first byte, so a secret is never readable for others.

    Raises:
        OSError: nothing has changed, and no temporary file is left.
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, mode)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask is
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(path.parent)


def make_directory(path: Path, mode: int = 0o755) -> None:
    """Makes a directory and those above it that are missing, all with `mode`; one that is there stays as it is.

    Raises:
        OSError: it cannot be made, or something else has that name.
    """
    missing = []
    at = path
    while not at.exists():
        missing.append(at)
        at = at.parent
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, mode)
            os.chmod(directory, mode)  # whatever the umask is
            sync_directory(directory.parent)
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is not a directory")


def remove(path: Path) -> bool:
    """Deletes a file durably; False when there was none.

    Raises:
        OSError: it cannot be deleted.
    """
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_directory(path.parent)
    return True


def sync_directory(path: Path) -> None:
    """Makes renames and deletions in a directory outlive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
