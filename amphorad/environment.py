"""What a child process gets from its parent: the same amphorad, and no signal before it can deal with one."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SUPERVISOR_SIGNALS", "child_environment", "signals_blocked"]

SUPERVISOR_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def child_environment() -> dict[str, str]:
    """The environment of a Python child, also when amphorad runs from a source tree without being installed."""
    root = str(Path(__file__).resolve().parents[1])
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != root]
    return os.environ | {"PYTHONPATH": os.pathsep.join([root, *others]), "PYTHONSAFEPATH": "1"}


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """A child that is started meanwhile begins with SUPERVISOR_SIGNALS blocked, which a terminal sends to the whole group.

    The parent loses none of them: what comes in between is delivered afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISOR_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
