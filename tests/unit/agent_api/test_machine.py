"""Figures of the machine, in the shapes of the stock agent."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from amphorad.agent_api import machine

if TYPE_CHECKING:
    from pathlib import Path

STAT = "cpu  11 22 33 44 55 66 77 88 99 100\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 1\n"
MEMINFO = """MemTotal:       24684096 kB
MemFree:        23095868 kB
MemAvailable:   23774692 kB
Buffers:           11148 kB
Cached:           782292 kB
SwapCached:           17 kB
HugePages_Total:       0
Shmem:              8788 kB
Slab:             307876 kB
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "stat").write_text(STAT)
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "loadavg").write_text("0.10 1.25 12.50 1/94 10211\n")
    return tmp_path


def test_cpu_figures_total_is_a_number_the_rest_are_texts(proc: Path) -> None:
    assert machine.cpu_figures(proc) == {"total": 595, "user": "11", "system": "33", "soft_irq": "77"}


def test_memory_figures_are_numbers_in_kib(proc: Path) -> None:
    assert machine.memory_figures(proc) == {
        "total": 24684096,
        "free": 23095868,
        "buffers": 11148,
        "cached": 782292,
        "swap_used": 17,
        "shared": 8788,
        "slab": 307876,
    }


def test_load_figures_are_three_texts(proc: Path) -> None:
    assert machine.load_figures(proc) == ["0.10", "1.25", "12.50"]


def test_disk_figures_are_bytes_of_that_file_system(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)

    found = machine.disk_figures(str(tmp_path))

    # other programs write at the same time
    assert abs(found["used"] - (status.f_blocks - status.f_bfree) * status.f_frsize) < 2**30
    assert abs(found["available"] - status.f_bavail * status.f_frsize) < 2**30


def test_figures_without_a_source_are_zero_and_never_an_error(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"

    assert machine.cpu_figures(nothing) == {"total": 0, "user": "0", "system": "0", "soft_irq": "0"}
    assert set(machine.memory_figures(nothing).values()) == {0}
    assert machine.load_figures(nothing) == ["0.00", "0.00", "0.00"]
    assert machine.tuned_profiles(nothing) == ""


def test_tuned_profiles_are_one_line_without_end(tmp_path: Path) -> None:
    (tmp_path / "active_profile").write_text("virtual-guest amphora\n")

    assert machine.tuned_profiles(tmp_path / "active_profile") == "virtual-guest amphora"


def test_figures_of_this_machine_are_there() -> None:
    assert machine.cpu_figures()["total"] > 0
    assert machine.memory_figures()["total"] > machine.memory_figures()["free"] > 0
