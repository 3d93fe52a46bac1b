"""The loop over the lines of a haproxy.cfg, and the public functions of this dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amphorad.dialects.haproxy.assembly import Drafts, assemble
from amphorad.dialects.haproxy.backend import BackendDraft
from amphorad.dialects.haproxy.features import SUPPORTED, Feature
from amphorad.dialects.haproxy.frontend import FrontendDraft, backend_name
from amphorad.dialects.haproxy.lexer import Escaping, check_text, read_lines
from amphorad.dialects.haproxy.process import (
    EXPORTER_BACKEND,
    EXPORTER_FRONTEND,
    PeersDraft,
    exporter_backend,
    exporter_frontend,
)
from amphorad.dialects.haproxy.report import MAX_LISTENERS, MAX_POOLS, Report, once
from amphorad.dialects.haproxy.section import SkippedSection
from amphorad.dialects.haproxy.values import name
from amphorad.errors import ConfigError, NotSupportedYet

if TYPE_CHECKING:
    from collections.abc import Callable

    from amphorad.dialects.haproxy.lexer import Line
    from amphorad.dialects.haproxy.section import Section
    from amphorad.model import LoadBalancer

__all__ = ["check", "decode", "parse"]


def parse(
    text: str,
    *,
    file: str = "<text>",
    escaping: Escaping = Escaping.INTENT,
    features: frozenset[Feature] = SUPPORTED,
) -> LoadBalancer:
    """Read a haproxy.cfg as the Octavia controller renders it.

    Args:
        text: the whole file.
        file: its name, for errors.
        escaping: whether to restore what the user asked for, or to read as HAProxy reads.
        features: what may be used; `SUPPORTED` is what the data plane carries out.

    Raises:
        ConfigError: the first error in the text, by line. Limits: see `lexer` and `report`.
        NotSupportedYet: there is no such error, but a directive needs a feature that is not in `features`.

    Source: Octavia contract section 4.
    """
    model, errors = check(text, file=file, escaping=escaping, features=features)
    if model is None:
        raise next((error for error in errors if not isinstance(error, NotSupportedYet)), errors[0])
    return model


def check(
    text: str,
    *,
    file: str = "<text>",
    escaping: Escaping = Escaping.INTENT,
    features: frozenset[Feature] = SUPPORTED,
) -> tuple[LoadBalancer | None, list[ConfigError]]:
    """Like `parse`, but go on after an error: the model and no errors, or None and the errors in order of lines.

    A missing feature is named once, at its first line. At most `MAX_ERRORS` errors are returned.
    """
    report = Report(file=file, features=features)
    try:
        check_text(text, file=file)
    except ConfigError as error:
        return None, [error]
    drafts = Drafts()
    section: Section | None = None
    seen: dict[str, int] = {}
    for line in read_lines(text, report, escaping=escaping):
        opener = _OPENERS.get(line.words[0])
        try:
            if opener is not None:
                section = SkippedSection()
                section = opener(drafts, seen, line, report)
            elif line.words[0] in _FOREIGN_SECTIONS:
                section = SkippedSection()
                raise line.error("this section is not part of the dialect", line.words[0])
            elif section is None:
                raise line.error("a directive outside of any section", line.words[0])
            else:
                section.read(line, report)
        except ConfigError as error:
            report.errors.append(error)
    if report.is_full:
        return None, report.in_order()
    model = assemble(drafts, text, report)
    return model, report.in_order()


def decode(data: bytes, *, file: str = "<text>") -> str:
    """The text of a configuration file, which is UTF-8.

    Raises:
        ConfigError: it is not, with the line of the first wrong byte.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("the line is not UTF-8", file=file, line=line) from None


def _global(drafts: Drafts, seen: dict[str, int], line: Line, report: Report) -> Section:
    del report
    _no_argument(line)
    once(seen, "global", line)
    return drafts.process


def _defaults(drafts: Drafts, seen: dict[str, int], line: Line, report: Report) -> Section:
    del report
    _no_argument(line)
    once(seen, "defaults", line)
    return drafts.defaults


def _no_argument(line: Line) -> None:
    if len(line.words) > 1:
        raise line.error("this section has no name here", line.words[1])


def _peers(drafts: Drafts, seen: dict[str, int], line: Line, report: Report) -> Section:
    section = PeersDraft(name(line, line.argument("the section's name"), "a section's name"))
    once(seen, "peers", line)
    report.need(Feature.PEERS, line)
    drafts.peers = section
    return section


def _frontend(drafts: Drafts, seen: dict[str, int], line: Line, report: Report) -> Section:
    listener_id = name(line, line.argument("the listener's id"), "a listener's id")
    once(seen, f"frontend {listener_id}", line)
    if listener_id == EXPORTER_FRONTEND:
        return exporter_frontend(line, report)
    if len(drafts.frontends) >= MAX_LISTENERS:
        raise line.error(f"more than {MAX_LISTENERS} listeners")
    draft = drafts.frontends[listener_id] = FrontendDraft(listener_id, line)
    return draft


def _backend(drafts: Drafts, seen: dict[str, int], line: Line, report: Report) -> Section:
    word = line.argument("the backend's name")
    once(seen, f"backend {word}", line)
    if word == EXPORTER_BACKEND:
        drafts.has_exporter = True
        return exporter_backend(line, report)
    pool_id, listener_id = backend_name(line, word)
    if len(drafts.backends) >= MAX_POOLS:
        raise line.error(f"more than {MAX_POOLS} pools")
    draft = drafts.backends[pool_id, listener_id] = BackendDraft(pool_id, listener_id, line)
    return draft


_OPENERS: Final[dict[str, Callable[[Drafts, dict[str, int], Line, Report], Section]]] = {
    "backend": _backend,
    "defaults": _defaults,
    "frontend": _frontend,
    "global": _global,
    "peers": _peers,
}
# Named so that one of them is one error, not one for each of its lines.
_FOREIGN_SECTIONS: Final = frozenset(
    {"cache", "crt-store", "fcgi-app", "http-errors", "listen", "log-forward"}
    | {"mailers", "program", "resolvers", "ring", "traces", "userlist"}
)
