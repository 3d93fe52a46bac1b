"""What drains for too long is ended once, with a clock of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from amphorad.proxy.draining import Draining

if TYPE_CHECKING:
    from amphorad.proxy.engine.engine import MemberRuntime


class Runtime:
    """Counts evictions; stands in for a member of the engine."""

    def __init__(self) -> None:
        self.evictions = 0

    def evict(self) -> None:
        self.evictions += 1


def member() -> MemberRuntime:
    return cast("MemberRuntime", Runtime())


def evictions(runtime: MemberRuntime) -> int:
    return cast("Runtime", runtime).evictions


def test_member_that_drains_is_evicted_once_and_only_when_the_time_is_over() -> None:
    draining, runtime = Draining(10.0), member()
    draining.begin(runtime, 100.0)

    assert draining.evict_overdue(109.9) == []
    assert not draining.is_over(runtime)
    assert draining.evict_overdue(110.0) == [runtime]
    assert draining.is_over(runtime)
    assert draining.evict_overdue(1000.0) == []
    assert evictions(runtime) == 1


def test_member_that_goes_on_draining_keeps_its_time() -> None:
    draining, runtime = Draining(10.0), member()
    draining.begin(runtime, 100.0)
    draining.begin(runtime, 105.0)

    assert draining.evict_overdue(110.0) == [runtime]


def test_member_that_is_in_use_again_begins_anew() -> None:
    draining, runtime = Draining(10.0), member()
    draining.begin(runtime, 100.0)
    draining.evict_overdue(110.0)
    draining.end(runtime)
    draining.begin(runtime, 120.0)

    assert not draining.is_over(runtime)
    assert draining.evict_overdue(129.0) == []
    assert draining.evict_overdue(130.0) == [runtime]


def test_without_a_limit_nothing_is_ever_over() -> None:
    draining, runtime = Draining(0.0), member()
    draining.begin(runtime, 100.0)

    assert draining.evict_overdue(1e9) == []
    assert not draining.is_over(runtime)
