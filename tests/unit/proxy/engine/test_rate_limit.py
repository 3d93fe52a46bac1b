"""Token buckets per client and per listener."""

from __future__ import annotations

import ipaddress
import random
import threading

import pytest

from amphorad.proxy.engine.rate_limit import RateLimiter

SECOND = 1_000_000
APPLE, BANANA = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])


def limiter(
    rate: float = 0, burst: int = 1, *, of_all: float = 0, burst_of_all: int = 1, sources: int = 1000
) -> RateLimiter:
    return RateLimiter(rate, burst, of_all, burst_of_all, sources=sources)


def v6(text: str) -> bytes:
    return ipaddress.IPv6Address(text).packed


def test_source_gets_its_burst_and_then_its_rate() -> None:
    limits = limiter(10, 5)

    at_once = [limits.admits(APPLE, 7 * SECOND) for _turn in range(8)]
    early = limits.admits(APPLE, 7 * SECOND + 99_000)
    later = [limits.admits(APPLE, 7 * SECOND + 100_000 * (turn + 1)) for turn in range(20)]

    assert at_once == [True] * 5 + [False] * 3
    assert not early
    assert later == [True] * 20
    assert limits.refused == 4


def test_idle_source_has_its_burst_again_and_no_more() -> None:
    limits = limiter(10, 5)
    for _turn in range(5):
        limits.admits(APPLE, SECOND)

    assert [limits.admits(APPLE, 1000 * SECOND) for _turn in range(6)] == [True] * 5 + [False]


def test_sources_have_buckets_of_their_own() -> None:
    limits = limiter(1, 1)

    assert [limits.admits(address, SECOND) for address in (APPLE, APPLE, BANANA, BANANA)] == [True, False, True, False]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (v6("2001:db8::1"), v6("2001:db8::ffff:1"), True),
        (v6("2001:db8::1"), v6("2001:db8:0:1::1"), False),
        (v6("::ffff:192.0.2.1"), APPLE, True),
        (v6("::ffff:192.0.2.1"), v6("::ffff:192.0.2.2"), False),
    ],
)
def test_source_is_an_ipv4_address_or_a_64_bit_prefix(one: bytes, other: bytes, same: bool) -> None:
    limits = limiter(1, 1)
    limits.admits(one, SECOND)

    assert limits.admits(other, SECOND) is not same


def test_listener_limit_counts_all_sources() -> None:
    limits = limiter(of_all=100, burst_of_all=3)

    assert [limits.admits(bytes([10, 0, 0, number]), SECOND) for number in range(5)] == [True] * 3 + [False] * 2


def test_source_beyond_its_limit_takes_nothing_from_the_listener() -> None:
    limits = limiter(1, 1, of_all=100, burst_of_all=3)
    for _turn in range(50):
        limits.admits(APPLE, SECOND)

    assert [limits.admits(bytes([10, 0, 0, number]), SECOND) for number in range(3)] == [True, True, False]


def test_flood_of_sources_does_not_forgive_a_busy_one() -> None:
    limits = limiter(1, 1000, sources=30)
    for _turn in range(1000):
        assert limits.admits(APPLE, SECOND)

    for _turn in range(5000):
        limits.admits(random.randbytes(4), SECOND)

    assert not limits.admits(APPLE, SECOND)


def test_rate_is_kept_over_a_long_time() -> None:
    limits = limiter(7, 3)

    admitted = sum(limits.admits(APPLE, SECOND + step * 1000) for step in range(100_000))

    assert 7 * 100 <= admitted <= 7 * 100 + 3


def test_threads_share_the_buckets() -> None:
    limits = limiter(0.001, 100, of_all=0.001, burst_of_all=150)
    addresses = APPLE + BANANA
    counts: list[int] = []
    barrier = threading.Barrier(4)

    def run() -> None:
        barrier.wait()
        counts.append(limits.admitted(addresses, SECOND, 20_000))

    threads = [threading.Thread(target=run) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(counts) == 150
    assert limits.refused == 4 * 20_000 * 2 - 150


@pytest.mark.parametrize(
    ("rate", "burst", "sources"), [(-1, 1, 10), (2e9, 1, 10), (1, 0, 10), (1, 1, 0), (1, 1, 5_000_000)]
)
def test_number_out_of_range_is_refused(rate: float, burst: int, sources: int) -> None:
    with pytest.raises(ValueError, match=r"range|burst"):
        limiter(rate, burst, sources=sources)
