"""Two seconds of `fuzz_haproxy_dialect` in every test run."""

from __future__ import annotations

from tests.fuzz.fuzz_haproxy_dialect import fuzz


def test_haproxy_dialect_survives_mutated_texts() -> None:
    tried, accepted = fuzz(seconds=2.0, seed=20260917)

    assert tried > 20
    assert 0 < accepted < tried
