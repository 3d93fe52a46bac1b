"""How a child process finds the same amphorad as its parent."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["child_environment"]


def child_environment() -> dict[str, str]:
    """The environment of a Python child, also when amphorad runs from a source tree without being installed."""
    root = str(Path(__file__).resolve().parents[1])
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != root]
    return os.environ | {"PYTHONPATH": os.pathsep.join([root, *others]), "PYTHONSAFEPATH": "1"}
