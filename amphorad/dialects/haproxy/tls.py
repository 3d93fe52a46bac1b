"""TLS words that `bind` and `server` lines have in common (Octavia contract section 4.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amphorad.model import TLS_VERSIONS

if TYPE_CHECKING:
    from amphorad.dialects.haproxy.lexer import Line

__all__ = ["VERSION_SWITCHES", "read_options", "versions"]

VERSION_SWITCHES: Final = {
    "no-sslv3": "SSLv3",
    "no-tlsv10": "TLSv1",
    "no-tlsv11": "TLSv1.1",
    "no-tlsv12": "TLSv1.2",
    "no-tlsv13": "TLSv1.3",
}


def read_options(line: Line, start: int, *, flags: frozenset[str], valued: frozenset[str]) -> dict[str, str]:
    """The options from word `start` on: `{option: argument}`, the empty string for a flag.

    The key of a `verify` that follows `check-ssl` is "check verify": it is about the check. HAProxy has one setting for
    both, so that an HTTPS monitor takes the verification of the tenant's traffic away.
    """
    words = line.words
    found: dict[str, str] = {}
    at = start
    while at < len(words):
        word = words[at]
        at += 1
        if word in flags:
            key, argument = word, ""
        elif word in valued:
            if at == len(words):
                raise line.error("the option's value is missing", word)
            key = "check verify" if word == "verify" and words[at - 2] == "check-ssl" else word
            argument = words[at]
            at += 1
        else:
            raise line.error(f"unknown option of {words[0]!r}", word)
        if key in found:
            raise line.error("option given twice", word)
        found[key] = argument
    return found


def versions(line: Line, options: dict[str, str]) -> frozenset[str]:
    """The versions that no switch turns off; there may be holes."""
    left = TLS_VERSIONS.difference(version for switch, version in VERSION_SWITCHES.items() if switch in options)
    if not left:
        raise line.error("every TLS version is switched off", "no-tlsv13")
    return left
