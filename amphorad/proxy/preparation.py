"""Everything that a configuration needs, built beside what runs; nothing is published yet.

What is the same object in both keeps its runtime, its TLS context and its compiled policies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from amphorad.board import Kind
from amphorad.errors import ConfigError
from amphorad.proxy.engine.engine import ListenerRuntime, MemberRuntime, PoolRuntime
from amphorad.proxy.engine_tables import listener_config, require_listener_carried_out, require_pool_carried_out
from amphorad.proxy.listener_tls import listener_context
from amphorad.proxy.member_states import is_checked
from amphorad.proxy.member_tls import pool_tls
from amphorad.proxy.policy import listener_policies
from amphorad.proxy.traffic_log import log_program

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from amphorad.board import Board
    from amphorad.model import Bind, Listener, LoadBalancer, Member, Pool
    from amphorad.proxy.engine.engine import Config, Engine, View
    from amphorad.proxy.engine_tables import PoolViews
    from amphorad.proxy.listener_tls import ListenerContext
    from amphorad.proxy.member_states import MemberId, PoolId
    from amphorad.proxy.member_tls import PoolTls
    from amphorad.proxy.policy import ListenerPolicies
    from amphorad.proxy.settings import Settings

__all__ = ["Generation", "MemberKey", "Preparation"]

MemberKey = tuple[str, str, str, str, int]  # listener, pool, member, address, port

BIND_LIMIT = 32  # MAX_BINDS in engine/runtime.pxd


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Generation:
    """A configuration with the objects that carry it out; many of them are those of the generation before."""

    load_balancer: LoadBalancer
    listeners: dict[str, ListenerRuntime] = field(default_factory=dict)
    pools: dict[PoolId, PoolRuntime] = field(default_factory=dict)
    members: dict[MemberKey, MemberRuntime] = field(default_factory=dict)
    policies: dict[str, ListenerPolicies] = field(default_factory=dict)  # of listeners that have some
    contexts: dict[str, ListenerContext] = field(default_factory=dict)  # of listeners with TLS
    pool_tls: dict[PoolId, PoolTls] = field(default_factory=dict)  # of pools with TLS

    def find_pool(self, listener_id: str, pool_id: str) -> tuple[Listener, Pool]:
        """
        Raises:
            KeyError: there is no such pool.
        """
        for listener in self.load_balancer.listeners:
            for pool in listener.pools:
                if (listener.id, pool.id) == (listener_id, pool_id):
                    return listener, pool
        raise KeyError((listener_id, pool_id))


class Preparation:
    """A generation that can be published.

    Slots of the board and stick tables that a refused one has claimed are left for the caller to release.

    Args:
        before: the generation in force.
        sockets: (listener id, bind) pairs that there is a listening socket for.
        files: what TLS options name, by path.

    Attributes:
        views: what its pools are to be.
        configs: what its listeners are to be.
        checked: members that a health monitor looks at.

    Raises:
        ConfigError: it cannot be carried out.
        BoardFull, ValueError: there is no room for it.
    """

    def __init__(
        self,
        load_balancer: LoadBalancer,
        before: Generation,
        *,
        engine: Engine,
        board: Board,
        settings: Settings,
        pool_views: PoolViews,
        sockets: Container[tuple[str, Bind]],
        files: Mapping[str, bytes],
    ) -> None:
        self._before = before
        self._engine = engine
        self._board = board
        self._settings = settings
        self._pool_views = pool_views
        self._files = files
        self.generation = Generation(load_balancer=load_balancer)
        self.views: dict[PoolId, View] = {}
        self.configs: dict[str, Config] = {}
        self.checked: set[MemberId] = set()
        self.binds = {(listener.id, bind) for listener in load_balancer.listeners for bind in listener.binds}
        missing = [key for key in self.binds if key not in sockets]
        if missing:
            raise ConfigError(f"no listening socket for {sorted(str(key) for key in missing)}")
        for listener in load_balancer.listeners:
            require_listener_carried_out(listener)
            for pool in listener.pools:
                self._prepare_pool(listener, pool)
            self._prepare_listener(listener)

    def _prepare_pool(self, listener: Listener, pool: Pool) -> None:
        new, before = self.generation, self._before
        key = (listener.id, pool.id)
        require_pool_carried_out(listener, pool)
        runtime = before.pools.get(key)
        if runtime is None:
            runtime = PoolRuntime(self._engine, self._board.claim(Kind.POOL, *key))
        new.pools[key] = runtime
        members = [self._prepare_member(key, member) for member in pool.members]
        tls = pool_tls(listener.id, pool, self._files, before.pool_tls.get(key))
        if tls is not None:
            new.pool_tls[key] = tls
        self.views[key] = self._pool_views.make(new.load_balancer, listener, pool, runtime, members, tls)

    def _prepare_member(self, pool_id: PoolId, member: Member) -> MemberRuntime:
        identity = (*pool_id, member.id)
        key = (*identity, member.address, member.port)
        if is_checked(member):
            self.checked.add(identity)
        runtime = self._before.members.get(key)
        if runtime is None:
            slot = self._board.claim(Kind.MEMBER, *identity)
            runtime = MemberRuntime(self._engine, slot, member.id, member.address, member.port)
        self.generation.members[key] = runtime
        return runtime

    def _prepare_listener(self, listener: Listener) -> None:
        new, before = self.generation, self._before
        if len(listener.binds) > BIND_LIMIT:
            raise ConfigError(f"listener {listener.id}: more than {BIND_LIMIT} addresses and ports")
        policies = listener_policies(listener, before.policies.get(listener.id))
        if policies is not None:
            new.policies[listener.id] = policies
        runtime = before.listeners.get(listener.id)
        if runtime is None:
            runtime = ListenerRuntime(self._engine, self._board.claim(Kind.LISTENER, listener.id))
        new.listeners[listener.id] = runtime
        log = log_program(new.load_balancer, listener, self._settings)
        tls = listener_context(listener, self._files, before.contexts.get(listener.id))
        if tls is not None:
            new.contexts[listener.id] = tls
        self.configs[listener.id] = listener_config(
            listener,
            self._settings,
            {pool.id: new.pools[listener.id, pool.id] for pool in listener.pools},
            log=log,
            policies=policies,
            tls=tls,
        )
