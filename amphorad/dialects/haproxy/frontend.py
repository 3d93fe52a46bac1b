"""Section `frontend`: one listener (Octavia contract sections 4.7 and 4.8).

Without effect here, as in HAProxy: `tcp-request inspect-delay`, because no content rule is ever written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from amphorad.dialects.haproxy import l7
from amphorad.dialects.haproxy.features import Feature
from amphorad.dialects.haproxy.process import EXPORTER_BACKEND
from amphorad.dialects.haproxy.report import once
from amphorad.dialects.haproxy.section import dispatch
from amphorad.dialects.haproxy.tls import VERSION_SWITCHES, read_options, versions
from amphorad.dialects.haproxy.values import MAX_CONNECTIONS, address_and_port, alpn_protocols, duration_s, name, number
from amphorad.model import Bind, ClientAuthentication, ListenerTls, Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from amphorad.dialects.haproxy.lexer import Line
    from amphorad.dialects.haproxy.report import Report
    from amphorad.model import L7Policy, L7Rule

__all__ = ["FrontendDraft", "backend_name", "mode"]

_BIND_FLAGS: Final = frozenset({"ssl", *VERSION_SWITCHES})
_BIND_VALUED: Final = frozenset({"crt-list", "ca-file", "verify", "crl-file", "ciphers", "ciphersuites", "alpn"})
_HSTS: Final = "Strict-Transport-Security"


@dataclass(slots=True)
class FrontendDraft:
    """One listener while its lines are read. `pool_lines` says where each pool was named first."""

    id: str
    line: Line
    seen: dict[str, int] = field(default_factory=dict)
    mode: Mode = Mode.TCP
    binds: list[Bind] = field(default_factory=list)
    bind_lines: list[Line] = field(default_factory=list)
    tls: ListenerTls | None = None
    connection_limit: int | None = None
    timeout_client_s: float | None = None
    default_pool: str | None = None
    is_prometheus: bool = False
    redirect_plain_to_https: bool = False
    hsts: str | None = None
    log_format: str | None = None
    rules: dict[str, L7Rule | None] = field(default_factory=dict)
    policies: list[L7Policy] = field(default_factory=list)
    policy_line: Line | None = None
    pool_lines: dict[str, Line] = field(default_factory=dict)

    def read(self, line: Line, report: Report) -> None:
        dispatch(self, line, report, _FRONTEND, "a frontend")


def backend_name(line: Line, word: str) -> tuple[str, str]:
    """The two ids of `<pool_id>:<listener_id>`."""
    pool_id, colon, listener_id = word.partition(":")
    if not colon:
        raise line.error("a backend's name is written POOL:LISTENER", word)
    return name(line, pool_id, "a pool's id"), name(line, listener_id, "a listener's id")


def mode(line: Line) -> Mode:
    word = line.argument("the mode")
    if word not in ("tcp", "http"):
        raise line.error("the mode is tcp or http", word)
    return Mode(word)


def _maxconn(draft: FrontendDraft, line: Line, report: Report) -> None:
    del report
    once(draft.seen, "maxconn", line)
    draft.connection_limit = number(line, line.argument("the limit"), "maxconn", low=1, high=MAX_CONNECTIONS)


def _mode(draft: FrontendDraft, line: Line, report: Report) -> None:
    del report
    once(draft.seen, "mode", line)
    draft.mode = mode(line)


def _bind(draft: FrontendDraft, line: Line, report: Report) -> None:
    draft.seen.setdefault("bind", line.number)
    if len(line.words) < 2:
        raise line.error("a bind is written: bind ADDRESS:PORT [OPTIONS]", "bind")
    host, port = address_and_port(line, line.words[1], "a bind")
    tls = _bind_tls(line, report)
    if draft.binds and tls != draft.tls:
        raise line.error("the binds of one listener must have the same TLS options", line.words[1])
    draft.tls = tls
    draft.binds.append(Bind(address=host, port=port))
    draft.bind_lines.append(line)


def _bind_tls(line: Line, report: Report) -> ListenerTls | None:
    """The TLS options of a bind.

    Without `ssl` there is no TLS, whatever else is written: the controller leaves the word out for a listener that has
    SNI certificates but no default one, and HAProxy then serves plain text on the port.
    """
    options = read_options(line, 2, flags=_BIND_FLAGS, valued=_BIND_VALUED)
    if not options:
        return None
    verify = options.get("verify")
    if verify not in (None, *ClientAuthentication):
        raise line.error("client verification is one of none, optional, required", verify)
    if verify in ("optional", "required") and "ca-file" not in options:
        raise line.error("verifying clients needs a ca-file", "verify")
    if "crl-file" in options and "ca-file" not in options:
        raise line.error("a crl-file needs a ca-file", "crl-file")
    alpn = alpn_protocols(line, options["alpn"]) if "alpn" in options else None
    left = versions(line, options)
    if "ssl" not in options:
        if "crt-list" in options:
            raise line.error("a crt-list needs 'ssl'", "crt-list")
        return None
    if "crt-list" not in options:
        raise line.error("'ssl' needs a crt-list", "ssl")
    report.need(Feature.TLS_LISTENER, line)
    if "ca-file" in options:
        report.need(Feature.TLS_CLIENT_AUTHENTICATION, line)
    return ListenerTls(
        crt_list=options["crt-list"],
        ca_file=options.get("ca-file"),
        client_authentication=ClientAuthentication(verify) if verify else None,
        crl_file=options.get("crl-file"),
        ciphers=options.get("ciphers"),
        ciphersuites=options.get("ciphersuites"),
        versions=left,
        alpn=alpn,
    )


def _redirect(draft: FrontendDraft, line: Line, report: Report) -> None:
    if line.words[1:2] == ["scheme"]:
        if line.words[2:] != ["https", "if", "!{", "ssl_fc", "}"]:
            raise line.error("only 'redirect scheme https if !{ ssl_fc }' is taken", line.words[-1])
        once(draft.seen, "redirect scheme", line)
        report.need(Feature.TLS_LISTENER, line)
        draft.redirect_plain_to_https = True
        return
    report.need(Feature.L7_POLICY, line)
    _policy(draft, line, l7.redirect(line, draft.rules))


def _hsts(draft: FrontendDraft, line: Line, report: Report) -> None:
    words = line.words
    if len(words) != 4 or words[1] != "set-header" or words[2] != _HSTS:
        raise line.error(f"only 'http-response set-header {_HSTS} \"VALUE\"' is taken", words[-1])
    if "%" in words[3] or not words[3].isprintable():
        raise line.error("the header's value must be plain text", words[3])
    once(draft.seen, "http-response set-header", line)
    report.need(Feature.HSTS, line)
    draft.hsts = words[3]


def _acl(draft: FrontendDraft, line: Line, report: Report) -> None:
    report.need(Feature.L7_POLICY, line)
    rule_id = line.words[1] if len(line.words) > 1 else ""
    if rule_id in draft.rules:
        raise line.error("rule given twice", rule_id)
    draft.rules[rule_id] = None  # known, so that a policy that names a refused rule is not an error of its own
    draft.rules[rule_id] = l7.rule(line)


def _http_request(draft: FrontendDraft, line: Line, report: Report) -> None:
    report.need(Feature.L7_POLICY, line)
    _policy(draft, line, l7.deny(line, draft.rules))


def _use_backend(draft: FrontendDraft, line: Line, report: Report) -> None:
    report.need(Feature.L7_POLICY, line)
    if len(line.words) < 2:
        raise line.error("the backend's name is missing", "use_backend")
    pool_id = _own_pool(draft, line, line.words[1])
    _policy(draft, line, l7.use_pool(line, draft.rules, pool_id))


def _policy(draft: FrontendDraft, line: Line, policy: L7Policy) -> None:
    draft.policies.append(policy)
    draft.policy_line = draft.policy_line or line


def _default_backend(draft: FrontendDraft, line: Line, report: Report) -> None:
    once(draft.seen, "default_backend", line)
    word = line.argument("the backend's name")
    if word == EXPORTER_BACKEND:
        report.need(Feature.PROMETHEUS, line)
        draft.is_prometheus = True
        draft.pool_lines[EXPORTER_BACKEND] = line
    else:
        draft.default_pool = _own_pool(draft, line, word)


def _own_pool(draft: FrontendDraft, line: Line, word: str) -> str:
    pool_id, listener_id = backend_name(line, word)
    if listener_id != draft.id:
        raise line.error("the backend belongs to another listener", word)
    draft.pool_lines.setdefault(pool_id, line)
    return pool_id


def _timeout_client(draft: FrontendDraft, line: Line, report: Report) -> None:
    del report
    once(draft.seen, "timeout client", line)
    draft.timeout_client_s = duration_s(line, line.argument("the duration", index=2), "timeout client")


def _inspect_delay(draft: FrontendDraft, line: Line, report: Report) -> None:
    del report
    once(draft.seen, "inspect-delay", line)
    duration_s(line, line.argument("the duration", index=2), "inspect-delay")


def _log_format(draft: FrontendDraft, line: Line, report: Report) -> None:
    once(draft.seen, "log-format", line)
    report.need(Feature.TRAFFIC_LOG, line)
    draft.log_format = line.argument("the format")


_FRONTEND: Final[Mapping[str, Callable[[FrontendDraft, Line, Report], None]]] = {
    "acl": _acl,
    "bind": _bind,
    "default_backend": _default_backend,
    "http-request deny": _http_request,
    "http-response": _hsts,
    "log-format": _log_format,
    "maxconn": _maxconn,
    "mode": _mode,
    "redirect": _redirect,
    "tcp-request inspect-delay": _inspect_delay,
    "timeout client": _timeout_client,
    "use_backend": _use_backend,
}
