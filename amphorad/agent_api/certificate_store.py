"""Files that listeners and pools need: certificate chains with keys, crt-lists, CA bundles, revocation lists.

Kept and compared as raw bytes: the controller compares MD5 sums of what it has, and the stock agent fails on a file that is no UTF-8
or has CRLF line ends. A file is the old one or the new one at any time. Nothing is parsed here: a wrong
file is found when a configuration names it.

Everything here blocks for as long as the disk takes.

Source: Octavia contract section 1.5, routes 13 to 15.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amphorad.files import make_directory, remove, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CertificateStore"]

_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700


class CertificateStore:
    """`<directory>/<load balancer id>/<name>`. Ids and names have been checked: see `identifiers`.

    Args:
        directory: `base_cert_dir` of the agent's settings; made when the first file comes.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, lb_id: str, name: str, content: bytes) -> None:
        """Stores or replaces a file, durably.

        Raises:
            OSError: nothing has changed.
        """
        path = self._path(lb_id, name)
        make_directory(path.parent, _DIRECTORY_MODE)
        write_atomically(path, content, _FILE_MODE)

    def get(self, lb_id: str, name: str) -> bytes | None:
        """The content of a file; None when there is none.

        Raises:
            OSError: it is there and cannot be read.
        """
        try:
            return self._path(lb_id, name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def delete(self, lb_id: str, name: str) -> None:
        """Deletes a file; one that is not there is deleted already.

        Raises:
            OSError: it is there and cannot be deleted.
        """
        path = self._path(lb_id, name)
        if path.parent.is_dir():
            remove(path)

    def _path(self, lb_id: str, name: str) -> Path:
        return self._directory / lb_id / name
