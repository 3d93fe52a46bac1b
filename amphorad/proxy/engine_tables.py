"""A pool and a listener of the model as the immutable tables that the engine works from.

What the engine cannot carry out is refused here, as a last line of defence behind the dialect.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from amphorad.board import MemberState
from amphorad.errors import ConfigError
from amphorad.model import Algorithm, AppCookie, HttpCookie, Mode, ProxyProtocol, ReusePolicy, SourceIp
from amphorad.proxy.engine.engine import APP_COOKIE, COOKIE_LIMIT_BYTES, HTTP_COOKIE, SOURCE, Config, View
from amphorad.proxy.member_states import STICKS
from amphorad.proxy.policy import policy_pool_ids
from amphorad.proxy.tls.facts import CERTIFICATE_FACTS, FACT_LIMITS
from amphorad.stick_tables import KIND_ADDRESS, KIND_STRING, Shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from amphorad.extras import Extras
    from amphorad.model import Listener, LoadBalancer, Pool
    from amphorad.proxy.draining import Draining
    from amphorad.proxy.engine.engine import MemberRuntime, PoolRuntime
    from amphorad.proxy.engine.stick_table import Table
    from amphorad.proxy.listener_tls import ListenerContext
    from amphorad.proxy.member_states import MemberStates
    from amphorad.proxy.member_tls import PoolTls
    from amphorad.proxy.policy import ListenerPolicies
    from amphorad.proxy.settings import Settings
    from amphorad.proxy.wire.log_line import LogProgram
    from amphorad.stick_tables import TableSpace

__all__ = ["PoolViews", "listener_config", "require_listener_carried_out", "require_pool_carried_out"]

# EXTRA_BYTES in engine/request.pyx, less what else goes there: Connection, Host (255 bytes of it) and X-Forwarded-For
INSERTION_LIMIT_BYTES = 5760
WEIGHT_LIMIT = 256
_REUSE = {ReusePolicy.NEVER: 0, ReusePolicy.SAFE: 1, ReusePolicy.RETRY: 2}
_PROXY_VERSIONS = {None: 0, ProxyProtocol.V1: 1, ProxyProtocol.V2: 2, ProxyProtocol.V2_SSL_CN: 3}


def require_listener_carried_out(listener: Listener) -> None:
    if listener.is_prometheus and listener.default_pool is None:
        raise ConfigError(f"listener {listener.id}: a PROMETHEUS listener needs an exporter behind it")
    needs_http = listener.policies or listener.redirect_plain_to_https or listener.hsts is not None
    if needs_http and listener.mode is not Mode.HTTP:
        raise ConfigError(f"listener {listener.id}: L7 policies, redirects and HSTS need an HTTP listener")


def require_pool_carried_out(listener: Listener, pool: Pool) -> None:
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


# --- pools ---


class PoolViews:
    """Makes the views of pools: what a configuration says of one, and how its members are at the moment.

    Args:
        states: of members, now.
        draining: of members, whose clients come back to them until it is over.
        tables: where the stick tables of pools are.
    """

    def __init__(self, settings: Settings, states: MemberStates, draining: Draining, tables: TableSpace[Table]) -> None:
        self._settings = settings
        self._states = states
        self._draining = draining
        self._tables = tables

    def make(
        self,
        load_balancer: LoadBalancer,
        listener: Listener,
        pool: Pool,
        runtime: PoolRuntime,
        runtimes: list[MemberRuntime],
        tls: PoolTls | None,
    ) -> View:
        """The pool as the engine sees it now; `runtimes` of its members, in their order.

        Raises:
            ConfigError: something that the engine does not do, or no room for a stick table.
        """
        key = (listener.id, pool.id)
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
            retries=load_balancer.retries,
            redispatch=load_balancer.redispatch,
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
                attributes = _cookie_attributes(self._settings.extras, is_tls=listener.tls is not None)
                view.add_persistence(HTTP_COOKIE, name.encode(), None, cookies, sticks, attributes)
            case AppCookie(name=name):
                table = self._tables.claim(key, _shape(pool.persistence))
                view.add_persistence(APP_COOKIE, name.encode(), table, [b""] * len(sticks), sticks)
            case SourceIp():
                table = self._tables.claim(key, _shape(pool.persistence))
                view.add_persistence(SOURCE, b"", table, [b""] * len(sticks), sticks)
        return view

    def _reuse(self, pool: Pool) -> ReusePolicy:
        return self._settings.reuse if pool.reuse is ReusePolicy.SAFE else pool.reuse


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


# --- listeners ---


def listener_config(
    listener: Listener,
    settings: Settings,
    pools: Mapping[str, PoolRuntime],
    *,
    log: LogProgram | None,
    policies: ListenerPolicies | None,
    tls: ListenerContext | None,
) -> Config:
    """The listener as the engine sees it; `pools` of it by their id.

    Raises:
        ConfigError: something that the engine does not do.
    """
    extras = settings.extras
    return Config(
        listener.id,
        is_http=_speaks_http(listener),
        limit=listener.connection_limit,
        timeout_client_ms=_milliseconds(listener.timeout_client_s),
        default_pool=pools[listener.default_pool] if listener.default_pool is not None else None,
        log_program=log,
        minimum_body_rate=settings.minimum_body_rate,
        policies=policies.program if policies is not None else None,
        policy_pools=[pools[pool_id] for pool_id in policy_pool_ids(listener)],
        tls=tls.context if tls is not None else None,
        timeout_tunnel_ms=_milliseconds(extras.timeout_tunnel) if extras.timeout_tunnel else 0,
        rate=extras.rate_limit,
        source_rate=extras.rate_limit_source,
        burst=extras.rate_limit_burst,
        hsts=_hsts_line(listener),
    )


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


def _milliseconds(seconds: float) -> int:
    return max(1, min(round(seconds * 1000), 0x7FFFFFFF))
