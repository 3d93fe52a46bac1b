"""L7 rules and policies: `acl` lines, conditions, and the four actions (Octavia contract section 4.9).

A policy's line ends in ` if ID !ID ...`, all joined by AND. A policy without a condition (HAProxy takes it, the
controller never writes it) has no rules and always applies.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from amphorad.dialects.haproxy.lexer import Escaping
from amphorad.dialects.haproxy.values import name, number, token
from amphorad.model import L7Action, L7Compare, L7Policy, L7Rule, L7RuleType

if TYPE_CHECKING:
    from amphorad.dialects.haproxy.lexer import Line

__all__ = ["REDIRECT_CODES", "condition", "deny", "redirect", "rule", "use_pool"]

REDIRECT_CODES: Final = frozenset({301, 302, 303, 307, 308})

_COMPARES: Final = {
    "str": L7Compare.EQUAL_TO,
    "beg": L7Compare.STARTS_WITH,
    "end": L7Compare.ENDS_WITH,
    "sub": L7Compare.CONTAINS,
    "reg": L7Compare.REGEX,
}
_KEYED: Final = re.compile(r"(req\.hdr|req\.cook|ssl_c_s_dn)\((.+)\)\Z", re.DOTALL)
_KEYED_TYPES: Final = {
    "req.hdr": L7RuleType.HEADER,
    "req.cook": L7RuleType.COOKIE,
    "ssl_c_s_dn": L7RuleType.SSL_DN_FIELD,
}
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f]")
_NEVER: Final = "(?!)"


def rule(line: Line) -> L7Rule:
    """The rule of an `acl ID FETCH [-i] [-m HOW] VALUE` line."""
    words = line.words
    if len(words) < 3:
        raise line.error("a rule is written: acl ID FETCH [-i] [-m HOW] VALUE", words[-1])
    rule_id = name(line, words[1], "a rule's id")
    fetch = words[2]
    if fetch == "ssl_c_used":
        if len(words) > 3:
            raise line.error("'ssl_c_used' takes no value", words[3])
        return L7Rule(id=rule_id, type=L7RuleType.SSL_CONN_HAS_CERT, compare=L7Compare.EQUAL_TO, value="True")
    if fetch == "ssl_c_verify":
        if words[3:4] != ["eq"]:
            raise line.error("'ssl_c_verify' is compared with 'eq'", words[-1])
        code = number(line, line.argument("the verify code", index=4), "a verify code", low=0, high=65535)
        return L7Rule(id=rule_id, type=L7RuleType.SSL_VERIFY_RESULT, compare=L7Compare.EQUAL_TO, value=str(code))
    kind, key, at = _fetch(line)
    if words[at : at + 1] == ["-m"] and len(words) > at + 1:  # a lone "-m" can only be the value of a FILE_TYPE rule
        compare = _COMPARES.get(words[at + 1])
        if compare is None:
            raise line.error("a comparison is one of str, beg, end, sub, reg", words[at + 1])
        at += 2
    elif kind is L7RuleType.FILE_TYPE:
        compare = L7Compare.EQUAL_TO
    else:
        raise line.error("the comparison '-m HOW' is missing", words[-1])
    return _with_value(line, at, L7Rule(id=rule_id, type=kind, compare=compare, key=key, value=""))


def _fetch(line: Line) -> tuple[L7RuleType, str | None, int]:
    """What is compared, the header, cookie or DN field it is about, and the index of the next word."""
    fetch = line.words[2]
    if fetch == "path":
        return L7RuleType.PATH, None, 3
    if fetch == "path_end":
        return L7RuleType.FILE_TYPE, None, 3
    if fetch == "req.hdr(host)" and line.words[3:4] == ["-i"]:
        return L7RuleType.HOST_NAME, None, 4
    keyed = _KEYED.match(fetch)
    if keyed is None:
        raise line.error("unknown sample in a rule", fetch)
    return _KEYED_TYPES[keyed[1]], token(line, keyed[2], "a rule's key"), 3


def _with_value(line: Line, at: int, rule: L7Rule) -> L7Rule:
    if line.escaping is Escaping.INTENT:
        return replace(rule, value=line.user_value(at))
    values = line.words[at:]
    if not values:
        # HAProxy takes a rule whose value was cut off by '#', and it never matches.
        return replace(rule, compare=L7Compare.REGEX, value=_NEVER)
    if len(values) > 1:
        raise line.error("more than one value", values[1])
    if values[0].startswith("-"):
        raise line.error("HAProxy reads a value that starts with '-' as an option", values[0])
    return replace(rule, value=values[0])


def condition(line: Line, at: int, rules: dict[str, L7Rule | None]) -> tuple[L7Rule, ...]:
    """The rules named by ` if ID !ID ...` from word `at` on. `rules` holds None for a rule that was refused."""
    words = line.words
    if len(words) == at:
        return ()
    if words[at] != "if":
        raise line.error("a condition starts with 'if'", words[at])
    if len(words) == at + 1:
        raise line.error("the condition names no rule", "if")
    found: list[L7Rule] = []
    for word in words[at + 1 :]:
        rule_id = word.removeprefix("!")
        if rule_id not in rules:
            raise line.error("the condition names an unknown rule", word)
        known = rules[rule_id]
        if known is not None:
            found.append(replace(known, invert=True) if rule_id != word else known)
    return tuple(found)


def deny(line: Line, rules: dict[str, L7Rule | None]) -> L7Policy:
    """`http-request deny if ...`."""
    return L7Policy(action=L7Action.REJECT, rules=condition(line, 2, rules))


def use_pool(line: Line, rules: dict[str, L7Rule | None], pool_id: str) -> L7Policy:
    """`use_backend POOL:LISTENER if ...`; the caller has split the name."""
    return L7Policy(action=L7Action.REDIRECT_TO_POOL, rules=condition(line, 2, rules), redirect_pool=pool_id)


def redirect(line: Line, rules: dict[str, L7Rule | None]) -> L7Policy:
    """`redirect [code N] location|prefix URL if ...`."""
    words = line.words
    at = 1
    code = None
    if words[1:2] == ["code"]:
        code = number(line, words[2] if len(words) > 2 else "", "a redirect code", low=301, high=308)
        if code not in REDIRECT_CODES:
            raise line.error("a redirect code is one of 301, 302, 303, 307, 308", words[2])
        at = 3
    if len(words) < at + 2 or words[at] not in ("location", "prefix"):
        raise line.error("a redirect is written: redirect [code N] location|prefix URL if ...", words[-1])
    url = words[at + 1]
    if _CONTROL.search(url):
        raise line.error("a redirect URL holds a blank or a control character", url)
    found = condition(line, at + 2, rules)
    if words[at] == "location":
        return L7Policy(action=L7Action.REDIRECT_TO_URL, rules=found, redirect_url=url, redirect_code=code)
    return L7Policy(action=L7Action.REDIRECT_PREFIX, rules=found, redirect_prefix=url, redirect_code=code)
