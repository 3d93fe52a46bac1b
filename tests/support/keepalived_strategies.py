"""Hypothesis strategies for what a controller may write into its VRRP and LVS files."""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import strategies as st

from tests.support import octavia_render as render
from tests.support.keepalived_render import subnet

__all__ = ["lvs_requests", "vrrp_requests"]

_v4 = st.ip_addresses(v=4, network="10.0.0.0/8").map(str)
_v6 = st.ip_addresses(v=6, network="fd00::/8").map(str)
_uuids = st.uuids().map(str)
_seconds = st.integers(1, 255)
_PATH = "ab/.-_?=&<>\"'{}!#$%;:+~0é"


def _of(family: int) -> st.SearchStrategy[str]:
    return _v4 if family == 4 else _v6


@st.composite
def _vips(draw: st.DrawFn, family: int) -> tuple[str, dict[str, Any]]:
    address = draw(_of(family))
    length = draw(st.integers(8, 32) if family == 4 else st.integers(16, 128))
    network = ipaddress.ip_network(f"{address}/{length}", strict=False)
    routes = draw(st.lists(st.tuples(st.just(str(network)), _of(family)), max_size=2))
    gateway = draw(st.none() | _of(family))
    return address, subnet(str(network), gateway, routes)


@st.composite
def vrrp_requests(draw: st.DrawFn) -> dict[str, Any]:
    """Keywords of `render_vrrp`: one to four VIPs of both families, none or one peer."""
    family = draw(st.sampled_from([4, 6]))
    own, peer = draw(st.lists(_of(family), min_size=2, max_size=2, unique=True))
    vips = [draw(_vips(draw(st.sampled_from([4, 6])))) for _ in range(draw(st.integers(0, 3)))]
    vips.insert(0, draw(_vips(family)))
    vips = list({address: (address, found) for address, found in vips}.values())
    return {
        "own": own,
        "peers": draw(st.sampled_from([[], [peer]])),
        "vips": vips,
        "interface": draw(st.sampled_from(["eth1", "ens4", "eth1.100"])),
        "name": draw(st.uuids()).hex,
        "priority": draw(st.sampled_from([100, 90])),
        "auth_pass": draw(st.uuids()).hex[:7],
        "advert_int": draw(st.integers(1, 40)),
        "options": {
            "vrrp_garp_refresh_interval": draw(st.integers(0, 100)),
            "vrrp_garp_refresh_count": draw(_seconds),
            "vrrp_check_interval": draw(_seconds),
            "vrrp_fail_count": draw(_seconds),
            "vrrp_success_count": draw(_seconds),
        },
    }


@st.composite
def _members(draw: st.DrawFn) -> Any:
    either = st.one_of(_v4, _v6)
    return render.make_member(
        draw(either),
        draw(st.integers(1, 65535)),
        id=draw(_uuids),
        weight=draw(st.integers(0, 256)),
        enabled=draw(st.booleans()),
        monitor_address=draw(st.none() | either),
        monitor_port=draw(st.none() | st.integers(1, 65535)),
        provisioning_status=draw(st.sampled_from(["ACTIVE", "ACTIVE", "PENDING_DELETE"])),
    )


@st.composite
def _monitors(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(["UDP-CONNECT", "SCTP", "HTTP", "TCP"]))
    fields: dict[str, Any] = {"id": draw(_uuids), "enabled": draw(st.booleans())}
    if kind == "HTTP":
        fields["http_method"] = draw(st.sampled_from(["GET", "GET", "HEAD"]))
        fields["url_path"] = "/" + draw(st.text(_PATH, max_size=12))
        fields["expected_codes"] = draw(st.sampled_from(["200", "200,404", "200-204"]))
    return render.make_monitor(
        kind, delay=draw(_seconds), timeout=draw(_seconds), fall=draw(st.integers(1, 10)), **fields
    )


@st.composite
def lvs_requests(draw: st.DrawFn) -> tuple[Any, dict[str, Any]]:
    """A listener, and keywords of `render_lvs`."""
    protocol = draw(st.sampled_from(["UDP", "SCTP"]))
    pool = None
    if draw(st.integers(0, 9)):
        pool = render.make_pool(
            protocol,
            id=draw(_uuids),
            enabled=draw(st.sampled_from([True, True, True, False])),
            members=draw(st.lists(_members(), max_size=4, unique_by=lambda member: member.id)),
            algorithm=draw(st.sampled_from(["ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP"])),
            monitor=draw(st.none() | _monitors()),
            persistence=draw(st.sampled_from([None, "SOURCE_IP"])),
        )
        if pool.session_persistence is not None:
            pool.session_persistence.persistence_timeout = draw(st.none() | _seconds)
            masks = [None, "255.255.0.0", "255.255.255.252", "64", "128"]
            pool.session_persistence.persistence_granularity = draw(st.sampled_from(masks))
    listener = render.make_listener(
        protocol,
        draw(st.integers(1, 65535)),
        id=draw(_uuids),
        default_pool=pool,
        enabled=draw(st.sampled_from([True, True, True, False])),
        connection_limit=draw(st.sampled_from([-1, 0, 1, 5000])),
    )
    vips = draw(st.lists(st.one_of(_v4, _v6), min_size=1, max_size=3, unique=True))
    return listener, {
        "lb_id": draw(_uuids),
        "vip": vips[0],
        "additional_vips": vips[1:],
        "enabled": draw(st.sampled_from([True, True, True, False])),
    }
