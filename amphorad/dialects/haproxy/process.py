"""Sections `global`, `defaults`, `peers` and the exporter's two (Octavia contract sections 4.3 to 4.6).

Directives with no effect here: `daemon`, `user`, `group` (the supervisor owns process and identity), `external-check`
and `insecure-fork-wanted` (no process is forked for a check), `option splice-request`, `option splice-response` (the
engine splices when that pays), `option http-keep-alive` (always on).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from amphorad.dialects.haproxy.features import Feature
from amphorad.dialects.haproxy.report import once
from amphorad.dialects.haproxy.section import FixedSection, dispatch, exactly
from amphorad.dialects.haproxy.values import MAX_CONNECTIONS, address_and_port, name, number
from amphorad.model import LogTarget, Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from amphorad.dialects.haproxy.lexer import Line
    from amphorad.dialects.haproxy.report import Report

__all__ = [
    "EXPORTER_BACKEND",
    "EXPORTER_FRONTEND",
    "DefaultsDraft",
    "GlobalDraft",
    "PeersDraft",
    "exporter_backend",
    "exporter_frontend",
]

EXPORTER_FRONTEND: Final = "prometheus-exporter-internal-endpoint"
EXPORTER_BACKEND: Final = "prometheus-exporter-internal"

_FACILITIES: Final = frozenset(
    {"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "auth2", "ftp", "ntp", "audit"}
    | {"alert", "cron2"}
    | {f"local{n}" for n in range(8)}
)
_SEVERITIES: Final = frozenset({"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"})
_CPU_MAP: Final = re.compile(r"auto:1/1-([0-9]{1,4})\Z")
_CPU_RANGE: Final = re.compile(r"([0-9]{1,4})-([0-9]{1,4})\Z")
_MAX_THREADS: Final = 1024
_MAX_LOG_TARGETS: Final = 16
_MAX_PEERS: Final = 64


@dataclass(slots=True)
class GlobalDraft:
    """What `global` says about the process."""

    seen: dict[str, int] = field(default_factory=dict)
    log_targets: list[LogTarget] = field(default_factory=list)
    stats_socket: str | None = None
    server_state_file: str | None = None
    connection_limit: int | None = None
    tls_cache_blocks: int | None = None
    threads: int | None = None
    thread_cpus: tuple[int, ...] = ()
    cpu_map_line: Line | None = None

    def read(self, line: Line, report: Report) -> None:
        key = line.words[0]
        if key != "log":
            once(self.seen, key, line)
        dispatch(self, line, report, _GLOBAL, "section 'global'")


def _log(draft: GlobalDraft, line: Line, report: Report) -> None:
    del report
    words = line.words
    if not 3 <= len(words) <= 4:
        raise line.error("a log target is written: log SOCKET FACILITY [SEVERITY]", words[-1])
    if not words[1].startswith("/"):
        raise line.error("a log target must be the path of a unix datagram socket", words[1])
    if words[2] not in _FACILITIES:
        raise line.error("unknown syslog facility", words[2])
    severity = words[3] if len(words) == 4 else None
    if severity is not None and severity not in _SEVERITIES:
        raise line.error("unknown syslog severity", severity)
    if len(draft.log_targets) >= _MAX_LOG_TARGETS:
        raise line.error(f"more than {_MAX_LOG_TARGETS} log targets")
    draft.log_targets.append(LogTarget(path=words[1], facility=words[2], minimum_severity=severity))


def _stats_socket(draft: GlobalDraft, line: Line, report: Report) -> None:
    del report
    words = line.words
    if (
        len(words) != 7
        or words[3] != "mode"
        or words[5:] != ["level", "user"]
        or not re.fullmatch("0?[0-7]{3}", words[4])
    ):
        raise line.error("the socket is written: stats socket PATH mode MODE level user", words[-1])
    if not words[2].startswith("/"):
        raise line.error("the stats socket must be an absolute path", words[2])
    draft.stats_socket = words[2]


def _server_state_file(draft: GlobalDraft, line: Line, report: Report) -> None:
    del report
    draft.server_state_file = line.argument("the path of the state file")


def _global_maxconn(draft: GlobalDraft, line: Line, report: Report) -> None:
    del report
    draft.connection_limit = number(line, line.argument("the limit"), "maxconn", low=1, high=MAX_CONNECTIONS)


def _tls_cache(draft: GlobalDraft, line: Line, report: Report) -> None:
    del report
    word = line.argument("the number of blocks")
    draft.tls_cache_blocks = number(line, word, "tune.ssl.cachesize", low=0, high=10**12 - 1)


def _nbthread(draft: GlobalDraft, line: Line, report: Report) -> None:
    del report
    draft.threads = number(line, line.argument("the number of threads"), "nbthread", low=1, high=_MAX_THREADS)


def _cpu_map(draft: GlobalDraft, line: Line, report: Report) -> None:
    """Thread i of 1..N runs on CPU i of the range; CPU 0 is left to the rest of the machine."""
    del report
    threads = _CPU_MAP.match(line.words[1]) if len(line.words) == 3 else None
    cpus = _CPU_RANGE.match(line.words[2]) if threads else None
    if threads is None or cpus is None:
        raise line.error("a CPU map is written: cpu-map auto:1/1-N A-B", line.words[-1])
    first, last = int(cpus[1]), int(cpus[2])
    if last - first + 1 != int(threads[1]) or not 1 <= int(threads[1]) <= _MAX_THREADS:
        raise line.error("a CPU map must name one CPU per thread", line.words[2])
    draft.thread_cpus = tuple(range(first, last + 1))
    draft.cpu_map_line = line


def _identity(draft: GlobalDraft, line: Line, report: Report) -> None:
    del draft, report
    name(line, line.argument("the name"), f"the {line.words[0]}")


_GLOBAL: Final[Mapping[str, Callable[[GlobalDraft, Line, Report], None]]] = {
    "cpu-map": _cpu_map,
    "daemon": exactly("daemon"),
    "external-check": exactly("external-check"),
    "group": _identity,
    "insecure-fork-wanted": exactly("insecure-fork-wanted"),
    "log": _log,
    "maxconn": _global_maxconn,
    "nbthread": _nbthread,
    "server-state-file": _server_state_file,
    "stats socket": _stats_socket,
    "tune.ssl.cachesize": _tls_cache,
    "user": _identity,
}


@dataclass(slots=True)
class DefaultsDraft:
    """What `defaults` says for every listener and pool."""

    seen: dict[str, int] = field(default_factory=dict)
    logs_traffic: bool = False
    retries: int | None = None
    redispatch: bool = False

    def read(self, line: Line, report: Report) -> None:
        words = line.words
        key = "log" if words[0] == "no" else words[0]  # `log global` and `no log` answer one question
        once(self.seen, " ".join(words[:2]) if key == "option" else key, line)
        dispatch(self, line, report, _DEFAULTS, "section 'defaults'")


def _log_global(draft: DefaultsDraft, line: Line, report: Report) -> None:
    exactly("log", "global")(draft, line, report)
    draft.logs_traffic = True


def _retries(draft: DefaultsDraft, line: Line, report: Report) -> None:
    del report
    draft.retries = number(line, line.argument("the number of retries"), "retries", low=0, high=100)


def _redispatch(draft: DefaultsDraft, line: Line, report: Report) -> None:
    exactly("option", "redispatch")(draft, line, report)
    draft.redispatch = True


_DEFAULTS: Final[Mapping[str, Callable[[DefaultsDraft, Line, Report], None]]] = {
    "log": _log_global,
    "no": exactly("no", "log"),
    "option http-keep-alive": exactly("option", "http-keep-alive"),
    "option redispatch": _redispatch,
    "option splice-request": exactly("option", "splice-request"),
    "option splice-response": exactly("option", "splice-response"),
    "retries": _retries,
}


@dataclass(slots=True)
class PeersDraft:
    """The amphorae that share stick tables, this one included."""

    name: str
    peers: dict[str, Peer] = field(default_factory=dict)

    def read(self, line: Line, report: Report) -> None:
        dispatch(self, line, report, _PEERS, "section 'peers'")


def _peer(draft: PeersDraft, line: Line, report: Report) -> None:
    del report
    if len(line.words) != 3:
        raise line.error("a peer is written: peer NAME ADDRESS:PORT", line.words[-1])
    peer = name(line, line.words[1], "a peer's name")
    if peer in draft.peers:
        raise line.error("peer given twice", peer)
    if len(draft.peers) >= _MAX_PEERS:
        raise line.error(f"more than {_MAX_PEERS} peers")
    host, port = address_and_port(line, line.words[2], "a peer")
    draft.peers[peer] = Peer(name=peer, address=host, port=port)


_PEERS: Final[Mapping[str, Callable[[PeersDraft, Line, Report], None]]] = {"peer": _peer}

_EXPORTER_FRONTEND_LINES: Final = frozenset(
    tuple(text.split())
    for text in (
        "bind 127.0.0.1:9101",
        "mode http",
        "no log",
        "http-request use-service prometheus-exporter if { path /metrics }",
        "http-request reject",
        "timeout http-request 5s",
        "timeout client 5s",
    )
)
_EXPORTER_BACKEND_LINES: Final = frozenset(
    tuple(text.split())
    for text in (
        "mode http",
        "no log",
        "balance first",
        "timeout connect 5s",
        "timeout server 5s",
        "server prometheus-internal 127.0.0.1:9102",
    )
)


def exporter_frontend(line: Line, report: Report) -> FixedSection:
    """The exporter's own frontend: a PROMETHEUS listener is answered here, so it only has to be the known one."""
    report.need(Feature.PROMETHEUS, line)
    return FixedSection("the exporter's frontend", _EXPORTER_FRONTEND_LINES)


def exporter_backend(line: Line, report: Report) -> FixedSection:
    report.need(Feature.PROMETHEUS, line)
    return FixedSection("the exporter's backend", _EXPORTER_BACKEND_LINES)
