"""The LVS dialect against the controller's own renderer."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from amphorad.dialects.keepalived.lvs import LvsConfiguration, MonitorType, check
from amphorad.errors import ConfigError
from tests.support import octavia_render as octavia
from tests.support.keepalived_render import render_lvs
from tests.support.keepalived_strategies import lvs_requests

octavia.require_octavia()

FILE = "octavia-keepalivedlvs-x.conf"


def read(text: str) -> LvsConfiguration:
    return check(text, file=FILE)


def canonical(address: str) -> str:
    return str(ipaddress.ip_address(address))


@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(lvs_requests())
def test_every_rendered_file_is_read_as_what_was_asked_for(request: tuple[Any, dict[str, Any]]) -> None:
    listener, keywords = request

    found = read(render_lvs(listener, **keywords))

    assert (found.load_balancer_id, found.listener_id) == (keywords["lb_id"], listener.id)
    assert found.is_enabled is listener.enabled
    assert found.namespace == "amphora-haproxy"
    pool = listener.default_pool
    if not (listener.enabled and keywords["enabled"] and pool is not None):
        assert found.pool is None
        assert found.vips == ()
        return
    vips = [canonical(vip) for vip in [keywords["vip"], *keywords["additional_vips"]]]
    assert sorted(found.vips) == sorted(vips)
    assert (found.port, found.protocol) == (listener.protocol_port, listener.protocol)
    assert found.pool is not None
    assert (found.pool.id, found.pool.is_enabled) == (pool.id, pool.enabled)
    assert found.pool.algorithm == pool.lb_algorithm
    _verify_members(found, listener, {ipaddress.ip_address(vip).version for vip in vips})
    _verify_monitor(found, pool.health_monitor)
    _verify_persistence(found, pool.session_persistence)


def _verify_members(found: LvsConfiguration, listener: Any, families: set[int]) -> None:
    """Only those of the families that a VIP has are in the text."""
    assert found.pool is not None
    pool = listener.default_pool
    wanted = [
        member
        for member in pool.members
        if member.provisioning_status != "PENDING_DELETE"
        and ipaddress.ip_address(member.ip_address).version in families
        and pool.enabled
    ]
    enabled = {member.id: member for member in wanted if member.enabled}
    assert {member.id for member in found.pool.members} == set(enabled)
    assert set(found.pool.disabled_members) == {member.id for member in wanted if not member.enabled}
    has_checks = found.pool.monitor is not None and found.pool.monitor.type is not None
    for member in found.pool.members:
        asked = enabled[member.id]
        assert (member.address, member.port) == (canonical(asked.ip_address), asked.protocol_port)
        assert member.weight == asked.weight
        if has_checks:
            assert member.check_address == canonical(asked.monitor_address or asked.ip_address)
            assert member.check_port == (asked.monitor_port or asked.protocol_port)
    if enabled:
        assert found.connection_limit == (listener.connection_limit if listener.connection_limit > 0 else None)


def _verify_monitor(found: LvsConfiguration, monitor: Any) -> None:
    assert found.pool is not None
    if monitor is None or not monitor.enabled:
        assert found.pool.monitor is None
        return
    read_monitor = found.pool.monitor
    assert read_monitor is not None
    assert (read_monitor.id, read_monitor.delay_s, read_monitor.fall) == (
        monitor.id,
        monitor.delay,
        monitor.fall_threshold,
    )
    if not found.pool.members or (monitor.type == "HTTP" and monitor.http_method != "GET"):
        assert read_monitor.type is None
        return
    assert read_monitor.type == monitor.type
    assert read_monitor.timeout_s == monitor.timeout
    if monitor.type == "HTTP":
        assert read_monitor.url_path == monitor.url_path
        codes = {"200": (200,), "200,404": (200, 404), "200-204": (200, 201, 202, 203, 204)}
        assert read_monitor.expected_codes == codes[monitor.expected_codes]


def _verify_persistence(found: LvsConfiguration, persistence: Any) -> None:
    assert found.pool is not None
    if persistence is None:
        assert found.pool.persistence is None
        return
    assert found.pool.persistence is not None
    assert found.pool.persistence.timeout_s == (persistence.persistence_timeout or 360)
    bits = (found.pool.persistence.ipv4_bits, found.pool.persistence.ipv6_bits)
    wanted = {None: (32, 128), "255.255.0.0": (16, 128), "255.255.255.252": (30, 128), "64": (32, 64), "128": (32, 128)}
    assert bits == wanted[persistence.persistence_granularity]


def _text(kind: str = "UDP-CONNECT") -> str:
    members = [octavia.make_member("10.0.0.1", 53), octavia.make_member("10.0.0.2", 53, enabled=False)]
    pool = octavia.make_pool("UDP", members=members, monitor=octavia.make_monitor(kind))
    return render_lvs(octavia.make_listener("UDP", 53, default_pool=pool))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lb_kind NAT", "lb_kind DR"),
        ("lb_algo wrr", "lb_algo rr"),
        ("protocol UDP", "protocol TCP"),
        ("net_namespace amphora-haproxy\n", ""),
        ("net_namespace", "include /etc/x\nnet_namespace"),
        ("net_namespace", "vrrp_instance x {\n}\nnet_namespace"),
        ("# Configuration for Loadbalancer", "# Loadbalancer"),
        ("    # Configuration for Member", "    # Member"),
        ("    # Configuration for Pool", "    # Pool"),
        ("weight 1", "weight 257"),
        ("weight 1", "weight 1\n        notify_up /bin/x"),
        ("real_server 10.0.0.1 53", "real_server fd00::1 53"),
        ("real_server 10.0.0.1 53", "real_server 10.0.0.1 0"),
        ("/lvs/check/udp_check.sh 10.0.0.1 53", "/lvs/check/udp_check.sh 10.0.0.1 53;id"),
        ("/var/lib/octavia/lvs/check/udp_check.sh", "/bin/sh"),
        ("delay_before_retry 5", "delay_before_retry 6"),
        ("    10.0.0.10 53\n", "    10.0.0.10 53\n    10.0.0.11 54\n"),
        ("    10.0.0.10 53\n", ""),
        ("    10.0.0.10 53\n", "    fwmark 5\n"),
    ],
)
def test_anything_else_is_refused(old: str, new: str) -> None:
    text = _text()
    assert old in text
    assert read(text).pool is not None

    with pytest.raises(ConfigError) as caught:
        read(text.replace(old, new, 1))

    assert caught.value.file == FILE


def test_comments_of_an_operator_are_no_data() -> None:
    text = _text("TCP")

    assert read("# seen by me\n! and me\n" + text) == read(text)


def test_sctp_monitor_keeps_its_own_timeout() -> None:
    found = read(_text("SCTP"))

    assert found.pool is not None
    assert found.pool.monitor is not None
    assert (found.pool.monitor.type, found.pool.monitor.timeout_s) == (MonitorType.SCTP, 3)
