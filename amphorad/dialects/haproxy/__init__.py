"""The haproxy.cfg dialect (Octavia contract section 4): `parse` and `check`.

    lexer       text -> lines of words: comments, quotes, backslashes, HTML entities, size limits
    values      words -> numbers, durations, addresses, cookie names
    report      collects errors, knows which features are carried out
    process     sections `global`, `defaults`, `peers` and the exporter's two fixed sections
    frontend    section `frontend`: a listener, its binds and its TLS options
    l7          `acl` lines, conditions and the actions of L7 policies
    backend     section `backend`: a pool seen from one listener
    server      `server` lines: a member, its check options and its TLS options
    assembly    drafts of sections -> `LoadBalancer`, with all references followed
    parser      the loop over lines and sections

Data goes down that list once. A section's handler table is its grammar: what is not in the table is refused.

Both spellings of the controller are read (release 19.0.0 and the development branch): blanks may repeat, `ciphersuites`
may be absent.

Where this reader differs from HAProxy on purpose (default, `Escaping.INTENT`): the controller HTML-escapes every value,
so the five entities are undone, and `#` starts a comment only at the start of a line. `check-ssl verify none` counts for
the check alone; traffic is verified whenever a CA is given. A monitor address is the whole word, where HAProxy
takes the last group of an IPv6 address for a port. Errors that HAProxy would only warn about (a repeated name,
a repeated bind, a missing CA) are errors.
"""

from amphorad.dialects.haproxy.features import ALL_FEATURES, SUPPORTED, Feature
from amphorad.dialects.haproxy.lexer import MAX_LINE_CHARACTERS, MAX_LINES, MAX_TEXT_BYTES, Escaping
from amphorad.dialects.haproxy.parser import check, decode, parse
from amphorad.dialects.haproxy.report import MAX_ERRORS, MAX_LISTENERS, MAX_MEMBERS, MAX_POOLS

__all__ = [
    "ALL_FEATURES",
    "MAX_ERRORS",
    "MAX_LINES",
    "MAX_LINE_CHARACTERS",
    "MAX_LISTENERS",
    "MAX_MEMBERS",
    "MAX_POOLS",
    "MAX_TEXT_BYTES",
    "SUPPORTED",
    "Escaping",
    "Feature",
    "check",
    "decode",
    "parse",
]
