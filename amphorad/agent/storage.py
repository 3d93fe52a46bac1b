"""What the agent keeps on disk of load balancers and of UDP and SCTP listeners, and what of it has been started.

    <base_path>/<lb_id>/haproxy.cfg     0600  the text that was uploaded last
    <base_path>/<lb_id>/active.cfg      0600  the text that is in force; it is there exactly while the load balancer is started
    <base_path>/lvs/octavia-keepalivedlvs-<listener_id>.conf      0644  the text that was uploaded last
    <base_path>/lvs/octavia-keepalivedlvs-<listener_id>.started   0600  empty; there exactly while the listener is started
    <base_cert_dir>/<lb_id>/            0700  certificates; written elsewhere, deleted with the load balancer

Every change is one rename, so a crash leaves what was there before or what should be there, and two files never have to agree.
Only names that are written as the controller writes UUIDs reach the disk. All methods block for the disk; call them in a thread.

Source: Octavia contract sections 5.4, 5.5 and 6.1; `active.cfg` and `.started` are ours, in place of enabled systemd units.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Final

from amphorad.agent_api.identifiers import is_id
from amphorad.files import TEMPORARY_PREFIX, make_directory, remove, sync_directory, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Storage"]

_UPLOADED: Final = "haproxy.cfg"
_ACTIVE: Final = "active.cfg"
_LVS_PREFIX: Final = "octavia-keepalivedlvs-"
_DELETED_PREFIX: Final = ".deleted-"  # of directories on their way out; the rest of the name is the load balancer's


class Storage:
    """The files. Every method takes identifiers that pass `is_id`, and raises OSError with nothing changed."""

    def __init__(self, base_path: Path, base_cert_dir: Path) -> None:
        self._base = base_path
        self._certificates = base_cert_dir
        self._lvs = base_path / "lvs"

    # --- load balancers ---

    def load_balancer_ids(self) -> tuple[str, ...]:
        """Those that have a text, in a stable order."""
        return tuple(name for name in _names(self._base) if is_id(name) and (self._base / name / _UPLOADED).is_file())

    def uploaded(self, lb_id: str) -> bytes | None:
        return _read(self._directory(lb_id) / _UPLOADED)

    def set_uploaded(self, lb_id: str, text: bytes) -> None:
        make_directory(self._directory(lb_id))
        write_atomically(self._directory(lb_id) / _UPLOADED, text, 0o600)

    def active_path(self, lb_id: str) -> Path:
        return self._directory(lb_id) / _ACTIVE

    def active(self, lb_id: str) -> bytes | None:
        """The text in force; None while the load balancer is not started."""
        return _read(self.active_path(lb_id))

    def set_active(self, lb_id: str, text: bytes | None) -> None:
        """Remembers which text is in force, or with None that the load balancer is stopped."""
        if text is None:
            remove(self.active_path(lb_id))
        else:
            write_atomically(self.active_path(lb_id), text, 0o600)

    def delete(self, lb_id: str) -> None:
        """Forgets a load balancer with its certificates. It is gone with the first step, a rename; `clean` does what a crash leaves."""
        directory = self._directory(lb_id)
        doomed = self._base / f"{_DELETED_PREFIX}{lb_id}"
        self._finish_delete(doomed)
        with contextlib.suppress(FileNotFoundError):
            os.rename(directory, doomed)
            sync_directory(self._base)
        self._finish_delete(doomed)
        _delete_tree(self._certificates / lb_id)

    def _finish_delete(self, doomed: Path) -> None:
        if doomed.exists():
            _delete_tree(self._certificates / doomed.name.removeprefix(_DELETED_PREFIX))
            _delete_tree(doomed)

    # --- UDP and SCTP listeners ---

    def lvs_ids(self) -> tuple[str, ...]:
        """Listeners that have a text, in a stable order."""
        found = [
            name.removeprefix(_LVS_PREFIX).removesuffix(".conf") for name in _names(self._lvs) if name.endswith(".conf")
        ]
        return tuple(name for name in found if is_id(name))

    def lvs_path(self, listener_id: str) -> Path:
        _require_id(listener_id)
        return self._lvs / f"{_LVS_PREFIX}{listener_id}.conf"

    def lvs(self, listener_id: str) -> bytes | None:
        return _read(self.lvs_path(listener_id))

    def set_lvs(self, listener_id: str, text: bytes) -> None:
        make_directory(self._lvs)
        write_atomically(self.lvs_path(listener_id), text, 0o644)

    def is_lvs_started(self, listener_id: str) -> bool:
        return self._lvs_mark(listener_id).exists()

    def set_lvs_started(self, listener_id: str, started: bool) -> None:
        if started:
            write_atomically(self._lvs_mark(listener_id), b"", 0o600)
        else:
            remove(self._lvs_mark(listener_id))

    def delete_lvs(self, listener_id: str) -> None:
        remove(self.lvs_path(listener_id))
        remove(self._lvs_mark(listener_id))

    # --- care ---

    def clean(self) -> None:
        """Deletes what a crash has left half written or half deleted; nobody would read it."""
        for name in _names(self._base):
            if name.startswith(_DELETED_PREFIX):
                self._finish_delete(self._base / name)
        for directory in (self._base, self._certificates, self._lvs):
            for name in _names(directory):
                path = directory / name
                if name.startswith(TEMPORARY_PREFIX):
                    remove(path)
                elif is_id(name):
                    for inner in _names(path):
                        if inner.startswith(TEMPORARY_PREFIX):
                            remove(path / inner)
        for listener_id in {name.removeprefix(_LVS_PREFIX).removesuffix(".started") for name in _names(self._lvs)}:
            if is_id(listener_id) and not self.lvs_path(listener_id).exists():
                remove(self._lvs_mark(listener_id))

    def _directory(self, lb_id: str) -> Path:
        _require_id(lb_id)
        return self._base / lb_id

    def _lvs_mark(self, listener_id: str) -> Path:
        _require_id(listener_id)
        return self._lvs / f"{_LVS_PREFIX}{listener_id}.started"


def _require_id(text: str) -> None:
    """Callers check before; this is what stands between a mistake of theirs and a path that leads elsewhere."""
    if not is_id(text):
        raise ValueError(f"not an identifier: {text!r}")


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _delete_tree(directory: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)
        sync_directory(directory.parent)
