"""Numbers to table: ratios per round, median and spread, facts about the machine."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.cases import Case, Sample

__all__ = ["REFERENCE", "machine_facts", "markdown", "row"]

REFERENCE = "haproxy"


def machine_facts() -> dict[str, str]:
    """Kernel, CPU and what else a reader needs to judge the numbers."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    mitigations = [
        f"{path.name}: {path.read_text().strip()}"
        for path in sorted(Path("/sys/devices/system/cpu/vulnerabilities").glob("*"))
        if "Mitigation" in path.read_text()
    ]
    return {
        "kernel": platform.release(),
        "cpu": f"{model}, {os.cpu_count()} CPUs",
        "mitigations": f"{len(mitigations)} active" if mitigations else "none",
        "python": platform.python_version(),
        "loopback_mtu": Path("/sys/class/net/lo/mtu").read_text().strip(),
        "load_average_at_start": f"{os.getloadavg()[0]:.2f}",
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _summary(samples: Sequence[Sample], reference: Sequence[Sample]) -> dict[str, Any]:
    """Statistics of one cell; a single bad run makes the whole cell failed."""
    bad = next((each.problem for each in samples if each.problem is not None), None)
    found: dict[str, Any] = {"samples": [asdict(each) for each in samples], "problem": bad}
    if bad is not None or not samples:
        return found
    found["cost"] = _spread([each.cost for each in samples])
    found["rate"] = statistics.median(each.rate for each in samples)
    for name in ("p50_us", "p99_us", "scaling", "foreign"):
        values = [value for each in samples if (value := getattr(each, name)) is not None]
        found[name] = statistics.median(values) if values else None
    pairs = [(own, ref) for own, ref in zip(samples, reference, strict=False) if ref.problem is None and ref.cost > 0]
    if len(pairs) == len(samples):
        found["ratio"] = _spread([own.cost / ref.cost for own, ref in pairs])
        totals = [own.total / ref.total for own, ref in pairs if own.total is not None and ref.total]
        found["total_ratio"] = _spread(totals) if totals else None
    return found


def row(case: Case, samples: dict[str, list[Sample]], skipped: dict[str, str]) -> dict[str, Any]:
    """One case as plain data.

    Args:
        case: what was run.
        samples: runs in order of rounds, by candidate.
        skipped: reason by candidate that was not run.
    """
    reference = samples.get(REFERENCE, [])
    return {
        "case": case.name,
        "about": case.about,
        "unit": case.unit,
        "target": case.target,
        "limit": case.limit,
        "candidates": {name: _summary(runs, reference) for name, runs in samples.items()},
        "skipped": skipped,
    }


def _number(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "-"
    if value >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def _ratio(cell: dict[str, Any] | None, key: str = "ratio") -> str:
    if cell is None:
        return "-"
    if cell.get("problem"):
        return "FAILED"
    ratio = cell.get(key)
    if not ratio:
        return "-"
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}..{ratio['max']:.2f})"


def _verdict(row: dict[str, Any]) -> str:
    ratio = row["candidates"].get("amphorad", {}).get("ratio")
    if not ratio:
        return str(row["target"])
    return f"{row['target']} {'met' if ratio['median'] <= row['limit'] else 'MISSED'}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def markdown(result: dict[str, Any]) -> str:
    """The result as a Markdown page: facts, cost table, detail table, failures."""
    names: list[str] = result["candidates"]
    others = [name for name in names if name != REFERENCE]
    lines = ["# Comparison", ""]
    lines += [f"- {key.replace('_', ' ')}: {value}" for key, value in result["facts"].items()]
    lines += [
        "",
        "Cost is CPU time of the proxy (all its processes and threads) per unit of work; ratio to HAProxy in the same "
        "round: median (lowest..highest). Below 1 is cheaper. Foreign CPUs: what anything but proxy, load tool and members "
        "used of the machine meanwhile; above 0.2 the run is disturbed.",
        "",
        _line(["case", "unit", REFERENCE, *others, "target"]),
        _line(["---"] * (len(others) + 4)),
    ]
    for each in result["rows"]:
        cells = each["candidates"]
        cost = cells.get(REFERENCE, {}).get("cost")
        first = "FAILED" if cells.get(REFERENCE, {}).get("problem") else _number(cost["median"] if cost else None)
        ratios = [_ratio(cells.get(name)) for name in others]
        lines.append(_line([each["case"], each["unit"], first, *ratios, _verdict(each)]))
    lines += ["", "## Details", ""]
    lines.append(
        _line(
            [
                "case",
                "candidate",
                "cost",
                "work/s",
                "p50 us",
                "p99 us",
                "total CPU ratio",
                "foreign CPUs",
                "2 threads / 1",
            ]
        )
    )
    lines.append(_line(["---"] * 9))
    for each in result["rows"]:
        for name in names:
            cell = each["candidates"].get(name)
            if cell is None or cell.get("problem") or "cost" not in cell:
                continue
            values = [_number(cell["cost"]["median"]), _number(cell["rate"]), _number(cell["p50_us"])]
            values += [_number(cell["p99_us"]), _ratio(cell, "total_ratio")]
            values += [_number(cell["foreign"], 2), _number(cell["scaling"])]
            lines.append(_line([each["case"], name, *values]))
    lines += ["", *_notes(result)]
    return "\n".join(lines).rstrip() + "\n"


def _notes(result: dict[str, Any]) -> list[str]:
    found = [
        f"- {each['case']}, {name}: FAILED: {cell['problem']}"
        for each in result["rows"]
        for name, cell in each["candidates"].items()
        if cell.get("problem")
    ]
    found += [
        f"- {each['case']}, {name}: not run: {reason}"
        for each in result["rows"]
        for name, reason in each["skipped"].items()
    ]
    return ["## Failed and left out", "", *found] if found else []
