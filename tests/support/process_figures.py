"""Memory and descriptors of another process, from /proc (proc(5))."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["descriptor_count", "memory_kb"]


def memory_kb(pid: int) -> int:
    """Anonymous memory in kB, shared pages by proportion; neither files nor kernel socket buffers are in it."""
    found = re.search(r"^Pss_Anon:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def descriptor_count(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))
