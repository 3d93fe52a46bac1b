"""CPU time and memory of a process tree, read from the kernel.

CPU time of one process is its CPU clock (clock_getcpuclockid(3)): scheduler run time in nanoseconds, over all threads, those
that ended included. Children that were reaped are added from cutime/cstime of /proc/PID/stat (clock ticks): when a child
dies between two readings, its own clock leaves the sum and its whole life enters through the parent, so differences stay
right. Where the clock cannot be read, /proc/PID/task/*/schedstat is summed, and after that utime + stime.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["ProcessTree", "machine_busy_s"]

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_CPUCLOCK_SCHED = 2


def _stat_fields(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on (state); the name before may contain blanks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def machine_busy_s() -> float:
    """CPU seconds all CPUs were not idle since boot (clock ticks), time stolen by the hypervisor included."""
    fields = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) * _TICK_S  # all but idle and iowait


class ProcessTree:
    """A process and all its descendants, found again at every reading.

    Args:
        root: process id at the top.
    """

    def __init__(self, root: int) -> None:
        self.root = root

    def pids(self) -> list[int]:
        """Live process ids, the root first."""
        found, todo = [], [self.root]
        while todo:
            pid = todo.pop()
            try:
                tasks = os.listdir(f"/proc/{pid}/task")
                for task in tasks:
                    todo += [int(child) for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
            except OSError:
                continue
            found.append(pid)
        return found

    def threads(self) -> list[int]:
        """Thread ids of every process of the tree."""
        found: list[int] = []
        for pid in self.pids():
            try:
                found += [int(task) for task in os.listdir(f"/proc/{pid}/task")]
            except OSError:
                continue
        return found

    def cpu_s(self) -> float:
        """CPU seconds used so far, dead threads and reaped children included."""
        total = 0.0
        for pid in self.pids():
            try:
                fields = _stat_fields(pid)
            except OSError:
                continue
            total += _own_cpu_s(pid, fields) + (int(fields[13]) + int(fields[14])) * _TICK_S
        return total

    def cpu_by_thread_s(self) -> dict[str, float]:
        """CPU seconds by thread name (several threads of one name are summed); live threads only."""
        found: dict[str, float] = {}
        for tid in self.threads():
            try:
                name = Path(f"/proc/{tid}/comm").read_text().strip()
                run = int(Path(f"/proc/{tid}/schedstat").read_text().split()[0]) / 1e9
            except OSError:
                continue
            found[name] = found.get(name, 0.0) + run
        return found

    def pin(self, cpu: int) -> None:
        """Put every thread on one CPU; threads started later inherit it from their parent."""
        for tid in self.threads():
            try:
                os.sched_setaffinity(tid, {cpu})
            except ProcessLookupError:
                continue

    def pss_bytes(self) -> int:
        """Proportional set size in bytes, over all processes (/proc/PID/smaps_rollup)."""
        return sum(_rollup_bytes(pid, "Pss:") for pid in self.pids())

    def open_files(self) -> int:
        """Open descriptors, over all processes."""
        total = 0
        for pid in self.pids():
            try:
                total += len(os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                continue
        return total


def _own_cpu_s(pid: int, fields: list[str]) -> float:
    try:
        return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED) / 1e9
    except OSError:
        pass
    try:
        return sum(
            int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0]) / 1e9
            for task in os.listdir(f"/proc/{pid}/task")
        )
    except OSError:
        return (int(fields[11]) + int(fields[12])) * _TICK_S


def _rollup_bytes(pid: int, key: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
