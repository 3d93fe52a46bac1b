"""What changes from one configuration to the next: a pure comparison of two models.

A plan names objects by their identity, so that everything that lives at run time can stay with what is kept: a kept or
changed listener keeps its open binds, a kept or changed member keeps health, counters and idle connections. A plan is
also what the receipt of an apply is made from.

Objects that contain others are compared by their own fields: a listener whose pool got a member is kept, as is the pool,
and the member is added. The order of listeners, and of pools in a listener, has no meaning and is no change; the order of
members has one (ties and hash tables follow it).

A plan sees paths, not the bytes behind them: whether a certificate, CA or CRL file was rewritten is for the caller to find.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from amphorad.model import Bind, Listener, LoadBalancer, Member, Pool

__all__ = ["Change", "Difference", "ListenerBind", "MemberKey", "Plan", "PoolKey", "compare"]

DESCRIBED_LINES: Final = 500


class PoolKey(NamedTuple):
    """Identity of a pool: it exists once under every listener that uses it."""

    listener_id: str
    pool_id: str

    def __str__(self) -> str:
        return f"pool {self.pool_id} of listener {self.listener_id}"


class MemberKey(NamedTuple):
    """Identity of a member."""

    listener_id: str
    pool_id: str
    member_id: str

    def __str__(self) -> str:
        return f"member {self.member_id} of pool {self.pool_id} of listener {self.listener_id}"


class ListenerBind(NamedTuple):
    """A bind and the listener it belongs to."""

    listener_id: str
    bind: Bind

    def __str__(self) -> str:
        return f"bind {self.bind} of listener {self.listener_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One field, as `health_monitor.interval_s`, with its old and new value."""

    field: str
    old: object
    new: object

    def __str__(self) -> str:
        old, new = _shown(self.old), _shown(self.new)
        return f"{self.field} {old} -> {new}" if old != new else f"{self.field} changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A listener (its id), a pool or a member that stays, and what is different about it."""

    key: str | PoolKey | MemberKey
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        name = f"listener {self.key}" if isinstance(self.key, str) else str(self.key)
        return f"{name}: {', '.join(map(str, self.differences))}"

    @property
    def fields(self) -> frozenset[str]:
        """Names of the fields that differ, without what is inside them: `health_monitor`, not its `interval_s`."""
        return frozenset(difference.field.partition(".")[0] for difference in self.differences)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The difference between two models. Every object of either is in exactly one of its four groups.

    `binds_opened` and `binds_closed` include those of listeners that are added or removed. A bind that moves from one
    listener to another is closed and opened: close first. `process` is about the load balancer's own fields.
    """

    process: tuple[Difference, ...] = ()
    listeners_added: tuple[str, ...] = ()
    listeners_removed: tuple[str, ...] = ()
    listeners_changed: tuple[Change, ...] = ()
    listeners_kept: tuple[str, ...] = ()
    binds_opened: tuple[ListenerBind, ...] = ()
    binds_closed: tuple[ListenerBind, ...] = ()
    pools_added: tuple[PoolKey, ...] = ()
    pools_removed: tuple[PoolKey, ...] = ()
    pools_changed: tuple[Change, ...] = ()
    pools_kept: tuple[PoolKey, ...] = ()
    members_added: tuple[MemberKey, ...] = ()
    members_removed: tuple[MemberKey, ...] = ()
    members_changed: tuple[Change, ...] = ()
    members_kept: tuple[MemberKey, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Nothing has to be done: the models ask for the same."""
        return not any(group for _, group in self._changes())

    @property
    def summary(self) -> str:
        """One line, such as `1 listener kept; 1 pool changed; 1 member added, 3 kept`."""
        counted = [
            _count(
                "listener", self.listeners_added, self.listeners_changed, self.listeners_removed, self.listeners_kept
            ),
            _count("pool", self.pools_added, self.pools_changed, self.pools_removed, self.pools_kept),
            _count("member", self.members_added, self.members_changed, self.members_removed, self.members_kept),
        ]
        if self.process:
            counted.insert(0, f"process settings changed: {', '.join(difference.field for difference in self.process)}")
        text = "; ".join(part for part in counted if part) or "no listeners"
        return f"nothing changed: {text}" if self.is_empty else text

    def describe(self, *, limit_lines: int = DESCRIBED_LINES) -> str:
        """The summary, then one line for each thing that is not kept: `+` added, `~` changed, `-` removed.

        At most `limit_lines` such lines are written; the last one then tells how many are left out.
        """
        lines = [f"{sign} {_named(item)}" for sign, group in self._changes() for item in group]
        if len(lines) > limit_lines:
            lines[limit_lines:] = [f"... and {len(lines) - limit_lines} more"]
        return "\n".join([self.summary, *lines])

    def _changes(self) -> Iterator[tuple[str, tuple[object, ...]]]:
        yield "~", self.process
        yield "-", tuple(f"listener {listener_id}" for listener_id in self.listeners_removed)
        yield "-", self.binds_closed
        yield "-", self.pools_removed
        yield "-", self.members_removed
        yield "+", tuple(f"listener {listener_id}" for listener_id in self.listeners_added)
        yield "+", self.binds_opened
        yield "+", self.pools_added
        yield "+", self.members_added
        yield "~", self.listeners_changed
        yield "~", self.pools_changed
        yield "~", self.members_changed


def compare(old: LoadBalancer | None, new: LoadBalancer) -> Plan:
    """The plan that leads from `old` (None: nothing is configured yet) to `new`."""
    old_listeners = _listeners(old)
    new_listeners = _listeners(new)
    old_pools = _pools(old_listeners)
    new_pools = _pools(new_listeners)
    listeners = _group(old_listeners, new_listeners, without=frozenset({"id", "pools", "binds"}))
    pools = _group(old_pools, new_pools, without=frozenset({"id", "members"}))
    members = _group(_members(old_pools), _members(new_pools), without=frozenset({"id"}))
    old_binds = _binds(old_listeners)
    new_binds = _binds(new_listeners)
    return Plan(
        process=tuple(_differences(old, new, frozenset({"listeners"}))) if old is not None else (),
        listeners_added=listeners.added,
        listeners_removed=listeners.removed,
        listeners_changed=listeners.changed,
        listeners_kept=listeners.kept,
        binds_opened=tuple(bind for bind in new_binds if bind not in old_binds),
        binds_closed=tuple(bind for bind in old_binds if bind not in new_binds),
        pools_added=pools.added,
        pools_removed=pools.removed,
        pools_changed=pools.changed,
        pools_kept=pools.kept,
        members_added=members.added,
        members_removed=members.removed,
        members_changed=members.changed,
        members_kept=members.kept,
    )


def _listeners(model: LoadBalancer | None) -> dict[str, Listener]:
    return {listener.id: listener for listener in model.listeners} if model is not None else {}


def _binds(listeners: Mapping[str, Listener]) -> dict[ListenerBind, None]:
    """A set that keeps its order."""
    return {ListenerBind(listener.id, bind): None for listener in listeners.values() for bind in listener.binds}


def _pools(listeners: Mapping[str, Listener]) -> dict[PoolKey, Pool]:
    return {PoolKey(listener.id, pool.id): pool for listener in listeners.values() for pool in listener.pools}


def _members(pools: Mapping[PoolKey, Pool]) -> dict[MemberKey, Member]:
    return {MemberKey(*key, member.id): member for key, pool in pools.items() for member in pool.members}


class _Groups(NamedTuple):
    added: tuple[Any, ...]
    removed: tuple[Any, ...]
    changed: tuple[Change, ...]
    kept: tuple[Any, ...]


def _group(old: Mapping[Any, Any], new: Mapping[Any, Any], *, without: frozenset[str]) -> _Groups:
    changed: list[Change] = []
    kept: list[Any] = []
    for key, value in new.items():
        if key not in old:
            continue
        differences = () if old[key] == value else tuple(_own_differences(old[key], value, without))
        if differences:
            changed.append(Change(key=key, differences=differences))
        else:
            kept.append(key)
    return _Groups(
        added=tuple(key for key in new if key not in old),
        removed=tuple(key for key in old if key not in new),
        changed=tuple(changed),
        kept=tuple(kept),
    )


def _own_differences(old: Any, new: Any, without: frozenset[str]) -> Iterator[Difference]:
    yield from _differences(old, new, without)
    if "binds" in without and set(old.binds) != set(new.binds):
        yield Difference(field="binds", old=_joined(old.binds), new=_joined(new.binds))
    if "members" in without:
        stayed = {member.id for member in new.members}
        before = [member.id for member in old.members if member.id in stayed]
        known = set(before)
        if before != [member.id for member in new.members if member.id in known]:
            yield Difference(field="members", old="order", new="another order")


def _differences(old: Any, new: Any, without: frozenset[str], prefix: str = "") -> Iterator[Difference]:
    """Fields that differ; inside of a nested object when both sides have one of the same kind."""
    for field in fields(new):
        before, after = getattr(old, field.name), getattr(new, field.name)
        name = prefix + field.name
        if field.name in without or before == after:
            continue
        if type(before) is type(after) and hasattr(after, "__dataclass_fields__"):
            yield from _differences(before, after, frozenset(), f"{name}.")
        else:
            yield Difference(field=name, old=before, new=after)


def _count(
    noun: str, added: tuple[Any, ...], changed: tuple[Any, ...], removed: tuple[Any, ...], kept: tuple[Any, ...]
) -> str:
    groups = (("added", added), ("changed", changed), ("removed", removed), ("kept", kept))
    parts = [(len(group), word) for word, group in groups if group]
    if not parts:
        return ""
    first, *others = parts
    plural = "" if first[0] == 1 else "s"
    return ", ".join([f"{first[0]} {noun}{plural} {first[1]}", *(f"{count} {word}" for count, word in others)])


def _named(item: object) -> str:
    return f"process: {item}" if isinstance(item, Difference) else str(item)


def _joined(values: Iterable[object]) -> str:
    return "+".join(str(value) for value in values)


def _shown(value: object) -> str:
    """A value on one short line."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | frozenset):
        simple = all(isinstance(part, str | int) for part in value)
        if simple:
            return ",".join(map(str, sorted(value) if isinstance(value, frozenset) else value)) or "none"
        return f"({len(value)})"
    if hasattr(value, "__dataclass_fields__"):
        return type(value).__name__
    return str(value)
