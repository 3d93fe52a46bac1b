"""The data plane as its main thread drives it: model in, engine tables out, nothing lost on the way.

`apply` builds everything that is new beside what runs, and only then publishes it: a member, pool or listener that is the
same object in both configurations keeps its counters, its idle connections and its place in the rotation. What is no
longer wanted is kept until the last session has let go of it.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from amphorad.board import Board, BoardFull, Kind, LastCheck, MemberState
from amphorad.errors import ConfigError
from amphorad.model import Algorithm, AppCookie, HttpCookie, Member, Mode, Pool, ProxyProtocol, ReusePolicy, SourceIp
from amphorad.proxy.admin_log import AdminLog
from amphorad.proxy.draining import Draining
from amphorad.proxy.engine.engine import (
    APP_COOKIE,
    COOKIE_LIMIT_BYTES,
    HTTP_COOKIE,
    SOURCE,
    Config,
    Engine,
    ListenerRuntime,
    MemberRuntime,
    PoolRuntime,
    View,
)
from amphorad.proxy.engine.stick_table import Table, table_bytes
from amphorad.proxy.listener_tls import listener_context
from amphorad.proxy.member_states import STICKS, USABLE, MemberStates
from amphorad.proxy.member_tls import pool_tls
from amphorad.proxy.policy import OverrunWatch, listener_policies, policy_pool_ids
from amphorad.proxy.tls.context import rotate_ticket_keys
from amphorad.proxy.tls.facts import CERTIFICATE_FACTS, FACT_LIMITS
from amphorad.proxy.traffic_log import TrafficLogSocket, log_path, log_program
from amphorad.stick_tables import KIND_ADDRESS, KIND_STRING, Shape, TableSpace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from amphorad.extras import Extras
    from amphorad.model import Bind, Listener, LoadBalancer
    from amphorad.proxy.listener_tls import ListenerContext
    from amphorad.proxy.member_states import Ejection, MemberId, PoolId
    from amphorad.proxy.member_tls import PoolTls
    from amphorad.proxy.policy import ListenerPolicies
    from amphorad.proxy.settings import Settings

__all__ = ["DataPlane"]

PoolKey = tuple[str, str]
MemberKey = tuple[str, str, str, str, int]  # listener, pool, member, address, port

# EXTRA_BYTES in engine/request.pyx, less what else goes there: Connection, Host (255 bytes of it) and X-Forwarded-For
INSERTION_LIMIT_BYTES = 5760
WEIGHT_LIMIT = 256
RATED_SOURCES = 98304  # client addresses that the limit of single sources remembers, in 2 MiB
BIND_LIMIT = 32  # MAX_BINDS in engine/runtime.pxd
TICKET_KEY_S = 3600.0  # a ticket is good for two hours, and three keys are accepted
PATIENT_GRACE_S = 120.0  # longer than clients are kept alive without a request
_REUSE = {ReusePolicy.NEVER: 0, ReusePolicy.SAFE: 1, ReusePolicy.RETRY: 2}
_PROXY_VERSIONS = {None: 0, ProxyProtocol.V1: 1, ProxyProtocol.V2: 2, ProxyProtocol.V2_SSL_CN: 3}
_DRAINING = (MemberState.DRAIN, MemberState.MAINT)
EXPORTER = "prometheus-exporter-internal"  # HAProxy's name for it (Octavia contract section 4.6)


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
        self._load_balancer: LoadBalancer | None = None
        self.tables = TableSpace(board.memory, board.tables_at, Table, table_bytes)
        self.tables.recover()
        self._listeners: dict[str, ListenerRuntime] = {}
        self._binds: dict[tuple[str, Bind], int] = {}
        self._pools: dict[PoolKey, PoolRuntime] = {}
        self._members: dict[MemberKey, MemberRuntime] = {}
        self._states = MemberStates(settings.extras, _health_on(board))
        self._seen_member_failures = 0
        self._ejections: list[Ejection] = []
        self._draining = Draining(settings.extras.drain_time)
        self._failing: list[MemberId] = []
        self._leaving: list[_Departure | PoolRuntime | MemberRuntime] = []
        self._log_socket = TrafficLogSocket()
        self.admin_log = AdminLog()
        self.exporter_port = 0
        self._alarms: list[str] = []
        self._seen_accept_failures = 0
        self._policies: dict[str, ListenerPolicies] = {}
        self._overruns = OverrunWatch()
        self._tls: dict[str, ListenerContext] = {}
        self._pool_tls: dict[PoolKey, PoolTls] = {}
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
        load_balancer = _with_exporter(load_balancer, self.exporter_port)
        try:
            path = log_path(load_balancer, self._settings)
            prepared = _Preparation(self, load_balancer, sockets, files or {})
        except (ConfigError, BoardFull, ValueError) as error:
            for descriptor in sockets.values():
                os.close(descriptor)
            self._release_unused_slots()
            if self._load_balancer is not None:
                self._release_unused_tables()
                self._retries, self._redispatch = self._load_balancer.retries, self._load_balancer.redispatch
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
        self._publish(load_balancer, prepared, sockets)

    def _publish(self, load_balancer: LoadBalancer, new: _Preparation, sockets: dict[tuple[str, Bind], int]) -> None:
        for key, view in new.views.items():
            replaced = new.pools[key].view
            new.pools[key].publish(view)
            if replaced is not None:
                self._engine.retire(replaced)
        for listener_id, config in new.configs.items():
            replaced_config = new.listeners[listener_id].config
            new.listeners[listener_id].publish(config)
            if replaced_config is not None:
                self._engine.retire(replaced_config)
        for listener in load_balancer.listeners:
            for pool in listener.pools:
                self._show_states(listener.id, pool, new.members, pool.members)
        self._engine.set_listeners(list(new.listeners.values()))
        self._close_binds(set(self._binds) - new.binds)
        for (listener_id, bind), descriptor in sockets.items():
            self._binds[listener_id, bind] = descriptor
            try:
                new.listeners[listener_id].open_bind(descriptor, bind.address, bind.port)
            except OSError as error:
                self._alarms.append(f"listener {listener_id} does not accept: {error}")
        self._remove(new)
        self._listeners, self._pools, self._members = new.listeners, new.pools, new.members
        self._load_balancer = load_balancer
        self._policies = new.policies
        self._tls = new.contexts
        for key, towards_members in new.pool_tls.items():
            if self._pool_tls.get(key) is not towards_members:
                self._alarms += towards_members.expiry_alarms()
        self._pool_tls = new.pool_tls
        self._overruns.keep(new.policies)
        self._states.keep_health(new.checked_ids)
        self._states.keep({key[:3] for key in new.members})
        self._release_unused_slots()
        self._release_unused_tables()

    def _close_binds(self, keys: Iterable[tuple[str, Bind]]) -> None:
        for listener_id, bind in keys:
            descriptor = self._listeners[listener_id].close_bind(bind.port, bind.address)
            del self._binds[listener_id, bind]
            self._engine.retire(descriptor)

    def _remove(self, new: _Preparation) -> None:
        """Takes leave of what is not in the new configuration.

        A listener goes together with its pools: until its last session is gone they stay as they were, so that a request
        that was on its way when the listener was removed is still served.
        """
        departing = set(self._listeners) - set(new.listeners)
        for listener_id in departing:
            listener = self._listeners[listener_id]
            listener.remove()
            self._draining.begin(listener, time.monotonic())
            pools = [runtime for key, runtime in self._pools.items() if key[0] == listener_id]
            members = [runtime for key, runtime in self._members.items() if key[0] == listener_id]
            self._engine.retire(_Departure(listener, pools, members))
        self._drop(
            [runtime for key, runtime in self._pools.items() if key not in new.pools and key[0] not in departing],
            [runtime for key, runtime in self._members.items() if key not in new.members and key[0] not in departing],
        )

    def _drop(self, pools: list[PoolRuntime], members: list[MemberRuntime]) -> None:
        for pool in pools:
            if pool.view is not None:
                self._engine.retire(pool.view)
            pool.publish(None)
        for member in members:
            member.remove()
            self._draining.begin(member, time.monotonic())
        self._engine.sweep(members)
        for runtime in (*pools, *members):
            self._engine.retire(runtime)

    def _release_unused_slots(self) -> None:
        """Gives slots back whose object is neither configured nor still referred to."""
        runtimes = [*self._listeners.values(), *self._pools.values(), *self._members.values()]
        for item in (*self._leaving, *self._engine.retired_items()):
            if isinstance(item, _Departure):
                runtimes += [item.listener, *item.pools, *item.members]
            elif isinstance(item, PoolRuntime | MemberRuntime):
                runtimes.append(item)
        used = {runtime.slot_number for runtime in runtimes}
        for slot in [slot for slot, _kind, _names in self._board.objects() if slot not in used]:
            self._board.release(slot)

    def _release_unused_tables(self) -> None:
        """Gives back the memory of stick tables that are neither configured nor still pointed to by a view."""
        pools = [*self._pools.values()]
        views = []
        for item in (*self._leaving, *self._engine.retired_items()):
            if isinstance(item, _Departure):
                pools += item.pools
            elif isinstance(item, PoolRuntime):
                pools.append(item)
            elif isinstance(item, View):
                views.append(item)
        views += [pool.view for pool in pools if pool.view is not None]
        self.tables.drop_unused(view.table for view in views if view.table is not None)

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
        pool = self._find_pool(listener_id, pool_id)
        changed = [member for member in pool.members if member.id == member_id]
        if not changed:
            raise KeyError(member_id)
        self._states.set_health((listener_id, pool_id, member_id), up, time.monotonic())
        self._publish_states(listener_id, pool, changed)

    def set_members_up(self, verdicts: Mapping[tuple[str, str, str], bool]) -> None:
        """Many verdicts at once, by (listener id, pool id, member id): each pool gets one new table, not one per member.

        Members that a configuration has removed meanwhile are left out.
        """
        for listener_id, pool_id in {key[:2] for key in verdicts}:
            with contextlib.suppress(KeyError):
                pool = self._find_pool(listener_id, pool_id)
                now = time.monotonic()
                judged = {key[2] for key in verdicts if key[:2] == (listener_id, pool_id)}
                changed = [member for member in pool.members if member.id in judged]
                for member in changed:
                    key = (listener_id, pool_id, member.id)
                    self._states.set_health(key, verdicts[key], now)
                self._publish_states(listener_id, pool, changed)

    def _publish_states(self, listener_id: str, pool: Pool, changed: Iterable[Member] | None = None) -> None:
        """Has the engine choose by the states of now. None: any member may have changed."""
        runtime = self._pools[listener_id, pool.id]
        replaced = runtime.view
        tls = self._pool_tls.get((listener_id, pool.id))
        assert replaced is not None  # a configured pool has been published
        is_tls = listener_id in self._tls
        runtime.publish(self._view(listener_id, pool, runtime, replaced.members, tls, is_tls=is_tls))
        self._show_states(listener_id, pool, self._members, pool.members if changed is None else changed)
        self._engine.retire(replaced)

    def _find_pool(self, listener_id: str, pool_id: str) -> Pool:
        if self._load_balancer is not None:
            for listener in self._load_balancer.listeners:
                for pool in listener.pools:
                    if (listener.id, pool.id) == (listener_id, pool_id):
                        return pool
        raise KeyError((listener_id, pool_id))

    def _view(
        self,
        listener_id: str,
        pool: Pool,
        runtime: PoolRuntime,
        runtimes: list[MemberRuntime],
        tls: PoolTls | None,
        *,
        is_tls: bool,
    ) -> View:
        """The pool as the engine sees it now; `runtimes` of its members, in their order."""
        key = (listener_id, pool.id)
        states = self._states.states(key, pool.members)
        usable = self._states.usable(key, pool, states)
        view = View(
            pool.id,
            runtimes,
            usable,
            self._states.weights(key, pool, usable, time.monotonic()),
            runtime,
            algorithm=str(pool.algorithm),
            is_http=pool.mode is Mode.HTTP,
            reuse=_REUSE[self._reuse(pool)],
            proxy_protocol=_PROXY_VERSIONS[pool.proxy_protocol],
            forwarded_for=pool.forwarded_for,
            insertions=_insertions(pool, self._settings.extras),
            retries=self._retries,
            redispatch=self._redispatch,
            timeout_connect_ms=_milliseconds(pool.timeout_connect_s),
            timeout_member_ms=_milliseconds(pool.timeout_member_s),
            tls=tls.context if tls is not None else None,
            tls_sends_sni=tls is not None and tls.options.send_client_sni,
        )
        if pool.persistence is None:
            return view
        sticks = [
            state in STICKS and not (state is MemberState.DRAIN and self._draining.is_over(runtime_of))
            for state, runtime_of in zip(states, runtimes, strict=True)
        ]
        match pool.persistence:
            case HttpCookie(name=name):
                cookies = [(member.cookie or "").encode() for member in pool.members]
                attributes = _cookie_attributes(self._settings.extras, is_tls=is_tls)
                view.add_persistence(HTTP_COOKIE, name.encode(), None, cookies, sticks, attributes)
            case AppCookie(name=name):
                table = self.tables.claim(key, _shape(pool.persistence))
                view.add_persistence(APP_COOKIE, name.encode(), table, [b""] * len(sticks), sticks)
            case SourceIp():
                table = self.tables.claim(key, _shape(pool.persistence))
                view.add_persistence(SOURCE, b"", table, [b""] * len(sticks), sticks)
        return view

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
            if not _is_checked(member):
                self._board.show_check(runtime.slot_number, None)

    _retries = 3
    _redispatch = True

    def _reuse(self, pool: Pool) -> ReusePolicy:
        return self._settings.reuse if pool.reuse is ReusePolicy.SAFE else pool.reuse

    # --- life ---

    def maintain(self, now: float) -> None:
        """Frees what nobody needs any more, and looks for conditions to report. To be called about ten times a second."""
        lets_go_of_tables = False
        for item in self._engine.release_retired():
            if isinstance(item, int):
                if item >= 0:
                    os.close(item)
            elif isinstance(item, _Departure | PoolRuntime | MemberRuntime):
                self._leaving.append(item)
            elif isinstance(item, View) and item.table is not None:
                lets_go_of_tables = True
        gone = [item for item in self._leaving if not item.references]
        if gone:
            self._leaving = [item for item in self._leaving if item not in gone]
            for item in gone:
                if isinstance(item, _Departure):
                    self._drop(item.pools, item.members)
                    self._draining.end(item.listener)
                elif isinstance(item, MemberRuntime):
                    self._draining.end(item)
            self._release_unused_slots()
        if gone or lets_go_of_tables:
            self._release_unused_tables()
        for member in self._members.values():
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
                self._publish_states(key[0], self._find_pool(*key))

    def _observe(self, now: float) -> set[PoolId]:
        """Looks at what has failed; returns the pools that have lost a member."""
        found: dict[PoolId, dict[str, tuple[int, int]]] = {}
        for (listener_id, pool_id, member_id, _address, _port), runtime in self._members.items():
            failures = runtime.failures()
            if any(failures):
                found.setdefault((listener_id, pool_id), {})[member_id] = failures
                if failures[0]:
                    self._failing.append((listener_id, pool_id, member_id))
        changed = set()
        for key, of_members in found.items():
            for ejection in self._states.observe(key, self._find_pool(*key), of_members, now):
                self._ejections.append(ejection)
                changed.add(key)
                for identity, runtime in self._members.items():
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
        pools = {key[:2] for key, runtime in self._members.items() if runtime in evicted}
        for listener_id, pool_id in pools:
            with contextlib.suppress(KeyError):
                self._publish_states(listener_id, self._find_pool(listener_id, pool_id))

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
            pool = self._find_pool(listener_id, pool_id)
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
        for tls in self._tls.values():
            self._alarms += tls.look(now, wall)
        for towards_members in self._pool_tls.values():
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
        self._alarms += self._overruns.look(self._policies, now)
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
        items = (*self._leaving, *self._engine.retired_items())
        return sum(item.references for item in items if isinstance(item, _Departure))

    def stop(self, grace_s: float) -> None:
        """Stops accepting, lets sessions end for up to `grace_s` seconds, and ends the threads. Blocks meanwhile.

        An idle client may have sent its next request when its connection is closed, and then loses it. So idle ones are left to end with
        their next answer, or by their own timeout, where there is time for that: after a succession (see `supervisor`).
        """
        self._close_binds(list(self._binds))
        self._engine.begin_stop(close_idle=grace_s < PATIENT_GRACE_S)
        deadline = time.monotonic() + grace_s
        while self._engine.sessions and time.monotonic() < deadline:
            time.sleep(0.01)
            self.maintain(time.monotonic())  # among others it closes the listening sockets
        members = list(self._members.values())
        for item in (*self._leaving, *self._engine.retired_items()):
            if isinstance(item, _Departure):
                members += item.members
            elif isinstance(item, MemberRuntime):
                members.append(item)
        descriptors = [item for item in self._engine.retired_items() if isinstance(item, int) and item >= 0]
        self._engine.stop(members)
        for descriptor in descriptors:
            os.close(descriptor)
        self._log_socket.close()
        self.admin_log.close()


@dataclass(frozen=True, slots=True, eq=False)
class _Departure:
    """A removed listener with everything its last sessions may need."""

    listener: ListenerRuntime
    pools: list[PoolRuntime]
    members: list[MemberRuntime]

    @property
    def references(self) -> int:
        return self.listener.references


class _Preparation:
    """Everything a configuration needs, built beside what runs; nothing is published yet."""

    def __init__(
        self,
        plane: DataPlane,
        load_balancer: LoadBalancer,
        sockets: dict[tuple[str, Bind], int],
        files: Mapping[str, bytes],
    ) -> None:
        self._files = files
        self.contexts: dict[str, ListenerContext] = {}
        self.pool_tls: dict[PoolKey, PoolTls] = {}
        self.listeners: dict[str, ListenerRuntime] = {}
        self.pools: dict[PoolKey, PoolRuntime] = {}
        self.members: dict[MemberKey, MemberRuntime] = {}
        self.checked_ids: set[tuple[str, str, str]] = set()
        self.views: dict[PoolKey, View] = {}
        self.configs: dict[str, Config] = {}
        self.policies: dict[str, ListenerPolicies] = {}
        self.binds = {(listener.id, bind) for listener in load_balancer.listeners for bind in listener.binds}
        self._plane = plane
        missing = self.binds - set(plane._binds) - set(sockets)
        if missing:
            raise ConfigError(f"no listening socket for {sorted(str(key) for key in missing)}")
        plane._retries, plane._redispatch = load_balancer.retries, load_balancer.redispatch
        for listener in load_balancer.listeners:
            _require_listener_carried_out(listener)
            for pool in listener.pools:
                self._prepare_pool(listener, pool)
            self._prepare_listener(load_balancer, listener)

    def _prepare_pool(self, listener: Listener, pool: Pool) -> None:
        plane = self._plane
        key = (listener.id, pool.id)
        _require_carried_out(listener, pool)
        runtime = plane._pools.get(key)
        if runtime is None:
            runtime = PoolRuntime(plane._engine, plane._board.claim(Kind.POOL, *key))
        self.pools[key] = runtime
        runtimes = []
        for member in pool.members:
            identity = (*key, member.id)
            member_key = (*identity, member.address, member.port)
            if _is_checked(member):
                self.checked_ids.add(identity)
            self.members[member_key] = plane._members.get(member_key) or MemberRuntime(
                plane._engine, plane._board.claim(Kind.MEMBER, *identity), member.id, member.address, member.port
            )
            runtimes.append(self.members[member_key])
        tls = pool_tls(listener.id, pool, self._files, plane._pool_tls.get(key))
        if tls is not None:
            self.pool_tls[key] = tls
        is_tls = listener.tls is not None
        self.views[key] = plane._view(listener.id, pool, runtime, runtimes, tls, is_tls=is_tls)

    def _prepare_listener(self, load_balancer: LoadBalancer, listener: Listener) -> None:
        plane = self._plane
        if len(listener.binds) > BIND_LIMIT:
            raise ConfigError(f"listener {listener.id}: more than {BIND_LIMIT} addresses and ports")
        policies = listener_policies(listener, plane._policies.get(listener.id))
        if policies is not None:
            self.policies[listener.id] = policies
        runtime = plane._listeners.get(listener.id)
        if runtime is None:
            runtime = ListenerRuntime(plane._engine, plane._board.claim(Kind.LISTENER, listener.id))
        self.listeners[listener.id] = runtime
        log = log_program(load_balancer, listener, plane._settings)
        tls = listener_context(listener, self._files, plane._tls.get(listener.id))
        if tls is not None:
            self.contexts[listener.id] = tls
        extras = plane._settings.extras
        pool = self.pools[listener.id, listener.default_pool] if listener.default_pool is not None else None
        self.configs[listener.id] = Config(
            listener.id,
            is_http=_speaks_http(listener),
            limit=listener.connection_limit,
            timeout_client_ms=_milliseconds(listener.timeout_client_s),
            default_pool=pool,
            log_program=log,
            minimum_body_rate=plane._settings.minimum_body_rate,
            policies=policies.program if policies is not None else None,
            policy_pools=[self.pools[listener.id, pool_id] for pool_id in policy_pool_ids(listener)],
            tls=tls.context if tls is not None else None,
            timeout_tunnel_ms=_milliseconds(extras.timeout_tunnel) if extras.timeout_tunnel else 0,
            rate=extras.rate_limit,
            source_rate=extras.rate_limit_source,
            burst=extras.rate_limit_burst,
            hsts=_hsts_line(listener),
        )


def _with_exporter(load_balancer: LoadBalancer, port: int) -> LoadBalancer:
    """PROMETHEUS listeners get a pool whose only member is the exporter."""
    if not port or not any(listener.is_prometheus for listener in load_balancer.listeners):
        return load_balancer
    pool = Pool(id=EXPORTER, mode=Mode.HTTP, members=(Member(id=EXPORTER, address="127.0.0.1", port=port),))
    listeners = tuple(
        replace(listener, pools=(pool,), default_pool=pool.id) if listener.is_prometheus else listener
        for listener in load_balancer.listeners
    )
    return replace(load_balancer, listeners=listeners)


def _speaks_http(listener: Listener) -> bool:
    """Whether clients are served as HTTP: also on a TCP listener whose default pool is an HTTP one.

    HAProxy upgrades such a connection before it reads anything from it, so it behaves as on an HTTP listener from its
    first byte on, built-in answers included; only the traffic log keeps the format of a TCP listener.
    """
    return listener.mode is Mode.HTTP or any(
        pool.mode is Mode.HTTP for pool in listener.pools if pool.id == listener.default_pool
    )


def _hsts_line(listener: Listener) -> bytes | None:
    if listener.hsts is None:
        return None
    if not listener.hsts.isprintable():
        raise ConfigError(f"listener {listener.id}: the value of HSTS must be plain text", word=listener.hsts)
    return b"strict-transport-security: %b\r\n" % listener.hsts.encode()


def _require_listener_carried_out(listener: Listener) -> None:
    if listener.is_prometheus and listener.default_pool is None:
        raise ConfigError(f"listener {listener.id}: a PROMETHEUS listener needs an exporter behind it")
    needs_http = listener.policies or listener.redirect_plain_to_https or listener.hsts is not None
    if needs_http and listener.mode is not Mode.HTTP:
        raise ConfigError(f"listener {listener.id}: L7 policies, redirects and HSTS need an HTTP listener")


def _require_carried_out(listener: Listener, pool: Pool) -> None:
    """A last line of defence behind the dialect: nothing that the engine would silently ignore."""
    if listener.mode is Mode.HTTP and pool.mode is not Mode.HTTP:
        raise ConfigError(f"pool {pool.id} of listener {listener.id}: an HTTP listener needs HTTP pools")
    if isinstance(pool.persistence, HttpCookie | AppCookie):
        longest = max((len(member.cookie or "") for member in pool.members), default=0)
        if pool.mode is not Mode.HTTP or len(pool.persistence.name) + longest > COOKIE_LIMIT_BYTES:
            raise ConfigError(
                f"pool {pool.id}: cookies are for HTTP pools; name and value have at most {COOKIE_LIMIT_BYTES} bytes"
            )
    if pool.algorithm == Algorithm.WEIGHTED_ROUND_ROBIN and any(
        member.weight > WEIGHT_LIMIT for member in pool.members
    ):
        raise ConfigError(f"pool {pool.id}: weights are at most {WEIGHT_LIMIT}")


def _cookie_attributes(extras: Extras, *, is_tls: bool) -> bytes:
    """What our own cookie gets beside its path (RFC 6265 4.1.2, and SameSite of its revision)."""
    attributes = [
        "; Secure" if extras.secure_cookies and is_tls else "",
        "; HttpOnly" if extras.http_only_cookies else "",
        f"; SameSite={extras.same_site_cookies}" if extras.same_site_cookies else "",
    ]
    return "".join(attributes).encode()


def _insertions(pool: Pool, extras: Extras) -> list[tuple[bytes, bytes | int | str | None]]:
    """Header insertions as the engine carries them out; None stands for the port that the client connected to, a number
    for a fact about its certificate, a text for something else about the request."""
    insertions: list[tuple[bytes, bytes | int | str | None]] = []
    if pool.mode is Mode.HTTP:
        insertions += [(b"x-real-ip", "client_address")] if extras.x_real_ip else []
        insertions += [(b"x-forwarded-host", "host")] if extras.x_forwarded_host else []
        insertions += [(b"traceparent", "traceparent")] if extras.traceparent else []
    size = 0
    for insertion in pool.header_insertions:
        if insertion.value in CERTIFICATE_FACTS:
            fact = CERTIFICATE_FACTS.index(insertion.value)
            size += len(insertion.name) + FACT_LIMITS[fact] + 4
            insertions.append((insertion.name.lower().encode(), fact))
            continue
        value = None if insertion.value == "%[dst_port]" else insertion.value.encode()
        if value is not None and b"%" in value:
            raise ConfigError(f"pool {pool.id}: header value not supported yet", word=insertion.value)
        size += len(insertion.name) + len(value or b"65535") + 4
        insertions.append((insertion.name.lower().encode(), value))
    if size > INSERTION_LIMIT_BYTES:
        raise ConfigError(f"pool {pool.id}: inserted headers are longer than {INSERTION_LIMIT_BYTES} bytes")
    return insertions


def _shape(persistence: SourceIp | AppCookie) -> Shape:
    if isinstance(persistence, SourceIp):
        return Shape(kind=KIND_ADDRESS, size=persistence.size, key_limit=16)
    return Shape(kind=KIND_STRING, size=persistence.size, key_limit=persistence.value_limit)


def _is_checked(member: Member) -> bool:
    return member.checked and member.admin_state_up


def _health_on(board: Board) -> dict[tuple[str, str, str], bool]:
    """What the monitors of an earlier data plane found; a member that was DOWN must not start with sessions."""
    return {
        (member.listener_id, member.pool_id, member.member_id): member.check.is_up
        for member in board.members()
        if member.check is not None
    }


def _milliseconds(seconds: float) -> int:
    return max(1, min(round(seconds * 1000), 0x7FFFFFFF))
