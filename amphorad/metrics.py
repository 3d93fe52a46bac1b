"""The figures of a load balancer as Prometheus metrics, under the names that Octavia promises (contract section 7.8).

What has no meaning here (compression, caches, rates that Prometheus computes better itself) is left out; queues do not
exist, so their metrics are 0. `amphorad_listener_duration_seconds`, a histogram, is ours.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest

from amphorad.board import bucket_upper_bound_s

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.core import Metric

    from amphorad.model import LoadBalancer
    from amphorad.status import Counts, ListenerStatus, MemberStatus, PoolStatus

__all__ = ["CONTENT_TYPE", "render_metrics"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# Metric suffix, counter on the board, help text.
_TRAFFIC: Final = (
    ("bytes_in", "bytes_in", "Bytes received from clients."),
    ("bytes_out", "bytes_out", "Bytes sent to clients."),
)
_LISTENER: Final = (
    *_TRAFFIC,
    ("sessions", "connections", "Sessions."),
    ("connections", "connections", "Connections accepted."),
    ("requests_denied", "denied", "Requests denied by a policy or a rate limit."),
    ("request_errors", "request_errors", "Requests that were not understood."),
    ("http_requests", "requests", "HTTP requests."),
)
_FAILURES: Final = (
    ("connection_errors", "connect_errors", "Connections to members that failed."),
    ("response_errors", "response_errors", "Responses of members that were invalid or did not come."),
    ("retry_warnings", "retries", "Connections to members that were tried again."),
    ("redispatch_warnings", "redispatches", "Sessions that went on to another member."),
    ("client_aborts", "client_aborts", "Transfers broken off by the client."),
)
_POOL: Final = (
    *_TRAFFIC,
    *_FAILURES,
    ("member_aborts", "member_aborts", "Transfers broken off by the member."),
    ("http_requests", "requests", "HTTP requests."),
)
_MEMBER: Final = (
    *_TRAFFIC,
    *_FAILURES,
    ("server_aborts", "member_aborts", "Transfers broken off by the member."),
    ("sessions", "connections", "Sessions."),
    ("loadbalanced", "connections", "Sessions that were sent here."),
    ("connection_attempts", "connects", "Connections opened."),
    ("connection_reuses", "reuses", "Requests on a connection that was there already."),
)
_CODES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx", "other")
_MEMBER_STATES: Final = ("UP", "DOWN", "MAINT", "DRAIN", "NOLB")
_SERVING: Final = ("UP", "NO CHECK")


def render_metrics(
    load_balancer: LoadBalancer, listeners: Sequence[ListenerStatus], dropped_logs: int = 0, now: float | None = None
) -> bytes:
    """The text exposition format, version 0.0.4.

    Args:
        listeners: as `amphorad.status.build_listeners` makes them of that load balancer.
        now: wall time; that of the call when None.
    """
    return generate_latest(_Collector(load_balancer, listeners, dropped_logs, time.time() if now is None else now))


class _Collector:
    """What `generate_latest` takes for a registry."""

    def __init__(
        self, load_balancer: LoadBalancer, listeners: Sequence[ListenerStatus], dropped_logs: int, now: float
    ) -> None:
        self._load_balancer = load_balancer
        self._listeners = listeners
        self._dropped_logs = dropped_logs
        self._now = now

    def collect(self) -> Iterator[Metric]:
        yield from self._of_load_balancer()
        yield from self._of_listeners()
        yield from self._of_pools()
        yield from self._of_members()

    def _of_load_balancer(self) -> Iterator[Metric]:
        prefix = "octavia_loadbalancer"
        counts = [listener.counts for listener in self._listeners]
        load = os.getloadavg()[0] / (os.cpu_count() or 1) * 100
        for name, value, text in (
            ("cpu", round(load, 1), "Load of one minute, percent of all CPUs."),
            ("memory", _memory_percent(), "Memory in use, percent."),
            ("max_connections", self._load_balancer.connection_limit, "Limit of connections over all listeners."),
            ("current_connections", sum(each.current for each in counts), "Connections open now."),
            ("listeners", len(counts), "Listeners."),
        ):
            yield GaugeMetricFamily(f"{prefix}_{name}", text, value)
        for name, value, text in (
            ("connections", sum(each["connections"] for each in counts), "Connections accepted."),
            ("requests", sum(each["requests"] for each in counts), "HTTP requests."),
            ("dropped_logs", self._dropped_logs, "Lines of the traffic log that its socket did not take."),
        ):
            yield CounterMetricFamily(f"{prefix}_{name}", text, value)

    def _of_listeners(self) -> Iterator[Metric]:
        found = [((listener.id,), listener.counts) for listener in self._listeners]
        labels = ("listener",)
        yield _states("octavia_listener_status", labels, [(key, "UP") for key, _counts in found], ("UP", "DOWN"))
        yield from _gauges("octavia_listener", labels, found)
        limits = GaugeMetricFamily("octavia_listener_limit_sessions", "Limit of sessions.", labels=labels)
        durations = HistogramMetricFamily(
            "amphorad_listener_duration_seconds",
            "From the request, or accept, to the end of the answer.",
            labels=labels,
        )
        for listener in self._listeners:
            limits.add_metric((listener.id,), listener.limit)
            buckets, total = _histogram(listener.counts)
            durations.add_metric((listener.id,), buckets, total)
        yield limits
        yield durations
        yield from _counters("octavia_listener", labels, found, _LISTENER)
        yield _responses("octavia_listener", labels, found)

    def _pools(self) -> Iterator[tuple[ListenerStatus, PoolStatus]]:
        for listener in self._listeners:
            for pool in listener.pools:
                yield listener, pool

    def _of_pools(self) -> Iterator[Metric]:
        labels = ("pool",)
        prefix = "octavia_pool"
        found = [((_pool_name(listener, pool),), pool.counts) for listener, pool in self._pools()]
        serving = [[member for member in pool.members if _serves(member)] for _listener, pool in self._pools()]
        keys = [key for key, _counts in found]
        yield _states(
            f"{prefix}_status",
            labels,
            [(key, "UP" if members else "DOWN") for key, members in zip(keys, serving, strict=True)],
            ("UP", "DOWN"),
        )
        yield from _gauges(prefix, labels, found)
        active = GaugeMetricFamily(f"{prefix}_active_members", "Members that serve, without backups.", labels=labels)
        backup = GaugeMetricFamily(f"{prefix}_backup_members", "Backup members that can serve.", labels=labels)
        for key, members in zip(keys, serving, strict=True):
            backups = sum(member.backup for member in members)
            active.add_metric(key, len(members) - backups)
            backup.add_metric(key, backups)
        yield active
        yield backup
        yield from _queues(prefix, labels, keys)
        yield _averages(prefix, labels, found)
        yield from _counters(prefix, labels, found, _POOL)
        for name, counter, text in _MEMBER[-4:]:
            family = CounterMetricFamily(f"{prefix}_{name}", text, labels=labels)
            for key, (_listener, pool) in zip(keys, self._pools(), strict=True):
                family.add_metric(key, sum(member.counts[counter] for member in pool.members))
            yield family
        yield _responses(prefix, labels, found)

    def _of_members(self) -> Iterator[Metric]:
        labels = ("pool", "member")
        prefix = "octavia_member"
        members = [
            ((_pool_name(listener, pool), member.id), member)
            for listener, pool in self._pools()
            for member in pool.members
        ]
        found = [(key, member.counts) for key, member in members]
        keys = [key for key, _member in members]
        yield _states(f"{prefix}_status", labels, [(key, _state(member)) for key, member in members], _MEMBER_STATES)
        yield from _gauges(prefix, labels, found)
        yield from _queues(prefix, labels, keys)
        weight = GaugeMetricFamily(f"{prefix}_weight", "Weight.", labels=labels)
        throttle = GaugeMetricFamily(f"{prefix}_current_throttle", "Percent of its weight that it gets.", labels=labels)
        ejected = GaugeMetricFamily("amphorad_member_ejected", "Taken out for what live traffic showed.", labels=labels)
        idle = GaugeMetricFamily(f"{prefix}_idle_connections_current", "Connections kept for reuse.", labels=labels)
        changed = GaugeMetricFamily(f"{prefix}_check_last_change_seconds", "Since the last change.", labels=labels)
        failures = CounterMetricFamily(f"{prefix}_check_failures", "Health checks that failed.", labels=labels)
        changes = CounterMetricFamily(f"{prefix}_check_up_down", "Changes between UP and DOWN.", labels=labels)
        for key, member in members:
            weight.add_metric(key, member.weight)
            throttle.add_metric(key, member.percent)
            ejected.add_metric(key, int(member.is_ejected))
            idle.add_metric(key, member.idle)
            if member.check is not None:
                changed.add_metric(key, max(0.0, self._now - member.check.since))
                failures.add_metric(key, member.check.failures)
                changes.add_metric(key, member.check.transitions)
        yield from (weight, throttle, ejected, idle, changed, failures, changes)
        yield _averages(prefix, labels, found)
        yield from _counters(prefix, labels, found, _MEMBER)
        yield _responses(prefix, labels, found)


_Key: TypeAlias = tuple[str, ...]
_Found: TypeAlias = "Sequence[tuple[_Key, Counts]]"


def _pool_name(listener: ListenerStatus, pool: PoolStatus) -> str:
    return f"{pool.id}:{listener.id}"


def _serves(member: MemberStatus) -> bool:
    return member.state in _SERVING and member.weight > 0


def _state(member: MemberStatus) -> str:
    if member.state in _SERVING:
        return "UP"
    return member.state if member.state in _MEMBER_STATES else "NOLB"


def _states(name: str, labels: _Key, found: Sequence[tuple[_Key, str]], states: _Key) -> Metric:
    """One series for each state, 1 for the present one."""
    family = GaugeMetricFamily(name, "Status: 1 for the present state.", labels=(*labels, "state"))
    for key, present in found:
        for state in states:
            family.add_metric((*key, state), int(state == present))
    return family


def _gauges(prefix: str, labels: _Key, found: _Found) -> Iterator[Metric]:
    current = GaugeMetricFamily(f"{prefix}_current_sessions", "Sessions open now.", labels=labels)
    most = GaugeMetricFamily(f"{prefix}_max_sessions", "Most sessions that were open at a time.", labels=labels)
    for key, counts in found:
        current.add_metric(key, counts.current)
        most.add_metric(key, counts.max_current)
    yield current
    yield most


def _queues(prefix: str, labels: _Key, keys: Sequence[_Key]) -> Iterator[Metric]:
    for name in ("current_queue", "max_queue"):
        family = GaugeMetricFamily(f"{prefix}_{name}", "Requests in queues, of which there are none.", labels=labels)
        for key in keys:
            family.add_metric(key, 0)
        yield family


def _counters(prefix: str, labels: _Key, found: _Found, rows: Sequence[tuple[str, str, str]]) -> Iterator[Metric]:
    for name, counter, text in rows:
        family = CounterMetricFamily(f"{prefix}_{name}", text, labels=labels)
        for key, counts in found:
            family.add_metric(key, counts[counter])
        yield family


def _responses(prefix: str, labels: _Key, found: _Found) -> Metric:
    family = CounterMetricFamily(f"{prefix}_http_responses", "HTTP responses by code.", labels=(*labels, "code"))
    for key, counts in found:
        for code in _CODES:
            family.add_metric((*key, code), counts[f"responses_{code}"])
    return family


def _averages(prefix: str, labels: _Key, found: _Found) -> Metric:
    """From the histogram, whose buckets are a quarter of an octave wide."""
    text = "Average time from the request to the end of the answer, since the start."
    family = GaugeMetricFamily(f"{prefix}_total_time_average_seconds", text, labels=labels)
    for key, counts in found:
        count = sum(counts.buckets)
        family.add_metric(key, _histogram(counts)[1] / count if count else 0.0)
    return family


def _histogram(counts: Counts) -> tuple[list[tuple[str, float]], float]:
    """Cumulated buckets, and the sum of all durations as the buckets tell it."""
    buckets: list[tuple[str, float]] = []
    seen, total = 0, 0.0
    for place, count in enumerate(counts.buckets):
        seen += count
        bound = bucket_upper_bound_s(place)
        total += count * bound
        if place % 4 == 3 and place < len(counts.buckets) - 1:  # one for each octave is enough to read
            buckets.append((f"{bound:.9g}", seen))
    return [*buckets, ("+Inf", seen)], total


def _memory_percent() -> float:
    """Of this machine, as free(1) counts it."""
    with open("/proc/meminfo") as file:
        found = {line.split(":")[0]: int(line.split()[1]) for line in file}
    return round(100 * (1 - found["MemAvailable"] / found["MemTotal"]), 1)
