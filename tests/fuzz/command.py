"""The command line that every fuzzer here has."""

from __future__ import annotations

import argparse
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["fuzz_as_command"]


def fuzz_as_command(description: str | None, run: Callable[[float, int], str]) -> None:
    """Runs `run(seconds, seed)` and prints what it returns; the seed comes first, in case it does not return."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default %(default)s)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="to see a run again")
    arguments = parser.parse_args()
    print(f"seed={arguments.seed}", flush=True)
    print(run(arguments.seconds, arguments.seed))
