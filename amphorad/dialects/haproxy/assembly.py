"""From the drafts of all sections to one `LoadBalancer`, following every reference between them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from amphorad.dialects.haproxy.features import Feature
from amphorad.dialects.haproxy.process import EXPORTER_BACKEND, DefaultsDraft, GlobalDraft
from amphorad.errors import ConfigError
from amphorad.model import (
    AppCookie,
    HealthMonitor,
    HealthMonitorType,
    HttpCookie,
    Listener,
    LoadBalancer,
    Mode,
    Pool,
)

if TYPE_CHECKING:
    from amphorad.dialects.haproxy.backend import BackendDraft
    from amphorad.dialects.haproxy.frontend import FrontendDraft
    from amphorad.dialects.haproxy.process import PeersDraft
    from amphorad.dialects.haproxy.report import Report

__all__ = ["Drafts", "assemble"]

_TITLE: Final = re.compile(r"^# Configuration for loadbalancer ([A-Za-z0-9_.-]{1,255})[ \t]*$", re.MULTILINE)
_SOCKET: Final = re.compile(r"([A-Za-z0-9_.-]{1,255})\.sock\Z")


@dataclass(slots=True)
class Drafts:
    """Every section of one text."""

    process: GlobalDraft = field(default_factory=GlobalDraft)
    defaults: DefaultsDraft = field(default_factory=DefaultsDraft)
    peers: PeersDraft | None = None
    has_exporter: bool = False
    frontends: dict[str, FrontendDraft] = field(default_factory=dict)
    backends: dict[tuple[str, str], BackendDraft] = field(default_factory=dict)


def assemble(drafts: Drafts, text: str, report: Report) -> LoadBalancer | None:
    """The model, or None when there are errors (in `report`)."""
    _follow_threads(drafts.process, report)
    _follow_binds(drafts, report)
    pools: dict[str, list[Pool]] = {listener_id: [] for listener_id in drafts.frontends}
    for backend in drafts.backends.values():
        frontend = drafts.frontends.get(backend.listener_id)
        try:
            if frontend is None:
                raise backend.line.error("the backend belongs to no listener", backend.line.words[1])
            pool = _pool(backend, frontend, drafts, report)
        except ConfigError as error:
            report.errors.append(error)
        else:
            pools[backend.listener_id].append(pool)
    for frontend in drafts.frontends.values():
        _follow_references(frontend, drafts, report)
    if report.errors:
        return None
    try:
        return _load_balancer(drafts, pools, _load_balancer_id(text, drafts.process))
    except ConfigError as error:  # the model's own checks; each is made above with a line, so this is a safety net
        report.errors.append(ConfigError(error.reason, file=report.file, word=error.word))
        return None


def _load_balancer(drafts: Drafts, pools: dict[str, list[Pool]], load_balancer_id: str) -> LoadBalancer:
    process, defaults = drafts.process, drafts.defaults
    return LoadBalancer(
        id=load_balancer_id,
        listeners=tuple(_listener(frontend, pools[frontend.id], defaults) for frontend in drafts.frontends.values()),
        connection_limit=process.connection_limit or 1_000_000,
        retries=3 if defaults.retries is None else defaults.retries,
        redispatch=defaults.redispatch,
        log_targets=tuple(process.log_targets),
        stats_socket=process.stats_socket,
        server_state_file=process.server_state_file,
        threads=process.threads,
        thread_cpus=process.thread_cpus,
        tls_cache_blocks=process.tls_cache_blocks,
        peers=tuple(drafts.peers.peers.values()) if drafts.peers else (),
    )


def _load_balancer_id(text: str, process: GlobalDraft) -> str:
    """The id from the title comment, else from the name of the stats socket; "local" for a file that has neither."""
    title = _TITLE.search(text)
    if title is None and process.stats_socket is not None:
        title = _SOCKET.search(process.stats_socket)
    return title[1] if title else "local"


def _follow_threads(process: GlobalDraft, report: Report) -> None:
    line = process.cpu_map_line
    if line is not None and len(process.thread_cpus) != process.threads:
        report.errors.append(line.error("the CPU map does not fit nbthread", line.words[1]))


def _follow_binds(drafts: Drafts, report: Report) -> None:
    taken: dict[tuple[str, int], int] = {}
    for frontend in drafts.frontends.values():
        if "bind" not in frontend.seen:
            report.errors.append(frontend.line.error("the listener has no bind", frontend.id))
        for bind, line in zip(frontend.binds, frontend.bind_lines, strict=True):
            first = taken.setdefault((bind.address, bind.port), line.number)
            if first != line.number:
                report.errors.append(line.error(f"address and port are taken (line {first})", line.words[1]))


def _follow_references(frontend: FrontendDraft, drafts: Drafts, report: Report) -> None:
    for pool_id, line in frontend.pool_lines.items():
        if pool_id == EXPORTER_BACKEND:
            known = drafts.has_exporter
        else:
            known = (pool_id, frontend.id) in drafts.backends
        if not known:
            report.errors.append(line.error("no such backend", line.words[1]))
    policy = frontend.policy_line
    if policy is not None and frontend.mode is Mode.TCP:
        report.errors.append(policy.error("L7 policies need a listener in mode http", policy.words[0]))


def _listener(frontend: FrontendDraft, pools: list[Pool], defaults: DefaultsDraft) -> Listener:
    return Listener(
        id=frontend.id,
        mode=frontend.mode,
        binds=tuple(frontend.binds),
        connection_limit=frontend.connection_limit or 50000,
        timeout_client_s=frontend.timeout_client_s or 50.0,
        default_pool=frontend.default_pool,
        pools=tuple(pools),
        policies=tuple(frontend.policies),
        tls=frontend.tls,
        redirect_plain_to_https=frontend.redirect_plain_to_https,
        hsts=frontend.hsts,
        log_format=frontend.log_format if defaults.logs_traffic else None,
        is_prometheus=frontend.is_prometheus,
    )


def _pool(backend: BackendDraft, frontend: FrontendDraft, drafts: Drafts, report: Report) -> Pool:
    is_http = backend.mode is Mode.HTTP
    if is_http and frontend.mode is Mode.TCP:
        report.need(Feature.HTTP_POOL_ON_TCP_LISTENER, backend.mode_line or backend.line)
    elif frontend.mode is Mode.HTTP and not is_http:
        line = backend.mode_line or backend.line
        raise line.error("a pool of an HTTP listener must be in mode http", line.words[1])
    persistence = backend.persistence()
    table = backend.table
    if table is not None and table.peers is not None and (drafts.peers is None or table.peers != drafts.peers.name):
        raise table.line.error("no such peers section", table.peers)
    if not is_http and isinstance(persistence, HttpCookie | AppCookie):
        persistence = None  # HAProxy takes cookies in mode tcp and ignores them
    shared = backend.servers.shared
    return Pool(
        id=backend.id,
        mode=backend.mode,
        algorithm=backend.algorithm,
        members=tuple(backend.servers.members.values()),
        reuse=backend.reuse,
        persistence=persistence,
        health_monitor=_health_monitor(backend, report),
        forwarded_for=backend.forwarded_for and is_http,
        header_insertions=tuple(backend.header_insertions) if is_http else (),
        proxy_protocol=shared.proxy_protocol if shared else None,
        tls=shared.tls if shared else None,
        timeout_connect_s=backend.timeout_connect_s or 5.0,
        timeout_member_s=backend.timeout_member_s or 50.0,
    )


def _health_monitor(backend: BackendDraft, report: Report) -> HealthMonitor | None:
    """The pool's monitor. Interval and thresholds stand on the members: a pool without any has nothing to check."""
    check = backend.servers.check
    if check is None:
        return None
    over_tls = check.over_tls or (backend.servers.shared is not None and backend.servers.shared.tls is not None)
    if backend.external_check:
        kind = HealthMonitorType.PING
    elif backend.http_check is not None:
        kind = HealthMonitorType.HTTPS if check.over_tls else HealthMonitorType.HTTP
    else:
        kind = HealthMonitorType.TLS_HELLO if over_tls else HealthMonitorType.TCP
    if over_tls and kind is not HealthMonitorType.PING:
        report.need(Feature.TLS_MONITOR, backend.line)
    method, path, version = backend.http_check or (None, None, None)
    return HealthMonitor(
        type=kind,
        interval_s=check.interval_s,
        timeout_s=backend.timeout_check_s or check.interval_s,
        rise=check.rise,
        fall=check.fall,
        http_method=method,
        url_path=path,
        http_version=version,
        domain_name=backend.http_check_host,
        expected_codes=backend.expected_codes,
        alpn=check.alpn,
    )
