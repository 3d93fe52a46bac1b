"""The driver with a fake clock, a fake loop and scripted probers: no socket, no waiting."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from amphorad.health.monitor import HISTORY, NUDGE_GAP_S, MonitorSet
from amphorad.health.target import ProbeKind, Target
from amphorad.health.verdict import CheckStatus, Finding, Verdict
from amphorad.model import HealthMonitor, HealthMonitorType, Listener, LoadBalancer, Member, Mode, Pool
from amphorad.plan import MemberKey

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD = Finding(CheckStatus.L4OK)
BAD = Finding(CheckStatus.L4CON, None, "Connection refused")
LOCAL = Finding(CheckStatus.LOCAL, None, "Too many open files")
MONITOR = HealthMonitor(type=HealthMonitorType.TCP, interval_s=2.0, timeout_s=1.0, rise=2, fall=3)
A, B = MemberKey("l", "p", "a"), MemberKey("l", "p", "b")


class FakeLoop:
    """`call_later` on a clock that only `run_until` moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, int, Any, Callable[[], None]]] = []
        self._count = itertools.count()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        handle = FakeHandle()
        heapq.heappush(self._timers, (self.now + delay, next(self._count), handle, callback))
        return handle

    def run_until(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            when, _order, handle, callback = heapq.heappop(self._timers)
            self.now = max(self.now, when)
            if not handle.cancelled:
                callback()
        self.now = now

    def run_for(self, seconds: float) -> None:
        self.run_until(self.now + seconds)

    @property
    def pending(self) -> int:
        return sum(not handle.cancelled for _when, _order, handle, _callback in self._timers)


class FakeHandle:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeAttempt:
    def __init__(self, owner: Any) -> None:
        self.owner = owner
        self.is_closed = False

    def time_out(self) -> Finding:
        self.is_closed = True
        return Finding(CheckStatus.L7TOUT)

    def close(self) -> None:
        self.is_closed = True


class FakeProber:
    """Answers with what `answers` holds for the port; None there leaves the attempt open."""

    def __init__(self, loop: FakeLoop) -> None:
        self._loop = loop
        self.answers: dict[int, Finding | None] = {}
        self.begun: list[tuple[float, int]] = []
        self.attempts: list[FakeAttempt] = []
        self.is_closed = False

    def begin(self, target: Target, owner: Any) -> Any:
        self.begun.append((round(self._loop.now - 1000.0, 3), target.port))
        answer = self.answers.get(target.port, GOOD)
        if answer is not None:
            return answer
        self.attempts.append(FakeAttempt(owner))
        return self.attempts[-1]

    def forget(self) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


class Rig:
    def __init__(self, **options: Any) -> None:
        self.loop = FakeLoop()
        self.prober = FakeProber(self.loop)
        self.verdicts: list[Verdict] = []
        self.alarms: list[str] = []
        self.set = MonitorSet(
            self._report,
            alarm=self.alarms.append,
            clock=lambda: self.loop.now,
            wall=lambda: self.loop.now + 5e8,
            loop=self.loop,  # type: ignore[arg-type]
            probers={ProbeKind.STREAM: self.prober},
            **options,
        )

    def _report(self, key: MemberKey, verdict: Verdict) -> None:
        assert key == verdict.key
        self.verdicts.append(verdict)

    @property
    def changes(self) -> list[tuple[str, bool]]:
        return [(verdict.key.member_id, verdict.up) for verdict in self.verdicts]

    def state(self, key: MemberKey = A) -> str:
        return self.set.statistics()[key].state


def member(name: str = "a", port: int = 1, **fields: Any) -> Member:
    return Member(id=name, address="10.0.0.1", port=port, checked=fields.pop("checked", True), **fields)


def balancer(*members: Member, monitor: HealthMonitor | None = MONITOR, pool: str = "p") -> LoadBalancer:
    pools = (Pool(id=pool, mode=Mode.TCP, members=members or (member(),), health_monitor=monitor),)
    return LoadBalancer(id="lb", listeners=(Listener(id="l", mode=Mode.TCP, binds=(), default_pool=pool, pools=pools),))


def test_checks_are_spread_and_keep_their_grid() -> None:
    rig = Rig()
    rig.set.apply(balancer(member("a", 1), member("b", 2)))

    rig.loop.run_for(5.5)

    assert [port for _at, port in rig.prober.begun] == [1, 2, 1, 2, 1, 2]
    for (at, _port), expected in zip(rig.prober.begun, (0, 1, 2, 3, 4, 5), strict=True):
        assert abs(at - expected) < 0.02


def test_first_check_fails_member_is_reported_down_once() -> None:
    rig = Rig()
    rig.prober.answers[1] = BAD
    rig.set.apply(balancer())

    rig.loop.run_for(9.0)

    assert rig.changes == [("a", False)]
    assert rig.state() == "DOWN"


def test_member_comes_up_after_rise_and_goes_down_after_fall() -> None:
    rig = Rig()
    rig.prober.answers[1] = BAD
    rig.set.apply(balancer())
    rig.loop.run_for(0.5)
    rig.prober.answers[1] = GOOD
    rig.loop.run_for(2.0)
    assert rig.state() == "DOWN 1/2"
    rig.loop.run_for(2.0)
    assert rig.state() == "UP"
    rig.prober.answers[1] = BAD
    rig.loop.run_for(2.0)
    assert rig.state() == "UP 2/3"
    rig.loop.run_for(4.0)

    assert rig.changes == [("a", False), ("a", True), ("a", False)]


def test_log_lines_are_haproxys() -> None:
    """Octavia contract section 4.11, state events."""
    rig = Rig(sessions=lambda key: 7)
    rig.prober.answers[1] = BAD
    rig.set.apply(balancer(member("a", 1), member("b", 2, backup=True), member("c", 3, weight=0)))
    rig.loop.run_for(0.5)
    rig.prober.answers[1] = GOOD
    rig.loop.run_for(4.0)

    assert [verdict.log_line for verdict in rig.verdicts] == [
        'Server p:l/a is DOWN, reason: Layer4 connection problem, info: "Connection refused", check duration: 0ms. '
        "0 active and 1 backup servers left. Running on backup. 7 sessions active, 0 requeued, 0 remaining in queue.",
        "Server p:l/a is UP, reason: Layer4 check passed, check duration: 0ms. "
        "1 active and 1 backup servers online. 0 sessions requeued, 0 total in queue.",
    ]


def test_last_member_down_says_that_the_pool_is_empty() -> None:
    rig = Rig()
    rig.prober.answers[1] = BAD
    rig.set.apply(balancer())
    rig.loop.run_for(0.5)

    assert rig.verdicts[0].pool_log_line == "backend p:l has no server available!"


def test_check_without_answer_times_out_after_the_connect_timeout() -> None:
    rig = Rig()
    rig.prober.answers[1] = None
    rig.set.apply(balancer())
    rig.loop.run_for(1.9)
    assert rig.verdicts == []

    rig.loop.run_for(0.15)

    assert rig.changes == [("a", False)]
    assert rig.prober.attempts[0].is_closed
    health = rig.set.statistics()[A]
    assert health.last is not None
    assert health.last.duration_s == pytest.approx(2.0, abs=0.02)


def test_established_check_times_out_after_the_monitors_timeout_from_then() -> None:
    rig = Rig()
    rig.prober.answers[1] = None
    rig.set.apply(balancer())
    rig.loop.run_for(0.1)
    rig.prober.attempts[0].owner.established()

    rig.loop.run_for(0.9)
    assert rig.verdicts == []
    rig.loop.run_for(0.15)

    assert rig.changes == [("a", False)]


def test_check_that_outlasts_its_interval_never_overlaps_the_next() -> None:
    rig = Rig()
    rig.prober.answers[1] = None
    rig.set.apply(balancer(monitor=replace(MONITOR, timeout_s=5.0)))
    rig.loop.run_for(0.1)
    rig.prober.attempts[0].owner.established()
    rig.loop.run_for(4.8)
    assert len(rig.prober.begun) == 1

    rig.loop.run_for(1.5)

    assert len(rig.prober.begun) == 2
    assert rig.prober.begun[1][0] == pytest.approx(6.0, abs=0.02)


def test_apply_of_the_same_configuration_disturbs_nothing() -> None:
    rig = Rig()
    rig.prober.answers[1] = None
    rig.set.apply(balancer())
    rig.loop.run_for(1.0)

    rig.set.apply(balancer(member(weight=9)))
    rig.prober.attempts[0].owner.finish(GOOD)
    rig.loop.run_for(1.5)

    assert [at for at, _port in rig.prober.begun] == pytest.approx([0.0, 2.0], abs=0.02)
    assert not rig.prober.attempts[0].is_closed
    assert rig.set.statistics()[A].checks == 1


def test_apply_with_other_thresholds_keeps_state_and_counters() -> None:
    rig = Rig()
    rig.prober.answers[1] = BAD
    rig.set.apply(balancer())
    rig.loop.run_for(0.5)

    rig.set.apply(balancer(monitor=replace(MONITOR, rise=5)))

    health = rig.set.statistics()[A]
    assert (health.state, health.checks, health.transitions) == ("DOWN", 1, 1)
    assert rig.changes == [("a", False)]


def test_apply_with_another_address_is_a_new_member_and_up() -> None:
    rig = Rig()
    rig.prober.answers[1] = BAD
    rig.set.apply(balancer())
    rig.loop.run_for(0.5)

    rig.set.apply(balancer(member(port=2)))

    assert rig.state() == "UP 1/3"
    assert rig.changes == [("a", False), ("a", True)]


def test_apply_without_a_member_closes_its_check_and_hears_no_late_result() -> None:
    rig = Rig()
    rig.prober.answers[1] = None
    rig.set.apply(balancer(member("a", 1), member("b", 2)))
    rig.loop.run_for(0.1)

    rig.set.apply(balancer(member("b", 2)))
    rig.loop.run_for(10.0)

    assert rig.prober.attempts[0].is_closed
    assert rig.verdicts == []
    assert list(rig.set.statistics()) == [B]


def test_monitor_that_is_removed_and_comes_back_starts_afresh() -> None:
    rig = Rig()
    rig.prober.answers[1] = BAD
    rig.set.apply(balancer())
    rig.loop.run_for(0.5)
    rig.set.apply(balancer(monitor=None))
    assert rig.set.statistics() == {}

    rig.set.apply(balancer())

    assert rig.state() == "UP 1/3"


def test_two_pools_with_one_address_do_not_influence_each_other() -> None:
    rig = Rig()
    slow = replace(MONITOR, interval_s=60.0)
    pools = tuple(
        Pool(id=name, mode=Mode.TCP, members=(member("a", 1),), health_monitor=monitor)
        for name, monitor in (("p", MONITOR), ("q", slow))
    )
    listener = Listener(id="l", mode=Mode.TCP, binds=(), default_pool="p", pools=pools)
    rig.set.apply(LoadBalancer(id="lb", listeners=(listener, replace(listener, id="k"))))
    rig.loop.run_for(59.0)
    before = {key: health.checks for key, health in rig.set.statistics().items()}
    rig.prober.answers[1] = BAD
    rig.loop.run_for(7.0)

    assert len(before) == 4
    assert rig.state(MemberKey("l", "p", "a")) == "DOWN"
    assert rig.state(MemberKey("l", "q", "a")).startswith("UP")
    assert before[MemberKey("l", "p", "a")] > 20
    assert before[MemberKey("l", "q", "a")] == 1


def test_initial_states_are_taken_over_by_the_first_apply_only() -> None:
    """A data plane that died comes back with what its board said, as from HAProxy's server-state file."""
    rig = Rig(initial={A: False, B: True})
    rig.set.apply(balancer(member("a", 1), member("b", 2)))
    states = (rig.state(A), rig.state(B))
    rig.set.apply(balancer(member("b", 2)))
    rig.set.apply(balancer(member("a", 1), member("b", 2)))

    assert states == ("DOWN", "UP")
    assert rig.state(A) == "UP 1/3"
    assert rig.verdicts == []


def test_failure_of_this_machine_changes_nothing_and_raises_one_alarm() -> None:
    rig = Rig()
    rig.prober.answers[1] = LOCAL
    rig.set.apply(balancer(member("a", 1), member("b", 2)))
    rig.loop.run_for(9.0)

    assert rig.verdicts == []
    assert rig.state() == "UP 1/3"
    assert len(rig.alarms) == 1
    assert "Too many open files" in rig.alarms[0]
    rig.prober.answers[1] = GOOD
    rig.loop.run_for(4.0)
    assert rig.alarms[1:] == ["health checks are made again"]


def test_prober_that_raises_costs_only_that_check() -> None:
    rig = Rig()

    def explode(target: Target, owner: object) -> Finding:
        if target.port == 1:
            raise RuntimeError("bug")
        return GOOD

    rig.prober.begin = explode  # type: ignore[method-assign]
    rig.set.apply(balancer(member("a", 1), member("b", 2)))
    rig.loop.run_for(5.0)

    assert rig.state(B) == "UP"
    assert rig.set.statistics()[B].checks >= 2


def test_nudge_checks_at_once_and_keeps_the_grid() -> None:
    rig = Rig()
    rig.set.apply(balancer())
    rig.loop.run_for(1.0)

    nudged = rig.set.nudge(A)
    rig.loop.run_for(2.0)

    assert nudged
    assert [at for at, _port in rig.prober.begun] == pytest.approx([0.0, 1.0, 2.0], abs=0.02)


def test_nudge_right_after_a_check_is_put_off_and_further_ones_add_nothing() -> None:
    rig = Rig()
    rig.set.apply(balancer())
    rig.loop.run_for(0.1)

    nudges = [rig.set.nudge(A) for _time in range(5)]
    rig.loop.run_for(1.5)

    assert nudges == [True, False, False, False, False]
    assert [at for at, _port in rig.prober.begun] == pytest.approx([0.0, NUDGE_GAP_S], abs=0.02)


def test_nudge_of_an_unknown_member_does_nothing() -> None:
    rig = Rig()
    rig.set.apply(balancer())

    assert not rig.set.nudge(B)


def test_nudge_during_a_check_does_nothing() -> None:
    rig = Rig()
    rig.prober.answers[1] = None
    rig.set.apply(balancer())
    rig.loop.run_for(1.0)

    assert not rig.set.nudge(A)


def test_history_keeps_the_last_transitions() -> None:
    rig = Rig()
    rig.set.apply(balancer(monitor=replace(MONITOR, rise=1, fall=1)))
    for round_ in range(40):
        rig.prober.answers[1] = BAD if round_ % 2 else GOOD
        rig.loop.run_for(2.0)

    health = rig.set.statistics()[A]
    assert len(health.history) == HISTORY
    assert health.transitions == len(rig.verdicts) > HISTORY
    assert health.history[-1].up == rig.verdicts[-1].up
    assert health.history[-1].at == health.since
    assert "Layer4" in health.history[-1].reason


def test_statistics_carry_the_last_check() -> None:
    rig = Rig()
    rig.prober.answers[1] = Finding(CheckStatus.L7STS, 500, "Oops")
    rig.set.apply(balancer())
    rig.loop.run_for(0.5)

    health = rig.set.statistics()[A]
    assert health.last is not None
    assert health.last.text == 'Layer7 wrong status, code: 500, info: "Oops", check duration: 0ms'
    assert (health.checks, health.failures, health.transitions) == (1, 1, 1)


def test_every_check_is_told_to_the_owner() -> None:
    told: list[tuple[MemberKey, str]] = []
    rig = Rig(on_check=lambda key, health: told.append((key, health.state)))
    rig.set.apply(balancer())
    rig.loop.run_for(2.5)

    assert told == [(A, "UP"), (A, "UP")]


def test_close_leaves_no_timer_and_no_attempt() -> None:
    rig = Rig()
    rig.prober.answers[1] = None
    rig.set.apply(balancer(member("a", 1), member("b", 2)))
    rig.loop.run_for(0.1)

    asyncio.run(rig.set.close())

    assert rig.loop.pending == 0
    assert rig.prober.attempts[0].is_closed
    assert rig.prober.is_closed


def test_late_wakes_do_not_pile_up_checks() -> None:
    """The loop was held up for a minute: each member is checked once, and goes on at its times."""
    rig = Rig()
    rig.set.apply(balancer())
    rig.loop.run_for(0.5)
    rig.loop.now += 61.3
    rig.loop.run_for(0.1)
    checks = len(rig.prober.begun)
    rig.loop.run_for(2.0)

    assert checks == 2
    assert rig.prober.begun[-1][0] == pytest.approx(62.0, abs=0.02)
