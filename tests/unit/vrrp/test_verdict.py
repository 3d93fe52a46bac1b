from __future__ import annotations

from amphorad.vrrp.verdict import DOWN_AFTER_S, UP_AFTER_S, Verdict


def test_verdict_of_a_new_node_follows_the_first_service_at_once() -> None:
    verdict = Verdict()

    assert not verdict.see(False, 10.0)
    assert not verdict.is_good
    assert verdict.see(True, 20.0)
    assert verdict.is_good


def test_verdict_short_outage_changes_nothing() -> None:
    verdict = Verdict(is_good=True)
    verdict.see(True, 10.0)

    assert not verdict.see(False, 11.0)
    assert verdict.due_s(11.0) == DOWN_AFTER_S
    assert not verdict.see(True, 11.0 + DOWN_AFTER_S - 0.01)
    assert not verdict.see(False, 11.0 + DOWN_AFTER_S)
    assert verdict.is_good


def test_verdict_outage_that_lasts_is_a_fault() -> None:
    verdict = Verdict(is_good=True)
    verdict.see(False, 11.0)

    assert verdict.see(False, 11.0 + DOWN_AFTER_S)
    assert not verdict.is_good
    assert verdict.due_s(20.0) is None


def test_verdict_after_a_fault_waits_for_steady_service() -> None:
    verdict = Verdict(is_good=False)

    assert not verdict.see(True, 5.0)
    assert not verdict.see(False, 5.5)
    assert not verdict.see(True, 6.0)
    assert not verdict.see(True, 6.0 + UP_AFTER_S - 0.01)
    assert verdict.see(True, 6.0 + UP_AFTER_S)
    assert verdict.is_good
