"""Which members the balancing may use, and with what weight: health, ejection and slow start.

Pure state; time comes in as `now` (monotonic seconds). `DataPlane` puts what this says into the engine's tables.

A member is *ejected* when too much has failed in a row of what the engine tried with it (see `proxy/engine/observation.pxd`).
That is an operator's option beside the health monitor, and never takes the last usable member of a pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amphorad.board import MemberState, Standing
from amphorad.model import Algorithm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from amphorad.extras import Extras
    from amphorad.model import Member, Pool

__all__ = ["STICKS", "USABLE", "Ejection", "MemberId", "MemberStates", "PoolId", "is_checked"]

PoolId = tuple[str, str]  # listener, pool
MemberId = tuple[str, str, str]

USABLE = (MemberState.UP, MemberState.NO_CHECK)
STICKS = (MemberState.UP, MemberState.NO_CHECK, MemberState.DRAIN)  # usable for the clients that are its own
LONGEST_EJECTION = 10  # times the first one
FIRST_SHARE = 0.1  # of its weight, that a member begins with
RAMP_STEPS = 20
LEAST_STEP_S = 0.2
RAMP_SCALE = 256  # weights are counted in this while a member grows
_GROWING = (Algorithm.ROUND_ROBIN, Algorithm.WEIGHTED_ROUND_ROBIN, Algorithm.LEAST_CONNECTIONS)


def is_checked(member: Member) -> bool:
    """A health monitor looks at it."""
    return member.checked and member.admin_state_up


@dataclass(frozen=True, slots=True)
class Ejection:
    """A member was taken out, or has come back (`lasts_s` 0). `reason` is in HAProxy's words for `observe`."""

    member: MemberId
    reason: str
    lasts_s: float

    @property
    def is_return(self) -> bool:
        return not self.lasts_s


@dataclass(slots=True)
class _Ejected:
    until: float
    lasts_s: float
    times: int
    is_over: bool = False


class MemberStates:
    """What is known of every member of a data plane.

    Args:
        known: health from before this data plane.
    """

    def __init__(self, extras: Extras, known: Mapping[MemberId, bool]) -> None:
        self._extras = extras
        self._health = dict(known)
        self._ejected: dict[MemberId, _Ejected] = {}
        self._growing: dict[MemberId, float] = {}  # since when
        self._stepped_at = 0.0

    @property
    def health(self) -> dict[MemberId, bool]:
        """Members that a health monitor said something of, and whether they are up."""
        return dict(self._health)

    def keep_health(self, checked: set[MemberId]) -> None:
        """Forgets what monitors said of others."""
        self._health = {member: up for member, up in self._health.items() if member in checked}

    def keep(self, members: set[MemberId]) -> None:
        """Forgets ejections and growth of others."""
        self._ejected = {member: found for member, found in self._ejected.items() if member in members}
        self._growing = {member: since for member, since in self._growing.items() if member in members}

    def set_health(self, member: MemberId, up: bool, now: float) -> None:
        """A health monitor's verdict."""
        if up and self._health.get(member) is False:
            self._grow(member, now)
        self._health[member] = up

    def state(self, pool: PoolId, member: Member) -> MemberState:
        """What the balancing is to think of a member."""
        return self.states(pool, (member,))[0]

    def states(self, pool: PoolId, members: Sequence[Member]) -> list[MemberState]:
        """What the balancing is to think of each of these members. In one loop, because traffic waits for a change of one."""
        health, ejected, found = self._health, self._ejected, []
        maint, down, drain = MemberState.MAINT, MemberState.DOWN, MemberState.DRAIN
        up, unchecked = MemberState.UP, MemberState.NO_CHECK
        for member in members:
            identity = (*pool, member.id)
            checked = member.checked
            if not member.admin_state_up:
                found.append(maint)
            elif (checked and not health.get(identity, True)) or (ejected and self._is_ejected(identity)):
                found.append(down)
            elif member.weight == 0:
                found.append(drain)
            else:
                found.append(up if checked else unchecked)
        return found

    def usable(self, pool_id: PoolId, pool: Pool, states: Sequence[MemberState] | None = None) -> list[int]:
        """Places of the members that the balancing chooses from. Backups only when nothing else is left, and then all of them.

        Args:
            states: of the pool's members, if they are known already.
        """
        fit = [state in USABLE for state in states or self.states(pool_id, pool.members)]
        usable = [place for place, member in enumerate(pool.members) if fit[place] and not member.backup]
        return usable or [place for place in range(len(pool.members)) if fit[place]]

    def standing(self, pool_id: PoolId, pool: Pool, member: Member, now: float, wall: float) -> Standing | None:
        """For the board; None for a member that is treated as its configuration and its checks say."""
        identity = (*pool_id, member.id)
        until = wall + self._ejected[identity].until - now if self._is_ejected(identity) else 0.0
        percent = round(100 * self._share(identity, now)) if pool.algorithm in _GROWING else 100
        return Standing(until, percent) if until or percent < 100 else None

    # --- slow start ---

    def weights(self, pool_id: PoolId, pool: Pool, places: Sequence[int], now: float) -> list[int]:
        """Of these members. While one of them grows, those of all are counted in finer units."""
        members = [pool.members[place] for place in places]
        if not self._growing:
            return [member.weight for member in members]
        shares = [self._share((*pool_id, member.id), now) for member in members]
        heaviest = max((member.weight for member in members), default=0)
        if pool.algorithm not in _GROWING or not heaviest or all(share == 1.0 for share in shares):
            return [member.weight for member in members]
        scale = max(1, RAMP_SCALE // heaviest)
        return [
            min(RAMP_SCALE, max(1, round(member.weight * scale * share)))
            for member, share in zip(members, shares, strict=True)
        ]

    def _grow(self, member: MemberId, now: float) -> None:
        if self._extras.slow_start:
            self._growing[member] = now

    def _share(self, member: MemberId, now: float) -> float:
        since = self._growing.get(member)
        if since is None:
            return 1.0
        return min(1.0, max(FIRST_SHARE, (now - since) / self._extras.slow_start))

    # --- ejection ---

    def _is_ejected(self, member: MemberId) -> bool:
        found = self._ejected.get(member)
        return found is not None and not found.is_over

    def observe(
        self, pool_id: PoolId, pool: Pool, failures: Mapping[str, tuple[int, int]], now: float
    ) -> list[Ejection]:
        """Ejects members of a pool.

        Args:
            failures: connections and answers in a row that have failed, by member id.
        """
        limit = self._extras.eject_after
        if not limit:
            return []
        ejections = []
        for member in pool.members:
            connections, answers = failures.get(member.id, (0, 0))
            if max(connections, answers) < limit or not self._may_eject(pool_id, pool, member):
                continue
            what = "L4 unsuccessful connection" if connections >= limit else "Wrong http response"
            reason = f"Detected {max(connections, answers)} consecutive errors, last one was: {what}"
            ejections.append(self._eject((*pool_id, member.id), reason, now))
        return ejections

    def _may_eject(self, pool_id: PoolId, pool: Pool, member: Member) -> bool:
        if self.state(pool_id, member) not in USABLE:
            return False
        others = [other for other in pool.members if other is not member]
        out = 1 + sum(self._is_ejected((*pool_id, other.id)) for other in others)
        share = 100 * out <= self._extras.eject_at_most * len(pool.members)
        return share and any(self.state(pool_id, other) in USABLE for other in others)

    def _eject(self, member: MemberId, reason: str, now: float) -> Ejection:
        before = self._ejected.get(member)
        # one that was well for as long as it had been out begins anew
        times = before.times + 1 if before is not None and now < before.until + before.lasts_s else 1
        lasts_s = self._extras.ejection_time * min(times, LONGEST_EJECTION)
        self._ejected[member] = _Ejected(now + lasts_s, lasts_s, times)
        self._growing.pop(member, None)
        return Ejection(member, f"{reason}; out for {lasts_s:g} s", lasts_s)

    # --- time ---

    def step(self, now: float) -> tuple[list[Ejection], set[PoolId]]:
        """What time alone changes: the members that come back, and the pools whose weights or members are other ones now."""
        if not self._ejected and not self._growing:
            return [], set()
        returned = []
        for member, found in list(self._ejected.items()):
            if not found.is_over and now >= found.until:
                found.is_over = True
                if self._health.get(member, True):
                    self._grow(member, now)
                    returned.append(Ejection(member, "Its time out of the balancing is over", 0.0))
            elif found.is_over and now >= found.until + found.lasts_s:
                del self._ejected[member]
        changed = {ejection.member[:2] for ejection in returned}
        step_s = max(LEAST_STEP_S, self._extras.slow_start / RAMP_STEPS)
        if self._growing and now - self._stepped_at >= step_s:
            self._stepped_at = now
            changed |= {member[:2] for member in self._growing}
            self._growing = {
                member: since for member, since in self._growing.items() if now - since < self._extras.slow_start
            }
        return returned, changed
