"""Nanoseconds per pick, and milliseconds per build, of every built-in algorithm and one in Python.

    python -m bench.micro.bench_algorithms [--runs 7] [--picks 200000]

Each figure is the median of the runs with its spread (lowest..highest). A pick is followed by the end of its session, so
counts stay level; one run warms up and is not counted. `threads` is the time per pick when 2 threads contend for one pool.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import threading
import time
from typing import TYPE_CHECKING

from amphorad.algorithms import MemberView, SessionView, register
from amphorad.algorithms.built_picker import BuiltPicker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MEMBERS = (3, 200, 1000)
THREADS = 2
ADDRESS = bytes([192, 0, 2, 77])
# name shown, algorithm, weights of `count` members
CASES: tuple[tuple[str, str, Callable[[int], list[int]]], ...] = (
    ("round_robin", "round_robin", lambda count: [1] * count),
    ("weighted_round_robin", "weighted_round_robin", lambda count: [1 + number % 5 for number in range(count)]),
    ("least_connections", "least_connections", lambda count: [1] * count),
    ("least_connections busy", "least_connections", lambda count: [1] * count),
    ("source_ip_hash", "source_ip_hash", lambda count: [1 + number % 5 for number in range(count)]),
    ("maglev", "maglev", lambda count: [1 + number % 5 for number in range(count)]),
    ("in Python", "bench_first", lambda count: [1] * count),
)


class First:
    """The cheapest algorithm there is: what is left is the price of Python."""

    def __init__(self, members: Sequence[MemberView]) -> None:
        self.index = members[0].index

    def pick(self, session: SessionView) -> int:
        return self.index


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):9.1f} ({min(values):.1f}..{max(values):.1f})"


def pick_ns(picker: BuiltPicker, picks: int, threads: int) -> float:
    """Wall time of one pick as a thread sees it, while `threads` of them pick."""
    workers = [threading.Thread(target=picker.pick_many, args=(picks, ADDRESS, True)) for _ in range(threads)]
    start = time.perf_counter_ns()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return (time.perf_counter_ns() - start) / picks


def measure(shown: str, algorithm: str, weights: list[int], runs: int, picks: int) -> str:
    names = [f"member-{number}" for number in range(len(weights))]
    builds = []
    for _ in range(3):
        start = time.perf_counter()
        picker = BuiltPicker(algorithm, weights, names)
        builds.append((time.perf_counter() - start) * 1e3)
    if shown.endswith("busy"):
        for index in range(len(weights)):
            picker.occupy(index, 10)
    picks = max(1000, picks // (1 + len(weights) // 20))
    alone = [pick_ns(picker, picks, 1) for _ in range(runs + 1)][1:]
    contended = [pick_ns(picker, picks, THREADS) for _ in range(runs + 1)][1:]
    return f"{shown:24}{len(weights):6}  {spread(alone):28}{spread(contended):30}{min(builds):8.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--picks", type=int, default=200_000, help="per run with few members; fewer with many")
    options = parser.parse_args()
    register("bench_first", First)
    print(f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}; {options.runs} runs")
    print(f"{'algorithm':24}{'members':>6}  {'ns per pick':28}{f'ns, {THREADS} threads':30}{'build ms':>8}")
    for shown, algorithm, weights_of in CASES:
        for count in MEMBERS:
            print(measure(shown, algorithm, weights_of(count), options.runs, options.picks))


if __name__ == "__main__":
    main()
