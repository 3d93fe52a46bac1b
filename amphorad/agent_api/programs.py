"""Versions of the programs that `info` and `details` name.

The controller uses `haproxy_version` alone: it is split at dots, and the first two parts, as numbers, decide what the controller writes
into the configuration (Octavia contract section 1.5, route 2). There is no HAProxy here, so it is the version whose dialect is
implemented. The others are shown to operators.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

__all__ = ["HAPROXY_VERSION", "IPVSADM_VERSION", "NOT_INSTALLED", "Versions", "version_in"]

HAPROXY_VERSION = "2.8.0-amphorad"
IPVSADM_VERSION = "not used"  # nothing here runs it, but the key must be there
NOT_INSTALLED = "not installed"
RUN_TIMEOUT_S = 5.0
SEARCH_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"

_Identity = tuple[str, int, int]  # a program file: path, time of change, size

_NUMBER = re.compile(r"v?(\d+(?:\.\d+)+)", re.ASCII)


def version_in(text: str) -> str:
    """The first dotted number in what a program says of itself; empty when there is none."""
    found = _NUMBER.search(text)
    return found.group(1) if found else ""


class Versions:
    """Versions of programs, each file asked once.

    Args:
        keepalived: name or path of the keepalived program.
        search_path: directories to look in, separated by colons.
    """

    def __init__(self, keepalived: str = "keepalived", search_path: str = SEARCH_PATH) -> None:
        self._keepalived = keepalived
        self._search_path = search_path
        self._known: tuple[_Identity, str] | None = None

    async def keepalived(self) -> str:
        """Version of keepalived, such as `2.2.7`, or `NOT_INSTALLED`."""
        path = shutil.which(self._keepalived, path=self._search_path)
        if path is None:
            return NOT_INSTALLED
        try:
            identity = _identity_of(path)
            if self._known is None or self._known[0] != identity:
                self._known = (identity, version_in(await asyncio.to_thread(_said_by, path)) or "unknown")
        except OSError:
            return NOT_INSTALLED  # gone since we looked, or not a program
        return self._known[1]


def _identity_of(path: str) -> _Identity:
    status = Path(path).stat()
    return (path, status.st_mtime_ns, status.st_size)


def _said_by(path: str) -> str:
    """What `PROGRAM --version` prints, on either stream; bounded in time."""
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.decode(errors="replace")
