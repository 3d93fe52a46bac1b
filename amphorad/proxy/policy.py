"""L7 policies of the model as rows of the engine's policy table (Octavia contract sections 4.7 and 4.9).

The order of evaluation is by kind, as HAProxy has it whatever the order of the lines: every REJECT first, then `redirect
scheme https if !{ ssl_fc }`, then both other kinds of redirect, then REDIRECT_TO_POOL; inside a kind, the position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from amphorad.errors import ConfigError
from amphorad.model import L7Action, L7Compare, L7RuleType
from amphorad.proxy.wire.matcher import Action, Compare, PolicyError, PolicyProgram, PolicyRow, RuleRow, Source

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from amphorad.model import L7Policy, L7Rule, Listener

__all__ = [
    "DEFAULT_REDIRECT_CODE",
    "ListenerPolicies",
    "OverrunWatch",
    "compile_policies",
    "listener_policies",
    "policy_pool_ids",
]

OVERRUN_ALARM_INTERVAL_S = 60.0  # at most one alarm of a rule in that time
DEFAULT_REDIRECT_CODE: Final = 302
_REDIRECT_CODES: Final = frozenset({301, 302, 303, 307, 308})

_KINDS: Final = {
    L7Action.REJECT: 0,
    L7Action.REDIRECT_TO_URL: 1,
    L7Action.REDIRECT_PREFIX: 1,
    L7Action.REDIRECT_TO_POOL: 2,
}
# Every listener for TERMINATED_HTTPS has it. It is the only redirect of such a one that has no certificate at all: the
# controller then leaves `ssl` out, and HAProxy speaks plain text on the port.
_PLAIN_TO_HTTPS: Final = PolicyRow(
    action=Action.REDIRECT_SCHEME,
    rules=(RuleRow("ssl_fc", Source.TLS, Compare.EQUAL, b"", invert=True),),
    location=b"https://",
)
_ACTIONS: Final = {
    L7Action.REJECT: Action.REJECT,
    L7Action.REDIRECT_TO_URL: Action.REDIRECT_URL,
    L7Action.REDIRECT_PREFIX: Action.REDIRECT_PREFIX,
    L7Action.REDIRECT_TO_POOL: Action.POOL,
}
_SOURCES: Final = {
    L7RuleType.HOST_NAME: Source.HOST,
    L7RuleType.PATH: Source.PATH,
    L7RuleType.FILE_TYPE: Source.PATH,
    L7RuleType.HEADER: Source.HEADER,
    L7RuleType.COOKIE: Source.COOKIE,
    L7RuleType.SSL_CONN_HAS_CERT: Source.CERTIFICATE,
    L7RuleType.SSL_VERIFY_RESULT: Source.VERIFY,
    L7RuleType.SSL_DN_FIELD: Source.SUBJECT,
}
_COMPARES: Final = {
    L7Compare.EQUAL_TO: Compare.EQUAL,
    L7Compare.STARTS_WITH: Compare.START,
    L7Compare.ENDS_WITH: Compare.END,
    L7Compare.CONTAINS: Compare.PART,
    L7Compare.REGEX: Compare.REGEX,
}


@dataclass(frozen=True, slots=True)
class ListenerPolicies:
    """A listener's compiled policies, and what they were made from."""

    policies: tuple[L7Policy, ...]
    redirect_plain_to_https: bool
    program: PolicyProgram


def listener_policies(listener: Listener, known: ListenerPolicies | None) -> ListenerPolicies | None:
    """The listener's policies; `known`, unless they have changed: nothing is compiled again, counts go on. None: it has none.

    Raises:
        ConfigError: as `compile_policies`.
    """
    own = (listener.policies, listener.redirect_plain_to_https)
    if known is not None and (known.policies, known.redirect_plain_to_https) == own:
        return known
    program = compile_policies(listener)
    return ListenerPolicies(*own, program) if program is not None else None


def policy_pool_ids(listener: Listener) -> list[str]:
    """Pools that the listener's policies lead to, each once; `PolicyRow.pool` is an index into it."""
    return list(dict.fromkeys(policy.redirect_pool for policy in listener.policies if policy.redirect_pool is not None))


def compile_policies(listener: Listener) -> PolicyProgram | None:
    """The listener's policies, ready for the engine; None when it has none.

    Raises:
        ConfigError: naming the rule and the reason, for a pattern that PCRE2 refuses or a text beyond its limit.
    """
    if not listener.policies and not listener.redirect_plain_to_https:
        return None
    pools = policy_pool_ids(listener)
    in_order = sorted(listener.policies, key=lambda policy: _KINDS[policy.action])
    try:
        rows = [_policy_row(policy, pools) for policy in in_order]
        if listener.redirect_plain_to_https:
            rows.insert(sum(policy.action is L7Action.REJECT for policy in in_order), _PLAIN_TO_HTTPS)
        return PolicyProgram(rows)
    except PolicyError as error:
        where = f"listener {listener.id}" + (f", L7 rule {error.rule_id}" if error.rule_id else "")
        value = next((rule.value for policy in in_order for rule in policy.rules if rule.id == error.rule_id), None)
        raise ConfigError(f"{where}: {error}", word=value) from error


def _policy_row(policy: L7Policy, pools: list[str]) -> PolicyRow:
    code = policy.redirect_code or DEFAULT_REDIRECT_CODE
    if code not in _REDIRECT_CODES:
        raise PolicyError(f"a redirect code is one of {sorted(_REDIRECT_CODES)}, not {code}")
    location = (policy.redirect_url if policy.action is L7Action.REDIRECT_TO_URL else policy.redirect_prefix) or ""
    if any(character < " " or character == "\x7f" for character in location):
        raise PolicyError("a redirect's URL holds a control character")
    return PolicyRow(
        action=_ACTIONS[policy.action],
        rules=tuple(_rule_row(rule) for rule in policy.rules),
        code=code,
        location=location.encode(),
        pool=pools.index(policy.redirect_pool) if policy.redirect_pool is not None else 0,
    )


def _rule_row(rule: L7Rule) -> RuleRow:
    compare = rule.compare
    # both are `req.hdr(host)` in the file: the same value, without a default port that an absolute form named
    is_host = rule.type is L7RuleType.HEADER and (rule.key or "").lower() == "host"
    if rule.type is L7RuleType.FILE_TYPE and compare is L7Compare.EQUAL_TO:
        compare = L7Compare.ENDS_WITH  # a plain suffix of the path; no dot is added
    return RuleRow(
        id=rule.id,
        source=Source.HOST if is_host else _SOURCES[rule.type],
        compare=_COMPARES[compare],
        value=rule.value.encode(),
        name=(rule.key or "").encode(),
        invert=rule.invert,
        fold=rule.type is L7RuleType.HOST_NAME,
        number=int(rule.value) if rule.type is L7RuleType.SSL_VERIFY_RESULT else 0,
    )


@dataclass(frozen=True, slots=True)
class _Overruns:
    """Searches of an L7 rule that were given up, as last reported."""

    count: int
    alarmed_at: float


class OverrunWatch:
    """Tells of L7 rules whose regular expression was given up beyond a limit, each once a minute at most."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], _Overruns] = {}  # by listener and rule

    def keep(self, listener_ids: Container[str]) -> None:
        """Forgets what was told of other listeners."""
        self._seen = {key: seen for key, seen in self._seen.items() if key[0] in listener_ids}

    def look(self, policies: Mapping[str, ListenerPolicies], now: float) -> list[str]:
        """What is new, as sentences. `policies` by listener."""
        alarms = []
        for listener_id, compiled in policies.items():
            for rule_id, count in compiled.program.overruns().items():
                seen = self._seen.get((listener_id, rule_id))
                if seen is not None and (seen.count == count or now - seen.alarmed_at < OVERRUN_ALARM_INTERVAL_S):
                    continue
                self._seen[listener_id, rule_id] = _Overruns(count, now)
                alarms.append(
                    f"L7 rule {rule_id} of listener {listener_id}: its regular expression was given up beyond a limit "
                    f"and taken as no match ({count} times so far)"
                )
        return alarms
