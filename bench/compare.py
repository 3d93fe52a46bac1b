"""Compare amphorad, HAProxy and nginx on one machine: `python -m bench.compare --help`.

Rounds are interleaved (A B C A B C) so that a busy minute of the machine hits all candidates alike; the result is CPU time of
the proxy per unit of work, as a ratio to HAProxy in the same round. Method and limits: bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import candidates, namespace
from bench.candidates import Running, Setup
from bench.cases import CASES, Case, Sample, measure, measure_idle, probe
from bench.report import REFERENCE, machine_facts, markdown, row
from bench.tools import OUT, Backend, LogSink, raise_fd_limit

__all__ = ["main"]

PROXY_CPU, LOAD_CPU = 0, 1
WARM_UP_S = 1.0
_MEMBERS = {"http": 3, "echo": 2, "answer": 2, "bulk": 2}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(slots=True)
class Bench:
    """One comparison run: the backend, the started candidates and the options."""

    names: list[str]
    rounds: int
    seconds: float
    threads: int
    directory: Path
    files: int
    backend: Backend
    pinned: bool
    running: dict[Setup, Running] = field(default_factory=dict)
    started: int = 0
    source: str = "none"

    @property
    def load_cpu(self) -> int | None:
        """CPU for load tools, None when nothing is pinned."""
        return LOAD_CPU if self.pinned and self.threads == 1 else None

    def setup(self, case: Case, name: str, threads: int) -> Setup:
        """How the candidate runs in this case."""
        pinned = self.pinned and max(threads, case.threads) == 1
        arguments = case.arguments if name == "amphorad" else ()
        cpu = PROXY_CPU if pinned else None
        return Setup(name=name, threads=threads, cpu=cpu, arguments=arguments, variant=case.variant)

    def get(self, setup: Setup) -> Running:
        """The running candidate of this setup, started now when it is not."""
        running = self.running.get(setup)
        if running is None or running.process.poll() is not None:
            self.started += 1
            folder = self.directory / f"{setup.name}-{self.started}"
            running = candidates.start(setup, self.backend.ports, folder, self.files)
            self.running[setup] = running
            if setup.name != "nginx":
                self.source = running.source
        return running

    def drop(self, setup: Setup) -> None:
        """Stop the candidate of this setup, if it runs."""
        running = self.running.pop(setup, None)
        if running is not None:
            running.stop()

    def close(self) -> None:
        """Stop everything."""
        for setup in list(self.running):
            self.drop(setup)
        self.backend.stop()

    def one(self, case: Case, name: str, seconds: float) -> Sample:
        """One run of one candidate."""
        threads = max(self.threads, case.threads)
        setup = self.setup(case, name, threads)
        try:
            if case.tool == "hold":
                self.drop(setup)  # memory counts from a fresh start: free lists of earlier runs would hide it
                running = self.get(setup)
                problem = probe(case, running)
                sample = Sample(problem=problem) if problem else measure_idle(case, running, self.load_cpu)
                self.drop(setup)
                return sample
            cpu = None if case.threads > 1 else self.load_cpu
            sample = measure(case, self.get(setup), self.backend, seconds, cpu)
            if case.threads > 1 and sample.problem is None:
                single = measure(case, self.get(self.setup(case, name, 1)), self.backend, seconds, cpu)
                sample.problem = single.problem
                sample.scaling = sample.cost / single.cost if single.cost else None
        except RuntimeError as error:
            return Sample(problem=str(error))
        return sample

    def run(self, case: Case) -> dict[str, Any]:
        """All rounds of one case."""
        samples: dict[str, list[Sample]] = {}
        skipped: dict[str, str] = {}
        for name in self.names:
            if name == "nginx" and case.variant != "plain":
                skipped[name] = "no equivalent"
                continue
            if case.kind != "http" and not candidates.has_tcp(name):
                skipped[name] = "no TCP proxy (stream module) installed"
                continue
            samples[name] = []
            problem = self.warm_up(case, name)
            if problem is not None:
                samples[name].append(Sample(problem=problem))
        for number in range(self.rounds):
            for name, runs in samples.items():
                if runs and runs[-1].problem is not None:
                    continue  # the cell is failed already
                sample = self.one(case, name, self.seconds)
                runs.append(sample)
                shown = sample.problem or f"{sample.cost:.4g} {case.unit}, {sample.rate:.4g}/s"
                _say(f"{case.name} round {number + 1} {name}: {shown}")
        return row(case, samples, skipped)

    def warm_up(self, case: Case, name: str) -> str | None:
        """Start the candidate, compare one answer byte by byte, run the load for a second. None when all is well."""
        if case.tool == "hold":
            return None
        try:
            problem = probe(case, self.get(self.setup(case, name, max(self.threads, case.threads))))
        except RuntimeError as error:
            problem = str(error)
        if problem is None:
            problem = self.one(case, name, WARM_UP_S).problem
        if problem is not None:
            _say(f"{case.name} {name}: {problem}")
        return problem


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated; default all: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one run, default %(default)s")
    parser.add_argument("--candidates", default=",".join(candidates.NAMES), help="default %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="traffic threads; above 1 nothing is pinned")
    parser.add_argument("--congestion", default="cubic", help="TCP congestion control, default %(default)s")
    parser.add_argument("--json", type=Path, default=OUT / "compare.json", help="default %(default)s")
    parser.add_argument("--markdown", type=Path, default=OUT / "compare.md", help="default %(default)s")
    options = parser.parse_args(words)
    options.cases = [name for name in options.cases.split(",") if name]
    options.candidates = [name for name in options.candidates.split(",") if name]
    for name in options.cases:
        if name not in CASES:
            parser.error(f"unknown case {name}; there are {', '.join(CASES)}")
    for name in options.candidates:
        if name not in candidates.NAMES:
            parser.error(f"unknown candidate {name}; there are {', '.join(candidates.NAMES)}")
    if options.rounds < 1 or options.seconds < 1 or options.threads < 1:
        parser.error("--rounds, --seconds and --threads must be at least 1")
    return options


def _facts(options: argparse.Namespace, warning: str | None, files: int, pinned: bool) -> dict[str, str]:
    placement = f"proxy on CPU {PROXY_CPU}, load and members on CPU {LOAD_CPU}" if pinned else "unpinned"
    found = {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": shlex.join(["python", "-m", "bench.compare", *sys.argv[1:]]),
        **machine_facts(),
        "congestion_control": namespace.congestion_control(),
        "namespace": "own" if warning is None else f"none: {warning}",
        "placement": placement,
        "open_files_limit": str(files),
        "warm_up": f"{WARM_UP_S:g} s per case and candidate",
        "rounds": f"{options.rounds} of {options.seconds:g} s, interleaved",
    }
    for name in options.candidates:
        found[name] = candidates.version(name) or "not installed"
    return found


def main(words: list[str] | None = None) -> int:
    """Run the comparison; status 0 when every cell is valid, 1 otherwise."""
    words = sys.argv[1:] if words is None else words
    options = _arguments(words)
    warning = namespace.enter("bench.compare", words, options.congestion)
    if warning is not None:
        _say(f"warning: {warning}")
    if namespace.congestion_control() != options.congestion:
        _say(f"warning: running with congestion control {namespace.congestion_control()}, not {options.congestion}")
    names = [name for name in options.candidates if candidates.version(name) is not None]
    for name in options.candidates:
        if name not in names:
            _say(f"warning: {name} is not installed and is left out")
    if REFERENCE in names:  # the reference first, so that every round has its divisor
        names.remove(REFERENCE)
        names.insert(0, REFERENCE)
    files = raise_fd_limit()
    pinned = options.threads == 1 and len(os.sched_getaffinity(0)) > 1
    result: dict[str, Any] = {"facts": _facts(options, warning, files, pinned), "candidates": names, "rows": []}
    with tempfile.TemporaryDirectory(prefix="amphorad-bench-") as folder:
        backend = Backend.start(_MEMBERS, cpu=LOAD_CPU if pinned else None)
        sink = LogSink(Path(folder) / "log.sock")
        bench = Bench(names, options.rounds, options.seconds, options.threads, Path(folder), files, backend, pinned)
        try:
            for name in options.cases:
                result["rows"].append(bench.run(CASES[name]))
            result["facts"]["configuration"] = bench.source
        finally:
            bench.close()
            sink.close()
    text = markdown(result)
    for path, content in ((options.json, json.dumps(result, indent=1)), (options.markdown, text)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n" if not content.endswith("\n") else content)
    print(text)
    bad = any(cell.get("problem") for each in result["rows"] for cell in each["candidates"].values())
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
