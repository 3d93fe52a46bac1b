"""What is checked of a member (Octavia contract section 4.11, inheritance and request bytes)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amphorad.health.target import HttpCheck, ProbeKind, Target, target_of
from amphorad.model import HealthMonitor, HealthMonitorType, Member, MemberTls, Mode, Pool, ProxyProtocol

MONITOR = HealthMonitor(type=HealthMonitorType.TCP, interval_s=5.0, timeout_s=3.0, rise=2, fall=4)
MEMBER = Member(id="m", address="10.0.0.1", port=80, checked=True)
TLS = MemberTls(
    ca_file="/ca.pem", crl_file="/crl.pem", verify=True, alpn=("h2", "http/1.1"), versions=frozenset({"TLSv1.2"})
)


def target(
    monitor: HealthMonitorType = HealthMonitorType.TCP, *, pool: dict[str, object] | None = None, **member: object
) -> Target:
    found = target_of(
        Pool(
            id="p",
            mode=Mode.TCP,
            health_monitor=replace(MONITOR, type=monitor),
            **(pool or {}),  # type: ignore[arg-type]
        ),
        replace(MEMBER, **member),  # type: ignore[arg-type]
    )
    assert found is not None
    return found


def test_target_takes_thresholds_and_times_of_the_monitor() -> None:
    found = target()

    assert (found.rise, found.fall, found.interval_s, found.timeout_s) == (2, 4, 5.0, 3.0)


def test_target_connect_timeout_is_the_smaller_of_pool_and_interval() -> None:
    assert target(pool={"timeout_connect_s": 1.5}).connect_timeout_s == 1.5
    assert target(pool={"timeout_connect_s": 60.0}).connect_timeout_s == 5.0


def test_target_without_own_address_is_the_member_with_its_tls_and_proxy_header() -> None:
    found = target(HealthMonitorType.TLS_HELLO, pool={"tls": TLS, "proxy_protocol": ProxyProtocol.V2})

    assert (found.address, found.port) == ("10.0.0.1", 80)
    assert found.tls is not None
    assert found.proxy_protocol is ProxyProtocol.V2


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"monitor_address": "10.9.9.9"}, ("10.9.9.9", 80)),
        ({"monitor_port": 8080}, ("10.0.0.1", 8080)),
        ({"monitor_address": "10.9.9.9", "monitor_port": 8080}, ("10.9.9.9", 8080)),
    ],
)
def test_target_with_own_address_inherits_neither_tls_nor_proxy_header(
    own: dict[str, object], expected: tuple[str, int]
) -> None:
    found = target(HealthMonitorType.TLS_HELLO, pool={"tls": TLS, "proxy_protocol": ProxyProtocol.V1}, **own)

    assert (found.address, found.port) == expected
    assert found.tls is None
    assert found.proxy_protocol is None


def test_target_https_with_own_port_still_uses_tls() -> None:
    assert target(HealthMonitorType.HTTPS, pool={"tls": TLS}, monitor_port=8443).tls is not None


def test_target_https_never_verifies() -> None:
    found = target(HealthMonitorType.HTTPS, pool={"tls": TLS})

    assert found.tls is not None
    assert not found.tls.verify
    assert found.tls.ca_file is None
    assert found.tls.versions == {"TLSv1.2"}


def test_target_tls_hello_verifies_as_the_traffic_does() -> None:
    found = target(HealthMonitorType.TLS_HELLO, pool={"tls": TLS})

    assert found.tls is not None
    assert (found.tls.verify, found.tls.ca_file, found.tls.crl_file) == (True, "/ca.pem", "/crl.pem")


def test_target_http_on_a_pool_with_tls_is_http_over_tls() -> None:
    found = target(HealthMonitorType.HTTP, pool={"tls": TLS})

    assert found.tls is not None
    assert found.http is not None


def test_target_ping_ignores_the_monitor_address() -> None:
    found = target(
        HealthMonitorType.PING, pool={"proxy_protocol": ProxyProtocol.V1, "tls": TLS}, monitor_address="10.9.9.9"
    )

    assert found.kind is ProbeKind.PING
    assert found.address == "10.0.0.1"
    assert found.tls is None
    assert found.connect_timeout_s == 1.0


@pytest.mark.parametrize("member", [{"checked": False}, {"admin_state_up": False}])
def test_target_of_a_member_that_is_not_checked_is_none(member: dict[str, object]) -> None:
    pool = Pool(id="p", mode=Mode.TCP, health_monitor=MONITOR)

    assert target_of(pool, replace(MEMBER, **member)) is None  # type: ignore[arg-type]


def test_target_without_monitor_is_none() -> None:
    assert target_of(Pool(id="p", mode=Mode.TCP), MEMBER) is None


def test_target_does_not_depend_on_weight_or_backup() -> None:
    """A new weight leaves the monitor undisturbed."""
    assert target() == target(weight=7, backup=True)


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (HttpCheck(method="GET", path="/p", version="1.0", host=None, expected=None), b"GET /p HTTP/1.0\r\n\r\n"),
        (
            HttpCheck(method="GET", path="/p?a=b", version="1.1", host="ex.org", expected=None),
            b"GET /p?a=b HTTP/1.1\r\nhost: ex.org\r\nconnection: close\r\n\r\n",
        ),
        (
            HttpCheck(method="HEAD", path="/", version="1.1", host=None, expected=None),
            b"HEAD / HTTP/1.1\r\nconnection: close\r\n\r\n",
        ),
        (
            HttpCheck(method="POST", path="/", version="1.1", host=None, expected=None),
            b"POST / HTTP/1.1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        ),
    ],
)
def test_http_check_request_is_what_haproxy_sends(check: HttpCheck, expected: bytes) -> None:
    assert check.request == expected
