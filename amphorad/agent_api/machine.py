"""Figures of this machine, in the shapes and units that `details` wants: `/proc`, `statvfs`, tuned.

A figure that the kernel does not give is 0 or empty: the controller tolerates that, while a 500 would fail a whole listener update
(Octavia contract section 1.5, route 3).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

__all__ = ["PROC", "TUNED_PROFILE", "cpu_figures", "disk_figures", "load_figures", "memory_figures", "tuned_profiles"]

PROC = Path("/proc")
TUNED_PROFILE = Path("/etc/tuned/active_profile")

_TUNED_LIMIT = 1024
_MEMORY_LINE = re.compile(r"(\S+):\s+(\d+) kB")
_MEMORY_KEYS = {
    "total": "MemTotal",
    "free": "MemFree",
    "buffers": "Buffers",
    "cached": "Cached",
    "swap_used": "SwapCached",  # not swap in use, but that is what the stock agent reports
    "shared": "Shmem",
    "slab": "Slab",
}


def cpu_figures(proc: Path = PROC) -> dict[str, Any]:
    """Jiffies since boot of all CPUs together: `total` a number, the others texts. proc(5), `/proc/stat`, first line."""
    words = _text(proc / "stat").partition("\n")[0].split()[1:]
    values = [word for word in words if word.isdecimal()]
    user, _nice, system, _idle, _iowait, _irq, soft_irq = (values + ["0"] * 7)[:7]
    return {"total": sum(map(int, values)), "user": user, "system": system, "soft_irq": soft_irq}


def memory_figures(proc: Path = PROC) -> dict[str, int]:
    """KiB. proc(5), `/proc/meminfo`."""
    found = {name: int(value) for name, value in _MEMORY_LINE.findall(_text(proc / "meminfo"))}
    return {key: found.get(name, 0) for key, name in _MEMORY_KEYS.items()}


def disk_figures(path: str = "/") -> dict[str, int]:
    """Bytes of the file system that holds `path`."""
    status = os.statvfs(path)
    return {
        "used": (status.f_blocks - status.f_bfree) * status.f_frsize,
        "available": status.f_bavail * status.f_frsize,
    }


def load_figures(proc: Path = PROC) -> list[str]:
    """Load averages over 1, 5 and 15 minutes, as texts. proc(5), `/proc/loadavg`."""
    return (_text(proc / "loadavg").split() + ["0.00"] * 3)[:3]


def tuned_profiles(path: Path = TUNED_PROFILE) -> str:
    """Names of the active tuned profiles, or nothing; `amphora` in it makes the controller pin threads to CPUs."""
    return _text(path)[:_TUNED_LIMIT].strip()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
