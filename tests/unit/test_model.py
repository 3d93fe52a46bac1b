from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from amphorad.errors import ConfigError
from amphorad.model import (
    Bind,
    HealthMonitor,
    HealthMonitorType,
    L7Action,
    L7Policy,
    Listener,
    ListenerTls,
    LoadBalancer,
    Member,
    MemberTls,
    Mode,
    Pool,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_BIND = Bind(address="10.0.0.10", port=80)


def _member(**fields: Any) -> Member:
    return Member(**({"id": "m", "address": "10.0.0.1", "port": 80} | fields))


def _pool(**fields: Any) -> Pool:
    return Pool(**({"id": "p", "mode": Mode.HTTP} | fields))


def _listener(**fields: Any) -> Listener:
    return Listener(**({"id": "l", "mode": Mode.HTTP, "binds": (_BIND,)} | fields))


def _monitor(**fields: Any) -> HealthMonitor:
    values: dict[str, Any] = {"type": HealthMonitorType.TCP, "interval_s": 5.0, "timeout_s": 3.0, "rise": 2, "fall": 3}
    return HealthMonitor(**(values | fields))


@pytest.mark.parametrize("weight", [0, 1, 256])
def test_member_weight_in_range_is_kept(weight: int) -> None:
    assert _member(weight=weight).weight == weight


def test_bind_port_zero_asks_for_any_port() -> None:
    binds = (Bind(address="127.0.0.1", port=0),)

    balancer = LoadBalancer(id="lb", listeners=(_listener(id="a", binds=binds), _listener(id="b", binds=binds)))

    assert len(balancer.listeners) == 2


@pytest.mark.parametrize(("address", "text"), [("10.0.0.1", "10.0.0.1:80"), ("fd00::1", "[fd00::1]:80")])
def test_bind_is_shown_with_brackets_only_for_ipv6(address: str, text: str) -> None:
    assert str(Bind(address=address, port=80)) == text


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: _member(weight=-1), "weight"),
        (lambda: _member(weight=257), "weight"),
        (lambda: _member(port=0), "port"),
        (lambda: _member(port=65536), "port"),
        (lambda: Bind(address="10.0.0.1", port=-1), "port"),
        (lambda: _monitor(interval_s=0.0), "interval"),
        (lambda: _monitor(timeout_s=0.0), "timeout"),
        (lambda: _monitor(rise=0), "rise"),
        (lambda: _monitor(fall=0), "fall"),
        (lambda: ListenerTls(crt_list="/c", versions=frozenset()), "TLS versions"),
        (lambda: ListenerTls(crt_list="/c", crl_file="/crl"), "CRL"),
        (lambda: MemberTls(versions=frozenset({"TLSv9"})), "TLS versions"),
        (lambda: MemberTls(crl_file="/crl"), "CRL"),
        (lambda: MemberTls(verify=True), "CA"),
        (lambda: _pool(members=(_member(), _member(port=81))), "one id"),
        (lambda: _pool(timeout_connect_s=0.0), "connect timeout"),
        (lambda: _pool(timeout_member_s=-1.0), "member timeout"),
        (lambda: L7Policy(action=L7Action.REDIRECT_TO_POOL, rules=()), "target"),
        (lambda: L7Policy(action=L7Action.REDIRECT_TO_URL, rules=(), redirect_prefix="http://h"), "target"),
        (lambda: L7Policy(action=L7Action.REDIRECT_PREFIX, rules=()), "target"),
        (lambda: _listener(pools=(_pool(), _pool())), "one id"),
        (lambda: _listener(binds=(_BIND, _BIND)), "same"),
        (lambda: _listener(default_pool="p"), "default pool"),
        (lambda: _listener(timeout_client_s=0.0), "client timeout"),
        (lambda: _listener(connection_limit=0), "connection limit"),
        (
            lambda: _listener(
                policies=(L7Policy(action=L7Action.REDIRECT_TO_POOL, rules=(), redirect_pool="p"),), pools=()
            ),
            "unknown pool",
        ),
        (lambda: LoadBalancer(id="lb", listeners=(_listener(), _listener(binds=()))), "one id"),
        (lambda: LoadBalancer(id="lb", listeners=(_listener(), _listener(id="other"))), "same address"),
        (lambda: LoadBalancer(id="lb", connection_limit=0), "connection limit"),
        (lambda: LoadBalancer(id="lb", retries=-1), "retries"),
    ],
)
def test_construction_of_the_impossible_is_refused(build: Callable[[], object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        build()


def test_models_are_frozen_and_hashable() -> None:
    balancer = LoadBalancer(id="lb", listeners=(_listener(pools=(_pool(members=(_member(),)),)),))

    assert hash(balancer) == hash(dataclasses.replace(balancer))
    with pytest.raises(dataclasses.FrozenInstanceError):
        balancer.id = "other"  # type: ignore[misc]
