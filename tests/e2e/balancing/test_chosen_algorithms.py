"""`--algorithm`: the operator balances with another algorithm than the file names, also with one of an own package."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.e2e.balancing.test_order import introduce, names_of
from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import ScriptedMember
from tests.support.served import Served, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAST_MEMBER = """\
class LastMember:
    def __init__(self, members):
        self.members = members

    def pick(self, session):
        return self.members[-1].index
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution that offers `last_member`, for this process and those it starts."""
    site = tmp_path / "site"
    info = site / "last_member-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "last_member.py").write_text(LAST_MEMBER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: last-member\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[amphorad.algorithms]\nlast_member = last_member:LastMember\n")
    monkeypatch.setenv("PYTHONPATH", str(site))


@pytest.fixture
def ports() -> Iterator[list[int]]:
    with ExitStack() as stack:
        yield [stack.enter_context(ScriptedMember(introduce(name))).port for name in "abc"]


@pytest.mark.usefixtures("package")
def test_algorithm_of_an_installed_package_is_used_by_name(tmp_path: Path, ports: list[int]) -> None:
    port = free_port()
    text = lb_file(listener("lb", port, [member(each) for each in ports]))

    with Served(tmp_path, text, "--threads", "1", "--algorithm", "last_member"):
        assert names_of(port, 5) == "ccccc"


def test_algorithm_is_replaced_only_where_the_file_asks_for_the_old_one(tmp_path: Path, ports: list[int]) -> None:
    hashed, rotating = free_port(), free_port()
    members = [member(each) for each in ports]
    text = lb_file(listener("hashed", hashed, members, balance="source"), listener("rotating", rotating, members))

    with Served(tmp_path, text, "--threads", "1", "--algorithm", "source_ip_hash=maglev") as served:
        assert len(set(names_of(hashed, 5, source="127.0.0.9"))) == 1
        assert names_of(rotating, 6) == "abcabc"
        algorithms = [pool["algorithm"] for each in served.status()["listeners"] for pool in each["pools"]]

    assert sorted(algorithms) == ["maglev", "weighted_round_robin"]


def test_algorithm_unknown_is_a_usage_error_that_names_the_known_ones() -> None:
    command = [sys.executable, "-m", "amphorad", "serve", "-f", "x", "--algorithm", "fastest"]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    assert ended.returncode == 2
    assert "no algorithm 'fastest'" in ended.stderr
    assert "maglev" in ended.stderr
