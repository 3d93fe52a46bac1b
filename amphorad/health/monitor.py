"""The driver of all health monitors: one agenda, one timer of the event loop, no task per check.

Everything runs in callbacks of the loop's thread. A wake-up starts the checks that are due and ends those whose time is
up; sockets call back through the poller. Wake-ups are at least SLACK_S apart, so that many members cost few of them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from amphorad.health.hysteresis import Hysteresis
from amphorad.health.probes.ping import PingProber
from amphorad.health.probes.poller import Poller
from amphorad.health.probes.sctp import SctpProber
from amphorad.health.probes.stream import StreamProber
from amphorad.health.probes.udp import UdpProber
from amphorad.health.schedule import Agenda, first_due, next_due
from amphorad.health.target import ProbeKind, target_of
from amphorad.health.verdict import CheckResult, CheckStatus, Finding, PoolCount, Verdict
from amphorad.plan import MemberKey, PoolKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from amphorad.health.probes.prober import Attempt, Prober
    from amphorad.health.target import Target
    from amphorad.model import LoadBalancer, Member

__all__ = ["HISTORY", "NUDGE_GAP_S", "MemberHealth", "MonitorSet", "Transition"]

log = logging.getLogger(__name__)

HISTORY: Final = 16
NUDGE_GAP_S: Final = 0.2
"""A nudge is put off until the last check began this long ago."""
SLACK_S: Final = 0.016
"""Checks that are due within it are made together, which costs a fifth less than half of it does: 1.6 % of the shortest interval."""


class Transition(NamedTuple):
    """A change of state: wall time, the new state, and why."""

    at: float
    up: bool
    reason: str


class MemberHealth(NamedTuple):
    """What is known of one checked member.

    Args:
        state: `UP`, `UP 1/3`, `DOWN`, `DOWN 1/2` as in `show stat`.
        since: wall time of the last transition, or of the first sight.
        checked_at: wall time of the end of the last check; 0 before the first.
        last: the last check; None before the first.
        history: the last HISTORY transitions, oldest first.
    """

    state: str
    up: bool
    since: float
    checked_at: float
    last: CheckResult | None
    checks: int
    failures: int
    transitions: int
    history: tuple[Transition, ...]


class _PoolCount:
    """Members of a pool that can take new clients."""

    __slots__ = ("active", "backup")

    def __init__(self) -> None:
        self.active = 0
        self.backup = 0

    def add(self, member: Member, change: int) -> None:
        if not member.admin_state_up or member.weight == 0:
            return
        if member.backup:
            self.backup += change
        else:
            self.active += change

    def snapshot(self) -> PoolCount:
        return PoolCount(self.active, self.backup)


class _Monitor:
    """One checked member: its state, and the check under way, whose owner it is."""

    __slots__ = (
        "armed_at", "attempt", "checked_at", "checks", "due", "due_at", "failures", "health", "history", "key", "last",
        "monitors", "since", "started_at", "target", "transitions",
    )  # fmt: skip

    def __init__(self, monitors: MonitorSet, key: MemberKey, target: Target, up: bool | None, wall: float) -> None:
        self.monitors = monitors
        self.key = key
        self.target = target
        self.health = Hysteresis(target.rise, target.fall, up=up)
        self.due_at = self.armed_at = math.inf
        self.attempt: Attempt | None = None
        self.due = 0.0
        self.started_at = -math.inf
        self.since = wall
        self.checked_at = 0.0
        self.last: CheckResult | None = None
        self.checks = self.failures = self.transitions = 0
        self.history: tuple[Transition, ...] = ()

    def inherit(self, before: _Monitor) -> None:
        """Takes over what was counted of the same member under another monitor."""
        self.since, self.checked_at, self.last = before.since, before.checked_at, before.last
        self.checks, self.failures, self.transitions = before.checks, before.failures, before.transitions
        self.history = before.history

    def change(self, up: bool, reason: str, wall: float) -> None:
        self.since = wall
        self.transitions += 1
        self.history = (*self.history[1 - HISTORY :], Transition(wall, up, reason))

    def statistics(self) -> MemberHealth:
        health = self.health
        return MemberHealth(
            health.text,
            health.is_up,
            self.since,
            self.checked_at,
            self.last,
            self.checks,
            self.failures,
            self.transitions,
            self.history,
        )

    def drop_attempt(self) -> None:
        if self.attempt is not None:
            self.attempt.close()
            self.attempt = None

    # --- the owner of an attempt ---

    def established(self) -> None:
        self.monitors._on_established(self)

    def finish(self, finding: Finding) -> None:
        self.attempt = None
        self.monitors._on_finished(self, finding)


class MonitorSet:
    """Checks the members of a load balancer and reports each change of a member's state. Made and used in a running loop.

    Args:
        report: called on each transition, before anything else happens; it must not call back into the set.
        on_check: called after each check; it must be fast.
        alarm: gets a text when the first check cannot be made for a reason of this machine, and one when all can again.
        initial: states that are known from before (a data plane that died): such a member starts in that state, as with
            HAProxy's server-state file. Used by the first apply only.
        sessions: at a member now, for the log line.
        clock, wall: monotonic and wall time in seconds.
        probers: drivers by kind, in place of the built-in ones; the set closes them.
    """

    def __init__(
        self,
        report: Callable[[MemberKey, Verdict], None],
        *,
        on_check: Callable[[MemberKey, MemberHealth], None] | None = None,
        alarm: Callable[[str], None] | None = None,
        initial: Mapping[MemberKey, bool] | None = None,
        sessions: Callable[[MemberKey], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        loop: asyncio.AbstractEventLoop | None = None,
        probers: Mapping[ProbeKind, Prober] | None = None,
    ) -> None:
        self._report = report
        self._on_check = on_check
        self._alarm = alarm
        self._initial = dict(initial or {})
        self._files: dict[str, bytes] = {}
        self._sessions = sessions
        self._clock = clock
        self._wall = wall
        self._loop = loop or asyncio.get_running_loop()
        self._poller = Poller(self._loop) if probers is None else None
        self._probers = dict(probers or self._built_in())
        self._monitors: dict[MemberKey, _Monitor] = {}
        self._members: dict[MemberKey, Member] = {}
        self._counts: dict[PoolKey, _PoolCount] = {}
        self._agenda: Agenda[_Monitor] = Agenda()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._is_running = False
        self._impeded: set[MemberKey] = set()

    def _built_in(self) -> dict[ProbeKind, Prober]:
        assert self._poller is not None
        return {
            ProbeKind.STREAM: StreamProber(self._poller, self._files),
            ProbeKind.PING: PingProber(self._poller),
            ProbeKind.UDP_CONNECT: UdpProber(self._poller),
            ProbeKind.SCTP: SctpProber(self._poller),
        }

    # --- configuration ---

    def apply(self, load_balancer: LoadBalancer, files: Mapping[str, bytes] | None = None) -> None:
        """Checks the members of this configuration from now on.

        A monitor whose target and settings are the same goes on undisturbed. When only those of the monitor changed, the
        member keeps its state. A member with another address or port is a new one; if the old one was DOWN, that is
        reported as a transition to UP.

        Args:
            files: what TLS options name, by path; what is not in it is opened.
        """
        self._files.clear()
        self._files.update(files or {})
        self.apply_targets(*_targets(load_balancer))

    def apply_targets(self, wanted: Mapping[MemberKey, Target], members: Mapping[MemberKey, Member]) -> None:
        """As `apply`, for members of another kind of configuration (`amphorad.health.lvs`).

        Args:
            wanted: what is checked; members that are not in it are not.
            members: every member, for the counts of what is left of a pool.
        """
        now, wall = self._clock(), self._wall()
        self._members = dict(members)
        for prober in self._probers.values():
            prober.forget()
        for key in [key for key in self._monitors if key not in wanted]:
            self._stop(self._monitors.pop(key))
        fresh = []
        revived = []
        for key, target in wanted.items():
            before = self._monitors.get(key)
            if before is not None and before.target == target:
                continue
            monitor = self._monitors[key] = self._replace(before, key, target, wall)
            fresh.append(monitor)
            if before is not None and monitor.health.is_up and not before.health.is_up:
                revived.append(monitor)
        self._initial.clear()
        self._count()
        for place, monitor in enumerate(fresh):
            monitor.due = first_due(now, monitor.target.interval_s, place, len(fresh))
            self._agenda.set(monitor, monitor.due)
        for monitor in revived:
            self._announce(monitor, None, "the address has changed")
        self._arm()

    def _replace(self, before: _Monitor | None, key: MemberKey, target: Target, wall: float) -> _Monitor:
        if before is None:
            return _Monitor(self, key, target, self._initial.get(key), wall)
        self._stop(before)
        if not target.is_same_member(before.target):
            return _Monitor(self, key, target, None, wall)
        monitor = _Monitor(self, key, target, before.health.is_up, wall)
        monitor.inherit(before)
        return monitor

    def _stop(self, monitor: _Monitor) -> None:
        monitor.drop_attempt()
        self._agenda.remove(monitor)
        self._impeded.discard(monitor.key)

    def _count(self) -> None:
        self._counts = {}
        for key, member in self._members.items():
            count = self._counts.setdefault(PoolKey(*key[:2]), _PoolCount())
            monitor = self._monitors.get(key)
            if monitor is None or monitor.health.is_up:
                count.add(member, 1)

    # --- life ---

    def nudge(self, key: MemberKey) -> bool:
        """Checks a member at once, beside its usual times; at most every NUDGE_GAP_S. False: it is not checked, or is
        being checked or about to be."""
        monitor = self._monitors.get(key)
        if monitor is None or monitor.attempt is not None:
            return False
        when = max(self._clock(), monitor.started_at + NUDGE_GAP_S)
        if monitor.due_at <= when:
            return False
        self._agenda.set(monitor, when)
        self._arm()
        return True

    def statistics(self) -> dict[MemberKey, MemberHealth]:
        """Every checked member."""
        return {key: monitor.statistics() for key, monitor in self._monitors.items()}

    async def close(self) -> None:
        """Ends all checks and gives every socket back; nothing is reported any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for monitor in self._monitors.values():
            self._stop(monitor)
        self._monitors.clear()
        for prober in self._probers.values():
            prober.close()
        self._probers.clear()
        if self._poller is not None:
            self._poller.close()
            self._poller = None

    # --- time ---

    def _arm(self) -> None:
        """Sets the loop's timer to the next thing to do. A timer that comes too early finds nothing and sets itself again."""
        if self._is_running:
            return
        upcoming = self._agenda.next_at()
        if upcoming is None or (self._timer is not None and self._timer_at <= upcoming):
            return
        if self._timer is not None:
            self._timer.cancel()
        now = self._clock()
        self._timer_at = max(upcoming, now + SLACK_S)
        self._timer = self._loop.call_later(self._timer_at - now, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self._is_running = True  # what the checks below set in the agenda is seen at the end, once
        try:
            for monitor in self._agenda.take_due(self._clock()):
                if monitor.attempt is None:
                    self._begin(monitor)
                else:
                    attempt, monitor.attempt = monitor.attempt, None
                    self._on_finished(monitor, attempt.time_out())
        finally:
            self._is_running = False
            self._arm()

    def _begin(self, monitor: _Monitor) -> None:
        target = monitor.target
        now = monitor.started_at = self._clock()
        prober = self._probers.get(target.kind)
        if prober is None:
            self._on_finished(monitor, Finding(CheckStatus.LOCAL, None, f"no prober for {target.kind}"))
            return
        try:
            outcome = prober.begin(target, monitor)
        except Exception:
            log.exception("health check not begun member=%s", monitor.key)
            outcome = Finding(CheckStatus.LOCAL, None, "internal error")
        if isinstance(outcome, Finding):
            self._on_finished(monitor, outcome)
            return
        monitor.attempt = outcome
        deadline = now + target.connect_timeout_s
        if monitor.due + target.interval_s < deadline:
            # The entry that the next check will need, so that a check that ends in time costs the agenda nothing more.
            self._agenda.set(monitor, monitor.due + target.interval_s)
        self._agenda.set(monitor, deadline)

    def _on_established(self, monitor: _Monitor) -> None:
        if monitor.target.kind is ProbeKind.STREAM:
            deadline = self._clock() + monitor.target.timeout_s
            self._agenda.set(monitor, deadline)
            if deadline < self._timer_at:
                self._arm()

    def _on_finished(self, monitor: _Monitor, finding: Finding) -> None:
        now = self._clock()
        monitor.checks += 1
        monitor.checked_at = self._wall()
        result = monitor.last = CheckResult(*finding, now - monitor.started_at)
        if monitor.due <= now:  # later: this was a nudge
            monitor.due = next_due(monitor.due, monitor.target.interval_s, now)
        self._agenda.set(monitor, monitor.due)
        passed = finding.status.passed
        if passed is None:
            self._impede(monitor.key, finding.info)
        else:
            monitor.failures += not passed
            if self._impeded:
                self._unimpede(monitor.key)
            if monitor.health.take(passed):
                self._counts[PoolKey(*monitor.key[:2])].add(self._members[monitor.key], 1 if passed else -1)
                self._announce(monitor, result, "")
        if self._on_check is not None:
            self._on_check(monitor.key, monitor.statistics())
        if monitor.due < self._timer_at:  # nearly always the timer is set for somebody before
            self._arm()

    def _announce(self, monitor: _Monitor, result: CheckResult | None, reason: str) -> None:
        key, up = monitor.key, monitor.health.is_up
        monitor.change(up, reason or (result.text if result else ""), self._wall())
        verdict = Verdict(
            key=key,
            up=up,
            result=result,
            reason=reason,
            count=self._counts[PoolKey(*key[:2])].snapshot(),
            sessions=self._sessions(key) if self._sessions is not None and not up else 0,
            backup=self._members[key].backup,
        )
        self._report(key, verdict)

    def _impede(self, key: MemberKey, text: str) -> None:
        if not self._impeded and self._alarm is not None:
            self._alarm(f"health checks cannot be made: {text} (first: {key})")
        self._impeded.add(key)

    def _unimpede(self, key: MemberKey) -> None:
        self._impeded.discard(key)
        if not self._impeded and self._alarm is not None:
            self._alarm("health checks are made again")


def _targets(load_balancer: LoadBalancer) -> tuple[dict[MemberKey, Target], dict[MemberKey, Member]]:
    targets: dict[MemberKey, Target] = {}
    members: dict[MemberKey, Member] = {}
    for listener in load_balancer.listeners:
        for pool in listener.pools:
            for member in pool.members:
                key = MemberKey(listener.id, pool.id, member.id)
                target = target_of(pool, member)
                members[key] = member
                if target is not None:
                    targets[key] = target
    return targets, members
