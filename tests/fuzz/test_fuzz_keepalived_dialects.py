"""Two seconds of `fuzz_keepalived_dialects` in every test run."""

from __future__ import annotations

from tests.fuzz.fuzz_keepalived_dialects import fuzz


def test_keepalived_dialects_survive_mutated_texts() -> None:
    tried, accepted = fuzz(seconds=2.0, seed=20261121)

    assert tried > 200
    assert 0 < accepted < tried
