"""Rates with a clock of their own; several threads on one table."""

from __future__ import annotations

import threading

import pytest

from amphorad.proxy.engine.rate_limit import RateMeter, SourceMeter

SECOND = 1_000_000_000


def test_burst_and_then_the_rate() -> None:
    meter = RateMeter(10, 5)

    assert [meter.allows(SECOND) for _event in range(7)] == [True] * 5 + [False] * 2
    assert not meter.allows(SECOND + SECOND // 10 - 1)
    assert meter.allows(SECOND + SECOND // 10)
    assert not meter.allows(SECOND + SECOND // 10)


def test_pause_gives_the_burst_back_and_no_more() -> None:
    meter = RateMeter(10, 5)
    for _event in range(5):
        meter.allows(SECOND)

    assert sum(meter.allows(1000 * SECOND) for _event in range(20)) == 5


@pytest.mark.parametrize("per_second", [0.5, 3, 1000, 1_000_000])
def test_long_run_is_the_rate(per_second: float) -> None:
    meter = RateMeter(per_second, 1)
    step = max(1, int(SECOND / per_second / 7))
    events = 7 * 200

    allowed = sum(meter.allows(SECOND + number * step) for number in range(events))

    assert allowed == pytest.approx(events / 7, rel=0.15)


def test_refused_events_cost_nothing() -> None:
    """Whoever hammers on gets no less than whoever waits."""
    meter = RateMeter(10, 1)

    assert sum(meter.allows(SECOND + number * SECOND // 1000) for number in range(1000)) == 10


@pytest.mark.parametrize(("per_second", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_rate_that_is_none_is_refused(per_second: float, burst: int) -> None:
    with pytest.raises(ValueError, match="a rate is more than 0"):
        RateMeter(per_second, burst)


def test_each_source_has_its_own_limit_and_each_listener_too() -> None:
    meter = SourceMeter(1, 2, 1000)
    sources = [bytes([10, 0, 0, number]) for number in range(100)]

    for source in sources:
        assert [meter.allows(source, SECOND) for _event in range(3)] == [True, True, False]
    assert meter.allows(sources[0], SECOND, scope=64)


def test_ipv6_source_is_its_64() -> None:
    meter = SourceMeter(1, 1, 1000)
    prefix = bytes.fromhex("20010db800000001")

    assert meter.allows(prefix + bytes(8), SECOND)
    assert not meter.allows(prefix + b"\xff" * 8, SECOND)
    assert meter.allows(bytes.fromhex("20010db800000002") + bytes(8), SECOND)
    assert meter.allows(prefix[:4], SECOND)  # the IPv4 address of the same bytes


def test_flood_of_addresses_makes_it_forget_and_not_grow() -> None:
    """The one that has used up most is remembered longest."""
    meter = SourceMeter(1, 100, 3)  # one bucket
    heavy = b"\x01\x01\x01\x01"
    for _event in range(100):
        meter.allows(heavy, SECOND)
    for number in range(10000):
        assert meter.allows(number.to_bytes(4, "big"), SECOND)

    assert not meter.allows(heavy, SECOND)


def test_threads_together_get_no_more_than_the_rate() -> None:
    one, table = RateMeter(1, 1000), SourceMeter(1, 1000, 100)
    allowed = []

    def run() -> None:
        allowed.append(sum(one.allows(SECOND) for _event in range(2000)))
        allowed.append(sum(table.allows(b"\x01\x02\x03\x04", SECOND) for _event in range(2000)))

    threads = [threading.Thread(target=run) for _thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(allowed) == 2000


def test_address_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="4 or 16"):
        SourceMeter(1, 1, 10).allows(b"123", SECOND)
