"""Metrics from statuses made by hand, read back with the client library's own parser."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from amphorad.board import BUCKETS, bucket_upper_bound_s
from amphorad.metrics import render_metrics
from amphorad.model import LoadBalancer
from amphorad.status import Counts, ListenerStatus, MemberCheck, MemberStatus, PoolStatus, StandingStatus

NOW = 1_000_000.0
LABELS = ("listener", "pool", "member", "state", "code", "le")
CHECK = MemberCheck("UP", "L4OK", "", "", None, 0.0, NOW - 60, NOW, 100, 7, 3)


def buckets(**counts: int) -> tuple[int, ...]:
    found = [0] * BUCKETS
    for name, count in counts.items():
        found[int(name.removeprefix("at"))] = count
    return tuple(found)


def member(id_: str, state: str = "UP", **more: Any) -> MemberStatus:
    fields: dict[str, Any] = {"weight": 1, "backup": False, "idle": 0, "counts": Counts()} | more
    return MemberStatus(id=id_, address="10.0.0.1", port=80, state=state, **fields)


def samples(*members: MemberStatus, counts: Counts | None = None) -> dict[tuple[str, ...], float]:
    """By name and label values."""
    pool = PoolStatus("p", "round_robin", members, counts or Counts())
    listener = ListenerStatus("l", "http", (), 9, (pool,), counts or Counts())
    text = render_metrics(LoadBalancer(id="lb", connection_limit=77), [listener], 5, NOW).decode()
    return {
        (sample.name, *(sample.labels[name] for name in LABELS if name in sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_figures_of_every_object() -> None:
    counters = {
        "connections": 3, "requests": 10, "bytes_in": 100, "bytes_out": 1000, "responses_2xx": 9, "responses_5xx": 1,
        "connects": 2, "reuses": 8, "connect_errors": 4, "retries": 5, "denied": 6,
    }  # fmt: skip
    counts = Counts(counters=counters, current=2, max_current=4)

    found = samples(member("a", counts=counts, check=CHECK, idle=6, weight=3), member("b"), counts=counts)

    assert found["octavia_loadbalancer_max_connections",] == 77
    assert found["octavia_loadbalancer_dropped_logs_total",] == 5
    assert found["octavia_loadbalancer_requests_total",] == 10
    assert found["octavia_listener_current_sessions", "l"] == 2
    assert found["octavia_listener_limit_sessions", "l"] == 9
    assert found["octavia_listener_requests_denied_total", "l"] == 6
    assert found["octavia_listener_http_responses_total", "l", "2xx"] == 9
    assert found["octavia_pool_bytes_out_total", "p:l"] == 1000
    assert found["octavia_pool_connection_attempts_total", "p:l"] == 2
    assert found["octavia_pool_active_members", "p:l"] == 2
    assert found["octavia_member_connection_errors_total", "p:l", "a"] == 4
    assert found["octavia_member_http_responses_total", "p:l", "a", "5xx"] == 1
    assert found["octavia_member_weight", "p:l", "a"] == 3
    assert found["octavia_member_idle_connections_current", "p:l", "a"] == 6
    assert found["octavia_member_check_failures_total", "p:l", "a"] == 7
    assert found["octavia_member_check_last_change_seconds", "p:l", "a"] == 60
    assert ("octavia_member_check_failures_total", "p:l", "b") not in found
    assert 0 <= found["octavia_loadbalancer_memory",] <= 100


@pytest.mark.parametrize(
    ("state", "shown"),
    [("UP", "UP"), ("NO CHECK", "UP"), ("DOWN", "DOWN"), ("MAINT", "MAINT"), ("DRAIN", "DRAIN"), ("UNKNOWN", "NOLB")],
)
def test_one_series_for_each_state_of_a_member(state: str, shown: str) -> None:
    found = samples(member("a", state))

    states = {key[3]: value for key, value in found.items() if key[0] == "octavia_member_status"}
    assert {name for name, value in states.items() if value} == {shown}
    assert states.keys() == {"UP", "DOWN", "MAINT", "DRAIN", "NOLB"}


def test_ejection_and_slow_start_of_a_member_are_told() -> None:
    found = samples(
        member("a", "DOWN", standing=StandingStatus(1000.0, 100)), member("b", standing=StandingStatus(0.0, 35))
    )

    assert found["amphorad_member_ejected", "p:l", "a"] == 1
    assert found["amphorad_member_ejected", "p:l", "b"] == 0
    assert found["octavia_member_current_throttle", "p:l", "a"] == 100
    assert found["octavia_member_current_throttle", "p:l", "b"] == 35


def test_pool_is_down_without_a_member_that_serves_and_counts_backups_apart() -> None:
    down = samples(member("a", "DOWN"), member("b", "UP", weight=0))
    backup = samples(member("a", "DOWN"), member("b", backup=True))

    assert (down["octavia_pool_status", "p:l", "UP"], down["octavia_pool_status", "p:l", "DOWN"]) == (0, 1)
    assert backup["octavia_pool_status", "p:l", "UP"] == 1
    assert (backup["octavia_pool_active_members", "p:l"], backup["octavia_pool_backup_members", "p:l"]) == (0, 1)


def test_durations_as_histogram_and_average() -> None:
    counts = Counts(counters={}, buckets=buckets(at10=3, at40=1))

    found = samples(counts=counts)

    slow, fast = bucket_upper_bound_s(40), bucket_upper_bound_s(10)
    assert found["octavia_pool_total_time_average_seconds", "p:l"] == pytest.approx((slow + 3 * fast) / 4)
    assert found["amphorad_listener_duration_seconds_count", "l"] == 4
    assert found["amphorad_listener_duration_seconds_sum", "l"] == pytest.approx(slow + 3 * fast)
    by_bound = [value for key, value in found.items() if key[0] == "amphorad_listener_duration_seconds_bucket"]
    assert by_bound == sorted(by_bound)
    assert set(by_bound) == {0, 3, 4}
