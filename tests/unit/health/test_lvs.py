"""What is checked of UDP and SCTP members: from the LVS model to targets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amphorad.dialects.keepalived.lvs import LvsConfiguration, LvsMember, LvsMonitor, LvsPool, MonitorType
from amphorad.health.lvs import lvs_members, lvs_targets
from amphorad.health.target import ProbeKind
from amphorad.plan import MemberKey

MEMBER = LvsMember(id="m", address="10.0.0.5", port=53, weight=3, check_address="10.0.0.6", check_port=54)
MONITOR = LvsMonitor(id="h", type=MonitorType.UDP_CONNECT, delay_s=5, timeout_s=3, fall=2)
POOL = LvsPool(
    id="p",
    is_enabled=True,
    algorithm="ROUND_ROBIN",
    persistence=None,
    monitor=MONITOR,
    members=(MEMBER,),
    disabled_members=("off",),
)
KEY = MemberKey("l", "p", "m")


def configuration(monitor: LvsMonitor | None = MONITOR) -> LvsConfiguration:
    return LvsConfiguration(
        load_balancer_id="lb",
        listener_id="l",
        is_enabled=True,
        namespace="n",
        vips=("10.0.0.1",),
        port=53,
        protocol="UDP",
        pool=replace(POOL, monitor=monitor),
    )


@pytest.mark.parametrize(
    ("monitor_type", "kind", "connect_s"),
    [
        (MonitorType.UDP_CONNECT, ProbeKind.UDP_CONNECT, 1.0),
        (MonitorType.SCTP, ProbeKind.SCTP, 3.0),
        (MonitorType.TCP, ProbeKind.STREAM, 3.0),
    ],
)
def test_target_asks_the_monitor_address_and_one_pass_is_enough(
    monitor_type: MonitorType, kind: ProbeKind, connect_s: float
) -> None:
    target = lvs_targets(configuration(replace(MONITOR, type=monitor_type)))[KEY]

    assert (target.kind, target.address, target.port) == (kind, "10.0.0.6", 54)
    assert (target.member_address, target.member_port) == ("10.0.0.5", 53)
    assert (target.interval_s, target.rise, target.fall, target.connect_timeout_s) == (5.0, 1, 2, connect_s)
    assert target.http is None


def test_http_target_takes_any_of_the_codes() -> None:
    monitor = replace(MONITOR, type=MonitorType.HTTP, url_path="/up", expected_codes=(200, 204))

    http = lvs_targets(configuration(monitor))[KEY].http

    assert http is not None
    assert (http.method, http.path, http.expected) == ("GET", "/up", "200|204")


def test_monitor_whose_checks_are_not_told_and_no_monitor_check_nothing() -> None:
    assert lvs_targets(configuration(replace(MONITOR, type=None))) == {}
    assert lvs_targets(configuration(None)) == {}
    assert lvs_targets(replace(configuration(), pool=None)) == {}


def test_members_are_counted_with_their_weight() -> None:
    members = lvs_members(configuration(None))

    assert list(members) == [KEY]
    assert members[KEY].weight == 3
