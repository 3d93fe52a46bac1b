"""The data plane as its main thread drives it: model in, engine tables out, nothing lost on the way.

`apply` builds everything that is new beside what runs, and only then publishes it: a member, pool or listener that is the
same object in both configurations keeps its counters, its idle connections and its place in the rotation. What is no
longer wanted is kept until the last session has let go of it.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from amphorad.board import Board, BoardFull, Kind, LastCheck, MemberState
from amphorad.errors import ConfigError
from amphorad.model import LoadBalancer
from amphorad.proxy.admin_log import AdminLog
from amphorad.proxy.departures import Departures
from amphorad.proxy.draining import Draining
from amphorad.proxy.engine.engine import Engine
from amphorad.proxy.engine.stick_table import Table, table_bytes
from amphorad.proxy.engine_tables import PoolViews
from amphorad.proxy.exporter import with_exporter
from amphorad.proxy.member_states import STICKS, USABLE, MemberStates, is_checked
from amphorad.proxy.policy import OverrunWatch
from amphorad.proxy.preparation import Generation, Preparation
from amphorad.proxy.tls.context import rotate_ticket_keys
from amphorad.proxy.traffic_log import TrafficLogSocket, log_path
from amphorad.stick_tables import TableSpace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from amphorad.model import Bind, Listener, Member, Pool
    from amphorad.proxy.engine.engine import ListenerRuntime, MemberRuntime
    from amphorad.proxy.member_states import Ejection, MemberId, PoolId
    from amphorad.proxy.preparation import MemberKey
    from amphorad.proxy.settings import Settings

__all__ = ["DataPlane"]

RATED_SOURCES = 98304  # client addresses that the limit of single sources remembers, in 2 MiB
TICKET_KEY_S = 3600.0  # a ticket is good for two hours, and three keys are accepted
PATIENT_GRACE_S = 120.0  # longer than clients are kept alive without a request
_DRAINING = (MemberState.DRAIN, MemberState.MAINT)


class DataPlane:
    """Engine threads, and the tables they work from. All methods are for one thread.

    Args:
        board: where counters and state live; it must have rows for `threads`, and be open until `stop` has returned.
        threads: engine threads, 1 to 64.

    Attributes:
        admin_log: to the log targets of the configuration.
        exporter_port: of the HTTP server on 127.0.0.1 that answers PROMETHEUS listeners; 0 while there is none.
    """

    def __init__(self, board: Board, *, threads: int, settings: Settings) -> None:
        if threads > board.threads:
            raise ValueError(f"the board was made for {board.threads} threads, not {threads}")
        self.board = self._board = board
        self._settings = settings
        board.reset_gauges()
        self._engine = Engine(
            board.memory,
            threads,
            board.slots,
            idle_lifetime_s=settings.idle_lifetime_s,
            linger_s=settings.linger_s,
            splice_after=settings.splice_after,
            rated_sources=RATED_SOURCES if settings.extras.rate_limit_source else 0,
        )
        self.tables = TableSpace(board.memory, board.tables_at, Table, table_bytes)
        self.tables.recover()
        self._generation = Generation(load_balancer=LoadBalancer(id=""))  # until the first one, nothing
        self._is_configured = False
        self._binds: dict[tuple[str, Bind], int] = {}
        self._states = MemberStates(settings.extras, _health_on(board))
        self._draining = Draining(settings.extras.drain_time)
        self._departures = Departures(self._engine, board, self.tables, self._draining)
        self._pool_views = PoolViews(settings, self._states, self._draining, self.tables)
        self._seen_member_failures = 0
        self._ejections: list[Ejection] = []
        self._failing: list[MemberId] = []
        self._log_socket = TrafficLogSocket()
        self.admin_log = AdminLog()
        self.exporter_port = 0
        self._alarms: list[str] = []
        self._seen_accept_failures = 0
        self._overruns = OverrunWatch()
        self._tickets_at = time.monotonic()

    def start(self) -> None:
        self._engine.start()

    # --- configuration ---

    def apply(
        self,
        load_balancer: LoadBalancer,
        sockets: dict[tuple[str, Bind], int],
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """Makes `load_balancer` the configuration in force.

        Args:
            sockets: listening sockets of (listener id, bind) pairs that are new; they belong to the data plane from now on,
                also when it refuses. Sockets of pairs that stay are not to be passed again.
            files: what TLS options name, by path.

        Raises:
            ConfigError: it cannot be carried out; what ran before still runs.
        """
        load_balancer = with_exporter(load_balancer, self.exporter_port)
        try:
            path = log_path(load_balancer, self._settings)
            new = Preparation(
                load_balancer,
                self._generation,
                engine=self._engine,
                board=self._board,
                settings=self._settings,
                pool_views=self._pool_views,
                sockets=self._binds.keys() | sockets.keys(),
                files=files or {},
            )
        except (ConfigError, BoardFull, ValueError) as error:
            for descriptor in sockets.values():
                os.close(descriptor)
            self._departures.release_unused_slots(self._generation)
            if self._is_configured:  # else there may be tables of an earlier data plane, whose pools are still to come
                self._departures.release_unused_tables(self._generation)
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(str(error)) from error
        log_socket, replaced_log_socket = self._log_socket.use(path)
        self._engine.set_log_socket(log_socket)
        # With `no log` HAProxy tells nobody of members; here the administrator's target, the one with a severity, still hears.
        logs = any(listener.log_format is not None for listener in load_balancer.listeners)
        targets = [target for target in load_balancer.log_targets if logs or target.minimum_severity is not None]
        self.admin_log.use(targets, self._settings.log_socket)
        self._engine.retire(replaced_log_socket)
        self._engine.set_session_limit(load_balancer.connection_limit)
        self._publish(new, sockets)

    def _publish(self, new: Preparation, sockets: dict[tuple[str, Bind], int]) -> None:
        before, generation = self._generation, new.generation
        for key, view in new.views.items():
            replaced = generation.pools[key].view
            generation.pools[key].publish(view)
            if replaced is not None:
                self._engine.retire(replaced)
        for listener_id, config in new.configs.items():
            replaced_config = generation.listeners[listener_id].config
            generation.listeners[listener_id].publish(config)
            if replaced_config is not None:
                self._engine.retire(replaced_config)
        for listener in generation.load_balancer.listeners:
            for pool in listener.pools:
                self._show_states(listener.id, pool, generation.members, pool.members)
        self._engine.set_listeners(list(generation.listeners.values()))
        self._close_binds(set(self._binds) - new.binds)
        for (listener_id, bind), descriptor in sockets.items():
            self._binds[listener_id, bind] = descriptor
            try:
                generation.listeners[listener_id].open_bind(descriptor, bind.address, bind.port)
            except OSError as error:
                self._alarms.append(f"listener {listener_id} does not accept: {error}")
        self._departures.remove(before, generation, time.monotonic())
        self._generation, self._is_configured = generation, True
        for key, tls in generation.pool_tls.items():
            if before.pool_tls.get(key) is not tls:
                self._alarms += tls.expiry_alarms()
        self._overruns.keep(generation.policies)
        self._states.keep_health(new.checked)
        self._states.keep({key[:3] for key in generation.members})
        self._departures.release_unused_slots(generation)
        self._departures.release_unused_tables(generation)

    def _close_binds(self, keys: Iterable[tuple[str, Bind]]) -> None:
        for listener_id, bind in keys:
            descriptor = self._generation.listeners[listener_id].close_bind(bind.port, bind.address)
            del self._binds[listener_id, bind]
            self._engine.retire(descriptor)

    @property
    def listening(self) -> Mapping[tuple[str, Bind], int]:
        """The listening sockets in use, by listener id and bind. They stay this object's."""
        return dict(self._binds)

    # --- member state ---

    def known_health(self) -> dict[tuple[str, str, str], bool]:
        """Members that a health monitor said something of, and whether they are up. Before the first apply: what the
        data plane before this one left on the board."""
        return self._states.health

    def show_check(self, listener_id: str, pool_id: str, member_id: str, check: LastCheck) -> None:
        """Puts a health check on the board."""
        slot = self._board.find(Kind.MEMBER, listener_id, pool_id, member_id)
        if slot is not None:
            self._board.show_check(slot, check)

    def set_member_up(self, listener_id: str, pool_id: str, member_id: str, *, up: bool) -> None:
        """A health monitor's verdict; seen by every thread at its next choice of a member.

        Raises:
            KeyError: there is no such member.
        """
        listener, pool = self._generation.find_pool(listener_id, pool_id)
        changed = [member for member in pool.members if member.id == member_id]
        if not changed:
            raise KeyError(member_id)
        self._states.set_health((listener_id, pool_id, member_id), up, time.monotonic())
        self._publish_states(listener, pool, changed)

    def set_members_up(self, verdicts: Mapping[tuple[str, str, str], bool]) -> None:
        """Many verdicts at once, by (listener id, pool id, member id): each pool gets one new table, not one per member.

        Members that a configuration has removed meanwhile are left out.
        """
        for listener_id, pool_id in {key[:2] for key in verdicts}:
            with contextlib.suppress(KeyError):
                listener, pool = self._generation.find_pool(listener_id, pool_id)
                now = time.monotonic()
                judged = {key[2] for key in verdicts if key[:2] == (listener_id, pool_id)}
                changed = [member for member in pool.members if member.id in judged]
                for member in changed:
                    key = (listener_id, pool_id, member.id)
                    self._states.set_health(key, verdicts[key], now)
                self._publish_states(listener, pool, changed)

    def _publish_states(self, listener: Listener, pool: Pool, changed: Iterable[Member] | None = None) -> None:
        """Has the engine choose by the states of now. None: any member may have changed."""
        key, in_force = (listener.id, pool.id), self._generation
        runtime, tls = in_force.pools[key], in_force.pool_tls.get(key)
        replaced = runtime.view
        assert replaced is not None  # a configured pool has been published
        view = self._pool_views.make(in_force.load_balancer, listener, pool, runtime, replaced.members, tls)
        runtime.publish(view)
        self._show_states(listener.id, pool, in_force.members, pool.members if changed is None else changed)
        self._engine.retire(replaced)

    def _show_states(
        self, listener_id: str, pool: Pool, members: dict[MemberKey, MemberRuntime], changed: Iterable[Member]
    ) -> None:
        """Puts states and weights where status and retries look; with the view, not before it is published."""
        key, now, wall = (listener_id, pool.id), time.monotonic(), time.time()
        for member in changed:
            state = self._states.state(key, member)
            runtime = members[listener_id, pool.id, member.id, member.address, member.port]
            runtime.show(state, member.weight, state in USABLE, state in STICKS)
            self._board.show_standing(runtime.slot_number, self._states.standing(key, pool, member, now, wall))
            if state in _DRAINING:
                self._draining.begin(runtime, now)
            else:
                self._draining.end(runtime)
            if not is_checked(member):
                self._board.show_check(runtime.slot_number, None)

    # --- life ---

    def maintain(self, now: float) -> None:
        """Frees what nobody needs any more, and looks for conditions to report. To be called about ten times a second."""
        self._departures.see_off(self._generation, now)
        for member in self._generation.members.values():
            member.count_idle()
        self._watch_members(now)
        self._watch_draining(now)
        self._watch(now)

    def _watch_members(self, now: float) -> None:
        """Ejects members whose connections or answers fail, lets them in again, and raises weights step by step."""
        returned, changed = self._states.step(now)
        self._ejections += returned
        failures = self._engine.member_failures
        if failures != self._seen_member_failures:
            self._seen_member_failures = failures
            changed |= self._observe(now)
        for key in changed:
            with contextlib.suppress(KeyError):
                self._publish_states(*self._generation.find_pool(*key))

    def _observe(self, now: float) -> set[PoolId]:
        """Looks at what has failed; returns the pools that have lost a member."""
        found: dict[PoolId, dict[str, tuple[int, int]]] = {}
        for (listener_id, pool_id, member_id, _address, _port), runtime in self._generation.members.items():
            failures = runtime.failures()
            if any(failures):
                found.setdefault((listener_id, pool_id), {})[member_id] = failures
                if failures[0]:
                    self._failing.append((listener_id, pool_id, member_id))
        changed = set()
        for key, of_members in found.items():
            _listener, pool = self._generation.find_pool(*key)
            for ejection in self._states.observe(key, pool, of_members, now):
                self._ejections.append(ejection)
                changed.add(key)
                for identity, runtime in self._generation.members.items():
                    if identity[:3] == ejection.member:
                        runtime.forgive()
        return changed

    def _watch_draining(self, now: float) -> None:
        """Ends the sessions of what has been draining for too long, once."""
        due = self._draining.evict_overdue(now)
        if due:
            self._forget_clients(due)
            self._engine.sweep_sessions()

    def _forget_clients(self, evicted: list[ListenerRuntime | MemberRuntime]) -> None:
        """Nobody sticks to a member that has drained, or its clients would come back to it."""
        pools = {key[:2] for key, runtime in self._generation.members.items() if runtime in evicted}
        for listener_id, pool_id in pools:
            with contextlib.suppress(KeyError):
                self._publish_states(*self._generation.find_pool(listener_id, pool_id))

    def take_ejections(self) -> list[tuple[Ejection, tuple[int, int]]]:
        """Members that were ejected or have come back since the last call, and how many active and backup members their
        pools have left."""
        ejections, self._ejections = self._ejections, []
        return [(ejection, self._count(*ejection.member[:2])) for ejection in ejections]

    def take_failing(self) -> list[MemberId]:
        """Members to which a connection has failed since the last call."""
        failing, self._failing = self._failing, []
        return failing

    def _count(self, listener_id: str, pool_id: str) -> tuple[int, int]:
        try:
            _listener, pool = self._generation.find_pool(listener_id, pool_id)
        except KeyError:  # removed meanwhile
            return 0, 0
        usable = [member for member in pool.members if self._states.state((listener_id, pool_id), member) in USABLE]
        backups = sum(member.backup for member in usable)
        return len(usable) - backups, backups

    def _watch_tls(self, now: float) -> None:
        """Renews ticket keys, tells of failed handshakes, each listener once a minute at most, and of OCSP responses not sent."""
        if now - self._tickets_at >= TICKET_KEY_S:
            self._tickets_at = now
            rotate_ticket_keys()
        wall = time.time()
        for tls in self._generation.contexts.values():
            self._alarms += tls.look(now, wall)
        for towards_members in self._generation.pool_tls.values():
            alarm = towards_members.failure_alarm(now)
            if alarm is not None:
                self._alarms.append(alarm)

    def _watch(self, now: float) -> None:
        failures = self._engine.accept_failures
        if failures != self._seen_accept_failures:
            self._seen_accept_failures = failures
            self._alarms.append(f"accepting paused: out of descriptors or memory ({failures} times so far)")
        self._alarms += self._log_socket.look(self._engine.log_drops, now)
        self.admin_log.flush()
        self._alarms += self.admin_log.alarms()
        self._alarms += self._overruns.look(self._generation.policies, now)
        self._watch_tls(now)

    def alarms(self) -> list[str]:
        """Conditions that an operator should know of, each once."""
        alarms, self._alarms = self._alarms, []
        return alarms

    @property
    def dropped_log_lines(self) -> int:
        """Of the traffic log, that its socket did not take."""
        return self._engine.log_drops

    def sessions(self) -> int:
        """Client connections, of all listeners."""
        return self._engine.sessions

    def draining(self) -> int:
        """Client connections of listeners that are removed."""
        return self._departures.sessions

    def stop(self, grace_s: float) -> None:
        """Stops accepting, lets sessions end for up to `grace_s` seconds, and ends the threads. Blocks meanwhile.

        An idle client may have sent its next request when its connection is closed, and then loses it. So idle ones are left to end with
        their next answer, or by their own timeout, where there is time for that: after a succession (see `amphorad.succession`).
        """
        self._close_binds(list(self._binds))
        self._engine.begin_stop(close_idle=grace_s < PATIENT_GRACE_S)
        deadline = time.monotonic() + grace_s
        while self._engine.sessions and time.monotonic() < deadline:
            time.sleep(0.01)
            self.maintain(time.monotonic())  # among others it closes the listening sockets
        members = [*self._generation.members.values(), *self._departures.members()]
        descriptors = self._departures.descriptors()
        self._engine.stop(members)
        for descriptor in descriptors:
            os.close(descriptor)
        self._log_socket.close()
        self.admin_log.close()


def _health_on(board: Board) -> dict[tuple[str, str, str], bool]:
    """What the monitors of an earlier data plane found; a member that was DOWN must not start with sessions."""
    return {
        (member.listener_id, member.pool_id, member.member_id): member.check.is_up
        for member in board.members()
        if member.check is not None
    }
