"""Bar chart of a comparison: `python -m bench.plot [--json FILE] [--output FILE.png|FILE.svg]`.

Needs matplotlib (the `bench` extra). One group of bars per case, cost relative to HAProxy, whiskers from the lowest to the
highest round, a mark at amphorad's target. Cells that failed or were not run stay empty.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from bench.report import REFERENCE
from bench.tools import OUT

__all__ = ["draw", "main"]

_COLOURS = {"amphorad": "#1b6ca8", "haproxy": "#9aa5ad", "nginx": "#5b9c5a"}
_CEILING = 2.0
"""Bars end here; a longer one gets its number written on it."""


def _bar(axes: Any, position: float, height: float, ratio: dict[str, float], colour: str) -> None:
    shown = min(ratio["median"], _CEILING)
    axes.barh(position, shown, height=height * 0.9, color=colour)
    if ratio["median"] > _CEILING:
        axes.text(_CEILING + 0.02, position, f"{ratio['median']:.1f}", va="center", fontsize=7)
        return
    low, high = max(0.0, shown - ratio["min"]), max(0.0, min(ratio["max"], _CEILING) - shown)
    axes.errorbar(shown, position, xerr=[[low], [high]], color="#333333", linewidth=0.8, capsize=2)


def draw(result: dict[str, Any], output: Path) -> None:
    """Draw the JSON of bench.compare into a file; its suffix decides the format.

    Raises:
        ImportError: matplotlib is not installed.
    """
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    names: list[str] = result["candidates"]
    rows: list[dict[str, Any]] = result["rows"]
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.22 * (len(names) + 1) * len(rows)))
    height = 0.8 / max(1, len(names))
    for number, row in enumerate(rows):
        for index, name in enumerate(names):
            ratio = row["candidates"].get(name, {}).get("ratio")
            if ratio:
                _bar(
                    axes, number + (index - (len(names) - 1) / 2) * height, height, ratio, _COLOURS.get(name, "#888888")
                )
        axes.plot([row["limit"]] * 2, [number - 0.45, number + 0.45], color="#c0392b", linewidth=1.4)
    axes.axvline(1.0, color="#333333", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(rows)), [row["case"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, _CEILING + 0.2)
    axes.set_xlabel(
        f"cost relative to {REFERENCE} (CPU per unit of work; memory for idle connections); shorter is better"
    )
    patches = [pyplot.Rectangle((0, 0), 1, 1, color=_COLOURS.get(name, "#888888")) for name in names]
    target = axes.plot([], [], color="#c0392b", linewidth=1.4)[0]
    axes.legend([*patches, target], [*names, "amphorad target"], loc="lower right", fontsize=8)
    facts = result["facts"]
    axes.set_title(
        f"{facts['cpu']}, Linux {facts['kernel']}, {facts['congestion_control']}, {facts['rounds']}", fontsize=8
    )
    figure.tight_layout()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=150)
    pyplot.close(figure)


def main(words: list[str] | None = None) -> int:
    """Command line; status 1 when matplotlib is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.plot", description=__doc__)
    parser.add_argument("--json", type=Path, default=OUT / "compare.json", help="default %(default)s")
    parser.add_argument("--output", type=Path, default=OUT / "compare.svg", help="default %(default)s")
    options = parser.parse_args(words)
    try:
        draw(json.loads(options.json.read_text()), options.output)
    except ImportError as error:
        print(f"{error}; install the bench extra", file=sys.stderr)
        return 1
    print(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
