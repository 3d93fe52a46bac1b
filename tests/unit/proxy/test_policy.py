"""From the model's policies to the engine's table: order by kind, sources, and refusals that name the rule."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from amphorad.errors import ConfigError
from amphorad.model import Bind, L7Action, L7Compare, L7Policy, L7Rule, L7RuleType, Listener, Mode, Pool
from amphorad.proxy.policy import (
    OVERRUN_ALARM_INTERVAL_S,
    ListenerPolicies,
    OverrunWatch,
    compile_policies,
    listener_policies,
    policy_pool_ids,
)
from amphorad.proxy.tls.facts import choose_policy
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from amphorad.proxy.wire.matcher import PolicyProgram

REQUEST = b"GET /a/b.jpg HTTP/1.1\r\nHost: Www.x\r\nX-A: v\r\nCookie: c=v\r\n\r\n"


def rule(kind: str, compare: str = "EQUAL_TO", value: str = "v", **fields: Any) -> L7Rule:
    return L7Rule(id="the-rule", type=L7RuleType[kind], compare=L7Compare[compare], value=value, **fields)


def policy(action: str, *rules: L7Rule, **fields: Any) -> L7Policy:
    return L7Policy(action=L7Action[action], rules=rules, **fields)


def listener(*policies: L7Policy) -> Listener:
    pools = tuple(Pool(id=name, mode=Mode.HTTP) for name in ("p", "q"))
    return Listener(id="l", mode=Mode.HTTP, binds=(Bind(address="127.0.0.1", port=80),), pools=pools, policies=policies)


def location(*policies: L7Policy) -> bytes | None:
    program = compile_policies(listener(*policies))
    assert program is not None
    return program.location(REQUEST)


def is_chosen(*rules: L7Rule) -> bool:
    program = compile_policies(listener(policy("REJECT", *rules)))
    assert program is not None
    return program.choose(REQUEST) == 0


def test_no_policies_make_no_table() -> None:
    assert compile_policies(listener()) is None


def test_policies_are_evaluated_by_kind_then_by_position() -> None:
    to_pool = policy("REDIRECT_TO_POOL", redirect_pool="p")
    prefix = policy("REDIRECT_PREFIX", redirect_prefix="http://p")
    url = policy("REDIRECT_TO_URL", redirect_url="http://u")
    never = policy("REJECT", rule("PATH"))

    assert location(to_pool, prefix, url, never) == b"http://p/a/b.jpg"
    assert location(to_pool, url, prefix) == b"http://u"
    assert location(url, policy("REJECT")) is None


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (rule("HOST_NAME", value="wWw.X"), True),
        (rule("HOST_NAME", "REGEX", "^W{3}"), True),
        (rule("PATH", value="/a/b.jpg"), True),
        (rule("PATH", value="/A/b.jpg"), False),
        (rule("FILE_TYPE", value="jpg"), True),
        (rule("FILE_TYPE", value="a/b"), False),
        (rule("FILE_TYPE", "REGEX", "a.b"), True),
        (rule("HEADER", key="x-A"), True),
        (rule("HEADER", value="V", key="X-A"), False),
        (rule("COOKIE", key="c"), True),
        (rule("COOKIE", key="C"), False),
        (rule("SSL_CONN_HAS_CERT", value="True"), False),
        (rule("SSL_VERIFY_RESULT", value="0"), False),
        (rule("SSL_DN_FIELD", key="CN", compare="REGEX", value=""), False),
    ],
)
def test_rule_types_look_at_their_part_of_the_request(chosen: L7Rule, expected: bool) -> None:
    assert is_chosen(chosen) is expected
    assert (
        is_chosen(L7Rule(**{**{name: getattr(chosen, name) for name in L7Rule.__slots__}, "invert": True}))
        is not expected
    )


def test_pools_are_listed_once_in_the_order_of_the_file() -> None:
    policies = [policy("REDIRECT_TO_POOL", redirect_pool=pool) for pool in ("q", "p", "q")]

    assert policy_pool_ids(listener(*policies)) == ["q", "p"]


def test_pattern_that_pcre2_refuses_is_a_config_error_that_names_rule_and_reason() -> None:
    with pytest.raises(ConfigError, match=r"listener l, L7 rule the-rule: .*missing closing parenthesis") as caught:
        compile_policies(listener(policy("REJECT", rule("PATH", "REGEX", "(a"))))

    assert caught.value.word == "(a"


def test_redirect_with_a_line_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="control character"):
        compile_policies(listener(policy("REDIRECT_TO_URL", redirect_url="http://a\r\nx: y")))


def test_redirect_code_beyond_the_five_is_refused() -> None:
    with pytest.raises(ConfigError, match="304"):
        compile_policies(listener(policy("REDIRECT_TO_URL", redirect_url="http://a", redirect_code=304)))


def test_header_rule_on_host_sees_what_a_host_name_rule_sees() -> None:
    """HAProxy takes a default port off the host of an absolute form, for every look at it."""
    request = b"GET http://A:80/ HTTP/1.1\r\nHost: A:80\r\n\r\n"

    def is_matched(value: str) -> bool:
        program = compile_policies(listener(policy("REJECT", rule("HEADER", value=value, key="Host"))))
        assert program is not None
        return program.choose(request) == 0

    assert is_matched("A")
    assert not is_matched("a")
    assert not is_matched("A:80")


@pytest.mark.parametrize(
    ("wanted", "certificate", "code", "holds"),
    [
        (rule("SSL_CONN_HAS_CERT", value="True"), True, 0, True),
        (rule("SSL_CONN_HAS_CERT", value="True"), False, 0, False),
        (rule("SSL_VERIFY_RESULT", value="0"), False, 0, True),
        (rule("SSL_VERIFY_RESULT", value="10"), True, 10, True),
        (rule("SSL_VERIFY_RESULT", value="10"), True, 0, False),
        (rule("SSL_DN_FIELD", key="cn", value="client"), True, 0, True),
        (rule("SSL_DN_FIELD", key="CN", value="client"), False, 0, False),
        (rule("SSL_DN_FIELD", key="C", compare="REGEX", value="^D"), True, 0, True),
        (rule("SSL_DN_FIELD", key="L", compare="REGEX", value=""), True, 0, False),
    ],
)
def test_rules_about_the_clients_certificate(wanted: L7Rule, certificate: bool, code: int, holds: bool) -> None:
    der = Authority().issue("client").certificate.public_bytes(Encoding.DER) if certificate else None
    for invert in (False, True):
        program = compile_policies(listener(policy("REJECT", replace(wanted, invert=invert))))
        assert program is not None
        assert (choose_policy(program, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", der, verify=code) == 0) is (
            holds != invert
        )


def test_redirect_to_https_comes_after_reject_and_before_other_redirects() -> None:
    away = L7Policy(action=L7Action.REDIRECT_TO_URL, rules=(), redirect_url="http://other")
    program = compile_policies(
        replace(listener(away, policy("REJECT", rule("PATH", value="/no"))), redirect_plain_to_https=True)
    )
    assert program is not None

    def ask(path: bytes) -> tuple[int | None, bytes | None]:
        request = b"GET %b HTTP/1.1\r\nHost: h:8\r\n\r\n" % path
        return program.choose(request), program.location(request)

    assert ask(b"/no") == (0, None)
    assert ask(b"/yes?q") == (1, b"https://h:8/yes?q")
    assert choose_policy(program, b"GET /yes HTTP/1.1\r\nHost: h\r\n\r\n", None) == 2  # over TLS


def test_policies_that_have_not_changed_stay_compiled() -> None:
    first = listener_policies(listener(policy("REJECT")), None)

    assert first is not None
    assert listener_policies(listener(policy("REJECT")), first) is first
    changed = listener_policies(listener(policy("REJECT"), policy("REJECT")), first)
    assert changed is not None
    assert changed.program is not first.program
    assert listener_policies(listener(), first) is None


class Program:
    """Counts what it is told to; stands in for compiled policies."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def overruns(self) -> dict[str, int]:
        return self.counts


def test_overruns_of_a_rule_are_told_of_once_in_a_while() -> None:
    program, watch = Program(), OverrunWatch()
    policies = {"l": ListenerPolicies((), False, cast("PolicyProgram", program))}
    assert watch.look(policies, 100.0) == []

    program.counts["r"] = 2
    assert watch.look(policies, 101.0) == [
        "L7 rule r of listener l: its regular expression was given up beyond a limit and taken as no match (2 times so far)"
    ]
    program.counts["r"] = 3
    assert watch.look(policies, 100.0 + OVERRUN_ALARM_INTERVAL_S) == []
    assert "(3 times so far)" in watch.look(policies, 101.0 + OVERRUN_ALARM_INTERVAL_S)[0]
    assert watch.look(policies, 1000.0) == []  # nothing new


def test_overruns_of_a_listener_that_was_gone_are_told_of_at_once() -> None:
    program, watch = Program(), OverrunWatch()
    policies = {"l": ListenerPolicies((), False, cast("PolicyProgram", program))}
    program.counts["r"] = 1
    watch.look(policies, 100.0)

    watch.keep({"l"})
    assert watch.look(policies, 101.0) == []
    watch.keep({"other"})
    assert len(watch.look(policies, 102.0)) == 1
