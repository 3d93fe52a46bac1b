"""The L7 policy table (Octavia contract section 4.9): samples, comparisons, AND, order, limits, and a Python oracle."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.proxy.wire.matcher import (
    LOCATION_LIMIT_BYTES,
    VALUE_LIMIT_BYTES,
    Action,
    Compare,
    PolicyError,
    PolicyProgram,
    PolicyRow,
    RuleRow,
    Source,
)


def request(*lines: str, target: str = "/", host: str | None = "h", version: str = "1.1", method: str = "GET") -> bytes:
    hosts = [f"Host: {host}"] if host is not None else []
    return "\r\n".join([f"{method} {target} HTTP/{version}", *hosts, *lines, "", ""]).encode()


def holds(rule: RuleRow, message: bytes) -> bool:
    return PolicyProgram([PolicyRow(Action.REJECT, (rule,))]).choose(message) == 0


def values(source: Source, message: bytes, candidates: list[str], name: str = "", fold: bool = False) -> list[str]:
    """Those of `candidates` that are samples of the request."""
    rules = [RuleRow("r", source, Compare.EQUAL, one.encode(), name.encode(), fold=fold) for one in candidates]
    return [one for one, rule in zip(candidates, rules, strict=True) if holds(rule, message)]


@pytest.mark.parametrize(
    ("compare", "value", "expected"),
    [
        (Compare.EQUAL, b"/a/b", True),
        (Compare.EQUAL, b"/a", False),
        (Compare.EQUAL, b"/a/bc", False),
        (Compare.START, b"/a", True),
        (Compare.START, b"a", False),
        (Compare.START, b"/a/b/", False),
        (Compare.END, b"/b", True),
        (Compare.END, b"/a", False),
        (Compare.PART, b"a/", True),
        (Compare.PART, b"/A", False),
        (Compare.PART, b"b/a", False),
        (Compare.REGEX, b"a.b", True),
        (Compare.REGEX, b"^a", False),
    ],
)
def test_comparison_of_a_path(compare: Compare, value: bytes, expected: bool) -> None:
    for invert in (False, True):
        rule = RuleRow("r", Source.PATH, compare, value, invert=invert)

        assert holds(rule, request(target="/a/b?/c")) is (expected != invert)


@pytest.mark.parametrize("compare", [Compare.EQUAL, Compare.START, Compare.END, Compare.PART, Compare.REGEX])
def test_comparison_without_letter_case(compare: Compare) -> None:
    assert holds(RuleRow("r", Source.HOST, compare, b"Www.Example.COM", fold=True), request(host="wWW.eXample.com"))
    assert not holds(RuleRow("r", Source.HOST, compare, b"Www.Example.ORG", fold=True), request(host="wWW.eXample.com"))


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        ("/", "A:80", "a:80"),
        ("/", "a", "a"),
        ("/", "", ""),
        ("http://a/", "a", "a"),
        ("http://A:80/", "a:80", "a"),
        ("http://a:80", "a", "a"),
        ("http://a:/", "a:", "a"),
        ("http://a:8080/", "a:8080", "a:8080"),
        ("http://a/", "a:80", "a:80"),
        ("https://a:443/", "a", "a"),
        ("https://a:80/", "a:80", "a:80"),
        ("HTTP://[::1]:80/x", "[::1]:80", "[::1]"),
        ("http://[::80]/x", "[::80]", "[::80]"),
    ],
)
def test_host_is_the_field_less_the_port_that_an_absolute_target_need_not_have(
    target: str, host: str, expected: str
) -> None:
    message = request(target=target, host=host)

    assert values(Source.HOST, message, [expected], fold=True) == [expected]


def test_host_of_an_old_request_without_one() -> None:
    anything = RuleRow("r", Source.HOST, Compare.REGEX, b"")

    assert not holds(anything, request(host=None, version="1.0"))
    assert holds(anything._replace(invert=True), request(host=None, version="1.0"))
    assert values(Source.HOST, request(target="http://a:80/", host=None, version="1.0"), ["a"]) == ["a"]


@pytest.mark.parametrize(
    ("target", "method"), [("*", "OPTIONS"), ("http://h", "GET"), ("http://h?q", "GET")], ids=["*", "none", "query"]
)
def test_target_without_a_path_has_none(target: str, method: str) -> None:
    anything = RuleRow("r", Source.PATH, Compare.REGEX, b"")

    assert not holds(anything, request(target=target, method=method))
    assert holds(anything._replace(invert=True), request(target=target, method=method))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["X-A: a"], ["a"]),
        (["x-a: a, b ,\tc"], ["a", "b", "c"]),
        (["X-A: a", "X-AB: b", "X-A: c"], ["a", "c"]),
        (["X-A:"], [""]),
        (["X-A: a,"], ["", "a"]),
        (["X-A: ,a"], ["", "a"]),
        (['X-A: "a,b", c'], ['"a,b"', "c"]),
        (['X-A: "a\\",b", c'], ['"a\\",b"', "c"]),
        (['X-A: "a, c'], ['"a, c']),
        (["X-A: a\\,b"], ["a\\", "b"]),
        ([], []),
    ],
)
def test_header_elements(lines: list[str], expected: list[str]) -> None:
    candidates = ["", '"a\\",b"', '"a,b"', '"a, c', "a", "a\\", "b", "c"]

    assert sorted(values(Source.HEADER, request(*lines), candidates, "X-A")) == sorted(expected)


def test_header_connection_shows_only_what_is_not_for_the_proxy() -> None:
    message = request("Connection: Keep-Alive, x-a, close, upgrade")

    assert values(Source.HEADER, message, ["Keep-Alive", "x-a", "close", "upgrade"], "Connection") == ["x-a"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Cookie: c=a"], ["a"]),
        (["Cookie: d=b; c=a; c=b"], ["a", "b"]),
        (["Cookie: c=a", "Cookie: c=b"], ["a", "b"]),
        (["Cookie: c=a,c=b"], ["a", "b"]),
        (["Cookie:  c = a "], ["a"]),
        (['Cookie: c="a;b"; c=b'], ['"a;b"', "b"]),
        (['Cookie: c="a,b"'], ['"a,b"']),
        (['Cookie: d="a; c=b'], []),
        (["Cookie: C=a; cc=a; $c=a; c"], []),
        (["Cookie: c=; d=a"], [""]),
        (["Cookie: d=a;c="], []),
        (["Cookie: d=a; c="], [""]),
        (["Cookie: c==a"], ["=a"]),
        (["Cookie: =a; ;;c=b"], ["b"]),
        (["Cookie:"], []),
        (["Cookie2: c=a"], []),
    ],
)
def test_cookie_values(lines: list[str], expected: list[str]) -> None:
    candidates = ["", "a", "b", '"a;b"', '"a,b"', "=a", "a;b"]

    assert sorted(values(Source.COOKIE, request(*lines), candidates, "c")) == sorted(expected)


def test_rules_about_tls_have_no_sample() -> None:
    rule = RuleRow("r", Source.NOTHING, Compare.EQUAL, b"True")

    assert not holds(rule, request())
    assert holds(rule._replace(invert=True), request())


def test_rules_are_joined_by_and() -> None:
    yes = RuleRow("y", Source.PATH, Compare.START, b"/")
    no = yes._replace(id="n", invert=True)

    for rules, expected in (((), 0), ((yes, yes), 0), ((yes, no), None), ((no, yes), None)):
        assert PolicyProgram([PolicyRow(Action.REJECT, rules)]).choose(request()) == expected


def test_first_policy_that_applies_is_chosen() -> None:
    rules = [RuleRow("r", Source.PATH, Compare.START, value) for value in (b"/x", b"/a", b"/ab")]
    program = PolicyProgram([PolicyRow(Action.POOL, (rule,), pool=index) for index, rule in enumerate(rules)])

    assert [program.choose(request(target=target)) for target in ("/abc", "/b", "/x")] == [1, None, 0]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/a?b", b"http://x/y/a?b"),
        ("http://h/a?b", b"http://x/y/a?b"),
        ("http://h", b"http://x/y/"),
        ("http://h?q", b"http://x/y/?q"),
        ("*", b"http://x/y/"),
    ],
)
def test_prefix_stands_before_path_and_query(target: str, expected: bytes) -> None:
    program = PolicyProgram([PolicyRow(Action.REDIRECT_PREFIX, (), location=b"http://x/y")])

    assert program.location(request(target=target, method="OPTIONS")) == expected


def test_prefix_slash_adds_nothing() -> None:
    assert PolicyProgram([PolicyRow(Action.REDIRECT_PREFIX, (), location=b"/")]).location(request(target="/a")) == b"/a"


def test_url_is_sent_as_it_is() -> None:
    program = PolicyProgram([PolicyRow(Action.REDIRECT_URL, (), location=b"http://x/%[path]?a&b")])

    assert program.location(request(target="/a")) == b"http://x/%[path]?a&b"


def test_overrun_is_no_match_and_counted() -> None:
    bomb = RuleRow("bomb", Source.PATH, Compare.REGEX, b"^/(a|aa)+$")
    program = PolicyProgram(
        [PolicyRow(Action.REJECT, (bomb,)), PolicyRow(Action.REJECT, (bomb._replace(invert=True),))]
    )

    assert program.overruns() == {}
    assert program.choose(request(target="/" + "a" * 60 + "!")) == 1
    assert program.overruns() == {"bomb": 1}


def test_pattern_that_is_none_is_refused_with_the_rule() -> None:
    with pytest.raises(PolicyError, match="missing closing parenthesis at offset 2") as caught:
        PolicyProgram([PolicyRow(Action.REJECT, (RuleRow("the-rule", Source.PATH, Compare.REGEX, b"(a"),))])

    assert caught.value.rule_id == "the-rule"


def test_texts_beyond_their_limits_are_refused() -> None:
    long = RuleRow("r", Source.PATH, Compare.PART, b"a" * (VALUE_LIMIT_BYTES + 1))
    with pytest.raises(PolicyError, match="4096"):
        PolicyProgram([PolicyRow(Action.REJECT, (long,))])
    with pytest.raises(PolicyError, match="4096"):
        PolicyProgram([PolicyRow(Action.REDIRECT_URL, (), location=b"a" * (LOCATION_LIMIT_BYTES + 1))])


_OPERATIONS = {
    Compare.EQUAL: lambda value, sample: sample == value,
    Compare.START: lambda value, sample: sample.startswith(value),
    Compare.END: lambda value, sample: sample.endswith(value),
    Compare.PART: lambda value, sample: value in sample,
    Compare.REGEX: lambda value, sample: re.search(value, sample) is not None,
}
_texts = st.text("ab.", min_size=1, max_size=4)


@given(
    compare=st.sampled_from(list(_OPERATIONS)),
    value=_texts,
    elements=st.lists(st.text("abAB. ", max_size=5), max_size=4),
    invert=st.booleans(),
)
def test_header_rule_agrees_with_python(compare: Compare, value: str, elements: list[str], invert: bool) -> None:
    lines = ["X-A: " + ",".join(elements)] if elements else []

    found = holds(RuleRow("r", Source.HEADER, compare, value.encode(), b"x-a", invert), request(*lines))

    expected = any(_OPERATIONS[compare](value, element.strip()) for element in elements)
    assert found is (expected != invert)


@given(compare=st.sampled_from(list(_OPERATIONS)), value=_texts, host=st.text("abAB.", max_size=6))
def test_host_rule_agrees_with_python(compare: Compare, value: str, host: str) -> None:
    found = holds(RuleRow("r", Source.HOST, compare, value.encode(), fold=True), request(host=host))

    assert found is _OPERATIONS[compare](value.lower(), host.lower())


@given(
    compare=st.sampled_from(list(_OPERATIONS)),
    value=_texts,
    cookies=st.lists(st.tuples(st.sampled_from(["c", "d"]), st.text("ab.", min_size=1, max_size=4)), max_size=4),
)
def test_cookie_rule_agrees_with_python(compare: Compare, value: str, cookies: list[tuple[str, str]]) -> None:
    lines = ["Cookie: " + "; ".join("=".join(pair) for pair in cookies)] if cookies else []

    found = holds(RuleRow("r", Source.COOKIE, compare, value.encode(), b"c"), request(*lines))

    assert found is any(_OPERATIONS[compare](value, text) for name, text in cookies if name == "c")
