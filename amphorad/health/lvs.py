"""What is checked of the members of a UDP or SCTP listener, from the LVS dialect (Octavia contract section 5.4). Pure.

Their data plane asks `MonitorSet.apply_targets` for these checks. One check that passes makes a member up again, whatever the
API's max_retries; `fall` failures in a row, one every delay, take it down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amphorad.dialects.keepalived.lvs import MonitorType
from amphorad.health.target import HttpCheck, ProbeKind, Target
from amphorad.model import Member
from amphorad.plan import MemberKey

if TYPE_CHECKING:
    from amphorad.dialects.keepalived.lvs import LvsConfiguration, LvsMember, LvsMonitor

__all__ = ["UDP_WAIT_S", "lvs_members", "lvs_targets"]

UDP_WAIT_S: Final = 1.0
"""The stock script waits one second for an ICMP error."""
_KINDS: Final = {
    MonitorType.UDP_CONNECT: ProbeKind.UDP_CONNECT,
    MonitorType.SCTP: ProbeKind.SCTP,
    MonitorType.HTTP: ProbeKind.STREAM,
    MonitorType.TCP: ProbeKind.STREAM,
}


def lvs_members(configuration: LvsConfiguration) -> dict[MemberKey, Member]:
    """Every enabled member, as the monitors count it."""
    pool = configuration.pool
    members = pool.members if pool is not None else ()
    pool_id = pool.id if pool is not None else ""
    return {
        MemberKey(configuration.listener_id, pool_id, each.id): Member(
            id=each.id, address=each.address, port=each.port, weight=each.weight, checked=True
        )
        for each in members
    }


def lvs_targets(configuration: LvsConfiguration) -> dict[MemberKey, Target]:
    """Empty when there is no monitor, or one whose checks the text does not tell (an HTTP method other than GET)."""
    pool = configuration.pool
    if pool is None or pool.monitor is None or pool.monitor.type is None:
        return {}
    monitor, kind = pool.monitor, _KINDS[pool.monitor.type]
    return {
        MemberKey(configuration.listener_id, pool.id, each.id): _target(kind, monitor, each) for each in pool.members
    }


def _target(kind: ProbeKind, monitor: LvsMonitor, member: LvsMember) -> Target:
    timeout_s = float(monitor.timeout_s or monitor.delay_s)
    return Target(
        kind=kind,
        address=member.check_address,
        port=member.check_port,
        member_address=member.address,
        member_port=member.port,
        interval_s=float(monitor.delay_s),
        rise=1,
        fall=monitor.fall,
        connect_timeout_s=min(UDP_WAIT_S, timeout_s) if kind is ProbeKind.UDP_CONNECT else timeout_s,
        timeout_s=timeout_s,
        http=_http(monitor) if monitor.type is MonitorType.HTTP else None,
    )


def _http(monitor: LvsMonitor) -> HttpCheck:
    codes = "|".join(map(str, monitor.expected_codes)) or "200"
    return HttpCheck(method="GET", path=monitor.url_path or "/", version="1.0", host=None, expected=codes)
