"""Two seconds of fuzz_http2_members.py in the ordinary test run."""

from __future__ import annotations

import random

from tests.fuzz.fuzz_http2_members import run


def test_fuzz_http2_members_short_run_breaks_no_law() -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed={seed}")

    assert run(2.0, seed) > 0
