"""Two seconds of fuzz_matcher.py in the ordinary test run."""

from __future__ import annotations

import random

from tests.fuzz.fuzz_matcher import run


def test_fuzz_matcher_short_run_breaks_no_law() -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed={seed}")

    assert run(2.0, seed) > 0
