"""Section `backend`: one pool seen from one listener (Octavia contract section 4.10).

Without effect here: `fullconn` (matters only with limits on servers, which are never written), `option allbackups`
(always so), `load-server-state-from-file` (health outlives an apply on the board).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from amphorad.dialects.haproxy.features import Feature
from amphorad.dialects.haproxy.frontend import mode
from amphorad.dialects.haproxy.report import once
from amphorad.dialects.haproxy.section import dispatch, exactly
from amphorad.dialects.haproxy.server import ServerReader
from amphorad.dialects.haproxy.values import MAX_CONNECTIONS, duration_s, entries, number, token
from amphorad.model import Algorithm, AppCookie, HeaderInsertion, HttpCookie, Mode, ReusePolicy, SourceIp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from amphorad.dialects.haproxy.lexer import Line
    from amphorad.dialects.haproxy.report import Report

__all__ = ["BackendDraft"]

_ALGORITHMS: Final = {
    # HAProxy's roundrobin always obeys weights.
    "roundrobin": Algorithm.WEIGHTED_ROUND_ROBIN,
    "leastconn": Algorithm.LEAST_CONNECTIONS,
    "source": Algorithm.SOURCE_IP_HASH,
}
_TLS_EXPRESSIONS: Final = frozenset(
    {
        "%[ssl_c_verify]",
        "%[ssl_c_used]",
        "%{+Q}[ssl_c_s_dn]",
        "%{+Q}[ssl_c_s_dn(cn)]",
        "%{+Q}[ssl_c_i_dn]",
        "%{+Q}[ssl_c_sha1,hex]",
        "%{+Q}[ssl_c_notbefore]",
        "%{+Q}[ssl_c_notafter]",
    }
)
_EXPRESSIONS: Final = _TLS_EXPRESSIONS | {"%[dst_port]"}
_COOKIE_SAMPLE: Final = re.compile(r"(req|res)\.cook\((.+)\)\Z", re.DOTALL)
_CODES: Final = re.compile(r"[0-9]{3}(\|[0-9]{3})*\Z")
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f]")
_HTTP_VERSIONS: Final = {"HTTP/1.0": "1.0", "HTTP/1.1": "1.1"}


@dataclass(slots=True)
class StickTable:
    """A `stick-table` line and the `stick` lines that go with it."""

    line: Line
    size: int
    value_limit: int | None  # None: keys are addresses
    peers: str | None
    on_source: bool = False
    stored: str | None = None
    matched: str | None = None


@dataclass(slots=True)
class BackendDraft:
    """One pool while its lines are read."""

    id: str
    listener_id: str
    line: Line
    seen: dict[str, int] = field(default_factory=dict)
    mode: Mode = Mode.TCP
    mode_line: Line | None = None
    reuse: ReusePolicy = ReusePolicy.NEVER
    algorithm: str = Algorithm.WEIGHTED_ROUND_ROBIN
    table: StickTable | None = None
    http_cookie: HttpCookie | None = None
    timeout_check_s: float | None = None
    http_check: tuple[str, str, str | None] | None = None
    http_check_host: str | None = None
    expected_codes: str | None = None
    external_check: bool = False
    forwarded_for: bool = False
    header_insertions: list[HeaderInsertion] = field(default_factory=list)
    timeout_connect_s: float | None = None
    timeout_member_s: float | None = None
    servers: ServerReader = field(default_factory=ServerReader)

    def read(self, line: Line, report: Report) -> None:
        if line.words[0] == "server":
            self.servers.read(line, report)
        else:
            dispatch(self, line, report, _BACKEND, "a backend")

    def persistence(self) -> SourceIp | AppCookie | HttpCookie | None:
        """How clients stick to members.

        Raises:
            ConfigError: the stick table and its rules do not fit each other.
        """
        table = self.table
        if table is None:
            return self.http_cookie
        replicated = table.peers is not None
        if self.http_cookie is not None:
            raise table.line.error("a pool has one kind of persistence", "stick-table")
        if table.value_limit is None:
            if not table.on_source:
                raise table.line.error("the stick table is never used ('stick on src' is missing)", "stick-table")
            return SourceIp(size=table.size, replicated=replicated)
        if table.stored is None or table.stored != table.matched:
            raise table.line.error("the cookie to learn and the cookie to match must be one", table.stored)
        return AppCookie(name=table.stored, size=table.size, value_limit=table.value_limit, replicated=replicated)


def _mode(draft: BackendDraft, line: Line, report: Report) -> None:
    del report
    once(draft.seen, "mode", line)
    draft.mode = mode(line)
    draft.mode_line = line


def _http_reuse(draft: BackendDraft, line: Line, report: Report) -> None:
    once(draft.seen, "http-reuse", line)
    exactly("http-reuse", "safe")(draft, line, report)
    draft.reuse = ReusePolicy.SAFE


def _balance(draft: BackendDraft, line: Line, report: Report) -> None:
    del report
    once(draft.seen, "balance", line)
    word = line.argument("the algorithm")
    if word not in _ALGORITHMS:
        raise line.error("an algorithm is one of roundrobin, leastconn, source", word)
    draft.algorithm = _ALGORITHMS[word]


def _stick_table(draft: BackendDraft, line: Line, report: Report) -> None:
    once(draft.seen, "stick-table", line)
    words = line.words
    if words[1:4] == ["type", "ipv6", "size"]:
        report.need(Feature.SOURCE_IP_PERSISTENCE, line)
        value_limit, at = None, 4
    elif words[1:4] == ["type", "string", "len"] and words[5:6] == ["size"]:
        report.need(Feature.APP_COOKIE, line)
        value_limit, at = number(line, words[4], "the key length", low=1, high=4096), 6
    else:
        raise line.error("a stick table is written: stick-table type ipv6|string len N size N [peers NAME]", words[-1])
    peers = None
    if words[at + 1 : at + 2] == ["peers"]:
        peers = line.argument("the peers section", index=at + 2)
        size = entries(line, words[at])
    else:
        size = entries(line, line.argument("the size", index=at))
    draft.table = StickTable(line=line, size=size, value_limit=value_limit, peers=peers)


def _stick(draft: BackendDraft, line: Line, report: Report) -> None:
    del report
    words = line.words
    kind = words[1] if len(words) > 1 else ""
    once(draft.seen, f"stick {kind}", line)
    table = draft.table
    if kind not in ("on", "match", "store-response"):
        raise line.error("unknown 'stick' directive in a backend", kind)
    sample = line.argument("the sample", index=2)
    if table is None:
        if "stick-table" not in draft.seen:
            raise line.error("'stick' needs a stick-table before it", "stick")
        return  # the table itself was refused
    if kind == "on":
        if sample != "src" or table.value_limit is not None:
            raise line.error("'stick on' takes src, with a table of addresses", sample)
        table.on_source = True
        return
    cookie = _COOKIE_SAMPLE.match(sample)
    side = "req" if kind == "match" else "res"
    if cookie is None or cookie[1] != side or table.value_limit is None:
        raise line.error(f"'stick {kind}' takes {side}.cook(NAME), with a table of strings", sample)
    if side == "req":
        table.matched = token(line, cookie[2], "a cookie's name")
    else:
        table.stored = token(line, cookie[2], "a cookie's name")


def _cookie(draft: BackendDraft, line: Line, report: Report) -> None:
    once(draft.seen, "cookie", line)
    if len(line.words) != 5 or line.words[2:] != ["insert", "indirect", "nocache"]:
        raise line.error("only 'cookie NAME insert indirect nocache' is taken", line.words[-1])
    report.need(Feature.HTTP_COOKIE, line)
    draft.http_cookie = HttpCookie(name=token(line, line.words[1], "a cookie's name"))


def _timeout_check(draft: BackendDraft, line: Line, report: Report) -> None:
    once(draft.seen, "timeout check", line)
    report.need(Feature.HEALTH_MONITOR, line)
    draft.timeout_check_s = duration_s(line, line.argument("the duration", index=2), "timeout check")


def _httpchk(draft: BackendDraft, line: Line, report: Report) -> None:
    once(draft.seen, "option httpchk", line)
    report.need(Feature.HEALTH_MONITOR, line)
    words = line.words
    if not 4 <= len(words) <= 5:
        raise line.error("an HTTP check is written: option httpchk METHOD URI [HTTP/V]", words[-1])
    version = None
    if len(words) == 5:
        version = _HTTP_VERSIONS.get(words[4])
        if version is None:
            raise line.error("the version of an HTTP check is HTTP/1.0 or HTTP/1.1", words[4])
    if _CONTROL.search(words[3]):
        raise line.error("the path of an HTTP check holds a control character", words[3])
    draft.http_check = (token(line, words[2], "a method"), words[3], version)


def _check_host(draft: BackendDraft, line: Line, report: Report) -> None:
    once(draft.seen, "http-check send", line)
    report.need(Feature.HEALTH_MONITOR, line)
    if len(line.words) != 5 or line.words[2:4] != ["hdr", "Host"]:
        raise line.error("only 'http-check send hdr Host NAME' is taken", line.words[-1])
    draft.http_check_host = line.words[4]


def _check_expect(draft: BackendDraft, line: Line, report: Report) -> None:
    """The controller joins the codes of a set in whatever order, so they are sorted: a new order is no change."""
    once(draft.seen, "http-check expect", line)
    report.need(Feature.HEALTH_MONITOR, line)
    if line.words[2:3] != ["rstatus"]:
        raise line.error("only 'http-check expect rstatus CODES' is taken", line.words[-1])
    codes = line.argument("the expected codes", index=3)
    if not _CODES.match(codes):
        raise line.error("expected codes are written 200|201|...", codes)
    draft.expected_codes = "|".join(sorted(set(codes.split("|"))))


def _external_check(draft: BackendDraft, line: Line, report: Report) -> None:
    once(draft.seen, "option external-check", line)
    exactly("option", "external-check")(draft, line, report)
    report.need(Feature.PING_MONITOR, line)
    draft.external_check = True


def _external_command(draft: BackendDraft, line: Line, report: Report) -> None:
    once(draft.seen, "external-check command", line)
    exactly("external-check", "command", "/var/lib/octavia/ping-wrapper.sh")(draft, line, report)


def _forwardfor(draft: BackendDraft, line: Line, report: Report) -> None:
    once(draft.seen, "option forwardfor", line)
    exactly("option", "forwardfor")(draft, line, report)
    draft.forwarded_for = True


def _set_header(draft: BackendDraft, line: Line, report: Report) -> None:
    words = line.words
    if len(words) != 4:
        raise line.error("a header is written: http-request set-header NAME VALUE", words[-1])
    header = token(line, words[2], "a header's name")
    once(draft.seen, f"http-request set-header {header.lower()}", line)
    value = words[3]
    if value in _TLS_EXPRESSIONS:
        report.need(Feature.TLS_HEADER_INSERTION, line)
    elif value not in _EXPRESSIONS and ("%" in value or not value.isprintable()):
        raise line.error("unknown expression in a header's value", value)
    draft.header_insertions.append(HeaderInsertion(name=header, value=value))


def _fullconn(draft: BackendDraft, line: Line, report: Report) -> None:
    del report
    once(draft.seen, "fullconn", line)
    number(line, line.argument("the limit"), "fullconn", low=1, high=MAX_CONNECTIONS)


def _timeout_connect(draft: BackendDraft, line: Line, report: Report) -> None:
    del report
    once(draft.seen, "timeout connect", line)
    draft.timeout_connect_s = duration_s(line, line.argument("the duration", index=2), "timeout connect")


def _timeout_server(draft: BackendDraft, line: Line, report: Report) -> None:
    del report
    once(draft.seen, "timeout server", line)
    draft.timeout_member_s = duration_s(line, line.argument("the duration", index=2), "timeout server")


_BACKEND: Final[Mapping[str, Callable[[BackendDraft, Line, Report], None]]] = {
    "balance": _balance,
    "cookie": _cookie,
    "external-check command": _external_command,
    "fullconn": _fullconn,
    "http-check expect": _check_expect,
    "http-check send": _check_host,
    "http-request set-header": _set_header,
    "http-reuse": _http_reuse,
    "load-server-state-from-file": exactly("load-server-state-from-file", "global"),
    "mode": _mode,
    "option allbackups": exactly("option", "allbackups"),
    "option external-check": _external_check,
    "option forwardfor": _forwardfor,
    "option httpchk": _httpchk,
    "stick": _stick,
    "stick-table": _stick_table,
    "timeout check": _timeout_check,
    "timeout connect": _timeout_connect,
    "timeout server": _timeout_server,
}
