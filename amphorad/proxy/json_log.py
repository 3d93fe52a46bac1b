"""A traffic-log format as JSON lines: the same variables, each a named field (operator's option `traffic_log_json`).

    <134>Nov 21 07:20:01 haproxy[812]: {"text":"project lb","listener":"...","client_address":"10.0.0.7","client_port":4711,...}

What stands between the variables of the format becomes the field `text`. Bytes that JSON or a terminal would trip over are
`#XX`, as in HAProxy's own request lines, so no line has a backslash. A value that there is not is `null`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from amphorad.proxy.log_format import Segment

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["JSON_LINE_LIMIT", "as_json"]

JSON_LINE_LIMIT: Final = 8192
"""Bytes of a line: room for the longest request line with every byte encoded, so that a line is never cut in the middle."""

_QUOTE, _JSON = 1, 8  # LogFlag in wire/log_text.pxd

_NAMES: Final = {
    "B": "bytes_out", "U": "bytes_in", "ST": "status", "ID": "unique_id", "H": "host", "pid": "pid",
    "f": "listener", "ft": "listener_transport", "b": "pool", "s": "member",
    "ci": "client_address", "cp": "client_port", "fi": "listener_address", "fp": "listener_port",
    "bi": "source_address", "bp": "source_port", "si": "member_address", "sp": "member_port",
    "r": "request", "HM": "method", "HU": "uri", "HP": "uri_without_query", "HPO": "path", "HQ": "query", "HV": "version",
    "t": "time", "T": "time_gmt", "Tl": "time_local", "tr": "request_time", "trg": "request_time_gmt",
    "trl": "request_time_local", "Ts": "epoch_s", "ms": "milliseconds",
    "Tt": "total_ms", "Tu": "user_ms", "Ta": "active_ms", "Th": "handshake_ms", "Ti": "idle_ms", "TR": "request_ms",
    "Tq": "request_since_accept_ms", "Tw": "queue_ms", "Tc": "connect_ms", "Tr": "response_ms", "Td": "data_ms",
    "ts": "termination", "tsc": "termination", "rc": "retries",
    "ac": "connections", "fc": "listener_connections", "bc": "pool_connections", "sc": "member_connections",
    "sq": "member_queue", "bq": "pool_queue", "lc": "line_number", "rt": "request_number",
    "sslv": "tls_version", "sslc": "tls_cipher", "[ssl_c_verify]": "client_certificate_verify",
    "[ssl_c_s_dn]": "client_certificate_subject", "[ssl_fc]": "tls", "[ssl_fc_protocol]": "tls_version",
    "[ssl_fc_cipher]": "tls_cipher", "[src]": "client_address", "[src_port]": "client_port",
    "[dst]": "listener_address", "[dst_port]": "listener_port",
}  # fmt: skip
_NUMBERS: Final = frozenset(
    "B U ST pid cp fp bp sp Ts Tt Tu Ta Th Ti TR Tq Tw Tc Tr Td ac fc bc sc sq bq lc rt"
    " [src_port] [dst_port] [ssl_c_verify] [ssl_fc]".split()
)
# Written without quotes by themselves, and no JSON numbers: dates, letters, `+1`, `007`.
_BARE: Final = frozenset("t T Tl tr trg trl ts tsc rc ms H".split())


def as_json(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """The segments of the JSON line that says the same. A variable that occurs again is left out."""
    segments = tuple(segments)
    text = " ".join(word for segment in segments for word in segment.literal.decode(errors="replace").split())
    found = [Segment(b"{" + (b'"text":%b' % _text(text) if text else b""), None, 0)]
    names: set[str] = set()
    for _literal, variable, _flags in segments:
        if variable is None:
            continue
        name = _NAMES.get(variable, variable.strip("[]"))
        if name in names:
            continue
        begin = b"," if names or text else b""
        names.add(name)
        key = begin + _text(name) + b":"
        if variable in _NUMBERS:
            found.append(Segment(key, variable, _JSON))
        elif variable in _BARE:
            found += [Segment(key + b'"', variable, 0), Segment(b'"', None, 0)]
        else:
            found.append(Segment(key, variable, _QUOTE | _JSON))
    found.append(Segment(b"}", None, 0))
    return _joined(found)


def _text(value: str) -> bytes:
    """A JSON string; a program's literals are printed as they are, so it has to be ASCII."""
    return json.dumps(value).encode()


def _joined(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """A literal without a variable goes in front of the next one, because only the last segment may stand alone."""
    joined = []
    literal = b""
    for segment in segments:
        literal += segment.literal
        if segment.variable is not None:
            joined.append(Segment(literal, segment.variable, segment.flags))
            literal = b""
    return (*joined, Segment(literal, None, 0))
