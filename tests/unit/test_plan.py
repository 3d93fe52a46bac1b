from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.model import (
    Bind,
    HealthMonitor,
    HealthMonitorType,
    HttpCookie,
    L7Action,
    L7Policy,
    Listener,
    LoadBalancer,
    Member,
    Mode,
    Pool,
    SourceIp,
)
from amphorad.plan import MemberKey, PoolKey, compare

_MONITOR = HealthMonitor(type=HealthMonitorType.TCP, interval_s=5.0, timeout_s=3.0, rise=2, fall=3)


def _member(number: int, **fields: Any) -> Member:
    return Member(id=f"m{number}", address=f"10.0.0.{number}", port=80, **fields)


def _pool(*members: Member, **fields: Any) -> Pool:
    return Pool(id="p", mode=Mode.HTTP, members=members, **fields)


def _listener(*pools: Pool, **fields: Any) -> Listener:
    values: dict[str, Any] = {"id": "l", "mode": Mode.HTTP, "binds": (Bind(address="10.0.0.10", port=80),)}
    return Listener(**(values | fields), pools=pools)


def _balancer(*listeners: Listener, **fields: Any) -> LoadBalancer:
    return LoadBalancer(id="lb", listeners=listeners, **fields)


def test_compare_same_model_twice_is_empty_and_keeps_everything() -> None:
    model = _balancer(_listener(_pool(_member(1), _member(2)), default_pool="p"))

    plan = compare(model, replace(model))

    assert plan.is_empty
    assert plan.listeners_kept == ("l",)
    assert plan.pools_kept == (("l", "p"),)
    assert plan.members_kept == (("l", "p", "m1"), ("l", "p", "m2"))
    assert plan.summary == "nothing changed: 1 listener kept; 1 pool kept; 2 members kept"
    assert plan.describe() == plan.summary


def test_compare_with_nothing_adds_everything() -> None:
    plan = compare(None, _balancer(_listener(_pool(_member(1)))))

    assert plan.listeners_added == ("l",)
    assert plan.pools_added == (PoolKey("l", "p"),)
    assert plan.members_added == (MemberKey("l", "p", "m1"),)
    assert [str(bind) for bind in plan.binds_opened] == ["bind 10.0.0.10:80 of listener l"]
    assert plan.summary == "1 listener added; 1 pool added; 1 member added"
    assert plan.describe().splitlines()[1:] == [
        "+ listener l",
        "+ bind 10.0.0.10:80 of listener l",
        "+ pool p of listener l",
        "+ member m1 of pool p of listener l",
    ]


def test_compare_removed_listener_removes_its_pools_members_and_binds() -> None:
    plan = compare(_balancer(_listener(_pool(_member(1)))), _balancer())

    assert plan.listeners_removed == ("l",)
    assert plan.pools_removed == (("l", "p"),)
    assert plan.members_removed == (("l", "p", "m1"),)
    assert len(plan.binds_closed) == 1
    assert not plan.binds_opened


def test_compare_member_change_keeps_listener_and_pool() -> None:
    old = _balancer(_listener(_pool(_member(1), _member(2))))
    new = _balancer(_listener(_pool(_member(1, weight=5), _member(2, admin_state_up=False), _member(3))))

    plan = compare(old, new)

    assert plan.listeners_kept == ("l",)
    assert plan.pools_kept == (("l", "p"),)
    assert [change.key for change in plan.members_changed] == [("l", "p", "m1"), ("l", "p", "m2")]
    assert plan.members_changed[0].fields == {"weight"}
    assert plan.members_added == (("l", "p", "m3"),)
    assert plan.summary == "1 listener kept; 1 pool kept; 1 member added, 2 changed"
    assert "~ member m1 of pool p of listener l: weight 1 -> 5" in plan.describe()
    assert "~ member m2 of pool p of listener l: admin_state_up yes -> no" in plan.describe()


def test_compare_same_pool_under_two_listeners_is_two_pools() -> None:
    old = _balancer(_listener(_pool(_member(1))))
    other = _listener(_pool(_member(1)), id="other", binds=(Bind(address="10.0.0.10", port=81),))

    plan = compare(old, _balancer(*old.listeners, other))

    assert plan.members_kept == (("l", "p", "m1"),)
    assert plan.members_added == (("other", "p", "m1"),)


def test_compare_binds_changes_the_listener_and_names_each_bind() -> None:
    first, second = Bind(address="10.0.0.10", port=80), Bind(address="fd00::10", port=80)

    plan = compare(_balancer(_listener()), _balancer(_listener(binds=(first, second))))

    assert [opened.bind for opened in plan.binds_opened] == [second]
    assert not plan.binds_closed
    assert [str(change) for change in plan.listeners_changed] == [
        "listener l: binds 10.0.0.10:80 -> 10.0.0.10:80+[fd00::10]:80"
    ]


def test_compare_bind_moved_to_another_listener_is_closed_and_opened() -> None:
    plan = compare(_balancer(_listener()), _balancer(_listener(id="other")))

    assert [closed.listener_id for closed in plan.binds_closed] == ["l"]
    assert [opened.listener_id for opened in plan.binds_opened] == ["other"]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ({}, {"health_monitor": _MONITOR}, "health_monitor none -> HealthMonitor"),
        (
            {"health_monitor": _MONITOR},
            {"health_monitor": replace(_MONITOR, interval_s=1.0, alpn=("h2", "http/1.1"))},
            "health_monitor.interval_s 5.0 -> 1.0, health_monitor.alpn none -> h2,http/1.1",
        ),
        ({"persistence": SourceIp()}, {"persistence": HttpCookie()}, "persistence SourceIp -> HttpCookie"),
        ({"algorithm": "round_robin"}, {"algorithm": "source_ip_hash"}, "algorithm round_robin -> source_ip_hash"),
    ],
)
def test_compare_pool_field_is_named_with_both_values(old: dict[str, Any], new: dict[str, Any], text: str) -> None:
    plan = compare(_balancer(_listener(_pool(_member(1), **old))), _balancer(_listener(_pool(_member(1), **new))))

    assert [str(change) for change in plan.pools_changed] == [f"pool p of listener l: {text}"]
    assert plan.members_kept == (("l", "p", "m1"),)


def test_compare_member_order_changes_the_pool() -> None:
    old = _balancer(_listener(_pool(_member(1), _member(2))))
    new = _balancer(_listener(_pool(_member(2), _member(3), _member(1))))

    plan = compare(old, new)

    assert [str(change) for change in plan.pools_changed] == ["pool p of listener l: members order -> another order"]
    assert plan.members_kept == (("l", "p", "m2"), ("l", "p", "m1"))


def test_compare_listener_and_pool_order_is_no_change() -> None:
    pools = (_pool(_member(1)), replace(_pool(_member(2)), id="q"))
    one = _listener(*pools)
    two = _listener(id="two", binds=())

    assert compare(_balancer(one, two), _balancer(two, replace(one, pools=pools[::-1]))).is_empty


def test_compare_policies_of_equal_number_says_changed() -> None:
    old = _listener(policies=(L7Policy(action=L7Action.REJECT, rules=()),))
    new = _listener(policies=(L7Policy(action=L7Action.REDIRECT_TO_URL, rules=(), redirect_url="http://h/"),))

    plan = compare(_balancer(old), _balancer(new))

    assert [str(change) for change in plan.listeners_changed] == ["listener l: policies changed"]


def test_compare_process_settings_are_named() -> None:
    plan = compare(_balancer(), _balancer(threads=3, connection_limit=10))

    assert not plan.is_empty
    assert plan.summary == "process settings changed: connection_limit, threads"
    assert plan.describe().splitlines()[1:] == [
        "~ process: connection_limit 1000000 -> 10",
        "~ process: threads none -> 3",
    ]


def test_describe_many_changes_is_cut() -> None:
    members = [_member(number) for number in range(1, 101)]

    text = compare(_balancer(_listener(_pool())), _balancer(_listener(_pool(*members)))).describe(limit_lines=10)

    assert len(text.splitlines()) == 12
    assert text.endswith("... and 90 more")


def test_summary_of_an_empty_load_balancer_says_so() -> None:
    assert compare(None, _balancer()).summary == "nothing changed: no listeners"


_members = st.lists(
    st.builds(_member, st.integers(1, 6), weight=st.integers(0, 2)), max_size=5, unique_by=lambda member: member.id
)
_models = st.lists(
    st.builds(
        lambda number, members, timeout_s: _listener(
            _pool(*members),
            id=f"l{number}",
            binds=(Bind(address="10.0.0.10", port=number),),
            timeout_client_s=timeout_s,
        ),
        st.integers(1, 4),
        _members,
        st.sampled_from([1.0, 2.0]),
    ),
    max_size=3,
    unique_by=lambda listener: listener.id,
).map(lambda listeners: _balancer(*listeners))


@given(old=_models, new=_models)
def test_compare_puts_every_object_in_exactly_one_group(old: LoadBalancer, new: LoadBalancer) -> None:
    plan = compare(old, new)

    def members(model: LoadBalancer) -> set[tuple[str, ...]]:
        return {
            (one.id, pool.id, member.id) for one in model.listeners for pool in one.pools for member in pool.members
        }

    changed = {change.key for change in plan.members_changed}
    assert {*plan.members_added, *changed, *plan.members_kept} == members(new)
    assert {*plan.members_removed, *changed, *plan.members_kept} == members(old)
    assert len(plan.members_added) + len(changed) + len(plan.members_kept) == len(members(new))
    assert {*plan.listeners_added, *(change.key for change in plan.listeners_changed), *plan.listeners_kept} == {
        listener.id for listener in new.listeners
    }


@given(old=_models, new=_models)
def test_compare_is_empty_exactly_when_the_models_ask_for_the_same(old: LoadBalancer, new: LoadBalancer) -> None:
    def by_id(model: LoadBalancer) -> dict[str, Listener]:
        return {listener.id: listener for listener in model.listeners}

    assert compare(old, new).is_empty == (by_id(old) == by_id(new))
