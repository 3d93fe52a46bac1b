"""L7 policies in one rendered file, read by HAProxy and by us: the same choice of pool, the same answers byte for byte
(Octavia contract sections 4.7 and 4.9).

Values keep clear of what the controller's HTML escaping changes, because HAProxy does not undo it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import octavia_render as render
from tests.support.l7_rig import run_both

if TYPE_CHECKING:
    from tests.support.l7_rig import L7Rig

pytestmark = [pytest.mark.haproxy, pytest.mark.timeout(120)]
render.require_octavia()

LISTENERS = 12
REQUESTS = 40

_WORDS = [
    "a",
    "b",
    "ab",
    "/a",
    "/a/b",
    ".jpg",
    "jpg",
    "A",
    "a.b",
    "/",
    "a b",
    "a,b",
    "x=y",
    "a\\b",
    "\\d",
    "%41",
    "é",
    "=",
]
_PATTERNS = [
    "^/a", "a$", "[ab]+", "^a?b$", "(a|b){2}", "\\.(jpg|png)$", "^$", ".*", "a.b", "\\d+", "^[^a]*$", "(?i)A", "x y", "(a)\\.b",
    "é", "\\x61", "^\\w+$", "a{2,}", "(?=a)ab", "[[:alpha:]]$", "\\bab\\b", ",", "=", "^.$", "a|", "\\\\",
]  # fmt: skip
_HOSTS = ["a", "A", "a.b", "ab", "a:80", "a.b:8080", "AB:443", "a:81", "a-b", "127.0.0.1", "[::1]:80", "b", ""]
_PATHS = [
    "/",
    "/a",
    "/A",
    "/a/b",
    "/ab",
    "/a/b.jpg",
    "/zzjpg",
    "/a%20b",
    "/a%41",
    "/b/a",
    "/a,b",
    "/a;x=y",
    "//a",
    "/a.b/",
]
_QUERIES = ["", "?", "?a", "?a=/a/b.jpg", "?x=y&b", "?a?b"]
_ELEMENTS = [
    "a",
    "b",
    "ab",
    "A",
    "a.b",
    "",
    " ",
    "a b",
    '"a,b"',
    '"a',
    'b"',
    '"a\\",b"',
    "a\\b",
    "x=y",
    "\t",
    "%41",
    "12",
    "é",
]
_COOKIES = [
    "c=a", "c=b", "d=a", "C=a", "c=", "c", "=a", "c =a", "c= a ", " c=ab", 'c="a;b"', 'c="a', "$c=a", "c=a=b", "", ";", ",", "c=a,c=b",
    "cc=a", "c=\t", 'd="a, c=b"', "c=a.b", "c=é", "c==", "$Path=/; c=a", 'c="a\\";b"',
]  # fmt: skip
_KINDS = [
    "HOST_NAME",
    "PATH",
    "FILE_TYPE",
    "HEADER",
    "COOKIE",
    "SSL_CONN_HAS_CERT",
    "SSL_VERIFY_RESULT",
    "SSL_DN_FIELD",
]
_COMPARES = ["EQUAL_TO", "STARTS_WITH", "ENDS_WITH", "CONTAINS", "REGEX"]
_KEYS = {
    "HEADER": ["X-A", "x-b", "Host", "Connection", "Cookie"],
    "COOKIE": ["c", "d", "C", "cc"],
    "SSL_DN_FIELD": ["CN"],
}


@st.composite
def _rules(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(_KINDS[:5] * 4 + _KINDS[5:]))
    compare = draw(st.sampled_from(_COMPARES))
    rule: dict[str, Any] = {"kind": kind, "compare": compare, "invert": draw(st.booleans())}
    if kind == "SSL_CONN_HAS_CERT":
        return rule | {"compare": "EQUAL_TO", "value": "True"}
    if kind == "SSL_VERIFY_RESULT":
        return rule | {"compare": "EQUAL_TO", "value": draw(st.sampled_from(["0", "1"]))}
    if kind == "FILE_TYPE":
        rule["compare"] = compare = draw(st.sampled_from(["EQUAL_TO", "REGEX"]))
    if compare == "REGEX":
        rule["value"] = draw(st.sampled_from(_PATTERNS))
    elif kind == "HOST_NAME":
        rule["value"] = draw(st.sampled_from(_HOSTS[:-1]))
    else:
        rule["value"] = draw(st.sampled_from(_WORDS))
    if kind in _KEYS:
        rule["key"] = draw(st.sampled_from(_KEYS[kind]))
    return rule


@st.composite
def _policies(draw: st.DrawFn) -> dict[str, Any]:
    action = draw(st.sampled_from(["REJECT", "REDIRECT_TO_URL", "REDIRECT_PREFIX", "REDIRECT_TO_POOL"]))
    policy: dict[str, Any] = {"action": action, "rules": draw(st.lists(_rules(), min_size=1, max_size=3))}
    if action == "REDIRECT_TO_POOL":
        policy["redirect_pool"] = draw(st.sampled_from(["red", "blue"]))
    elif action != "REJECT":
        policy["redirect_http_code"] = draw(st.sampled_from([None, 301, 302, 303, 307, 308]))
        key = "redirect_url" if action == "REDIRECT_TO_URL" else "redirect_prefix"
        policy[key] = draw(st.sampled_from(["http://x.y/z", "https://x.y:8/?q=%[path]", "https://x.y", "http://é/"]))
    return policy


@st.composite
def _requests(draw: st.DrawFn) -> bytes:
    method, version = (
        draw(st.sampled_from(["GET", "GET", "HEAD", "POST", "OPTIONS"])),
        draw(st.sampled_from(["1.1"] * 5 + ["1.0"])),
    )
    host = draw(st.sampled_from(_HOSTS))
    target = draw(st.sampled_from(_PATHS)) + draw(st.sampled_from(_QUERIES))
    form = draw(st.sampled_from(["origin"] * 6 + ["absolute", "asterisk"]))
    if form == "absolute" and host and "443" not in host:
        target = f"http://{host}{target}" if draw(st.booleans()) else f"HTTP://{host}"
    elif form == "asterisk" and method == "OPTIONS":
        target = "*"
    lines = [f"{method} {target} HTTP/{version}"]
    if version == "1.1" or form == "absolute" or draw(st.booleans()):
        lines.append(f"Host: {host}")
    names = draw(st.lists(st.sampled_from(["X-A", "X-B", "x-a", "X-AB"]), max_size=3))
    elements = st.lists(st.sampled_from(_ELEMENTS), min_size=1, max_size=3)
    lines += [f"{name}: " + ",".join(draw(elements)) for name in names]
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        joint = draw(st.sampled_from(["; ", ";", ", "]))
        lines.append("Cookie: " + joint.join(draw(st.lists(st.sampled_from(_COOKIES), min_size=1, max_size=3))))
    connection = draw(st.sampled_from(["", "", "close", "keep-alive", "keep-alive, x-a"]))
    lines += [f"Connection: {connection}"] if connection else []
    body = b"abc" if method == "POST" else b""
    lines += ["Content-Length: 3"] if body else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def _build(plans: list[list[dict[str, Any]]], pools: dict[str, Any]) -> list[list[Any]]:
    """The plain data as Octavia's data models."""
    return [
        [
            render.make_policy(
                plan["action"],
                [render.make_rule(**rule) for rule in plan["rules"]],
                **{
                    key: pools[value] if key == "redirect_pool" else value
                    for key, value in plan.items()
                    if key not in ("action", "rules") and value is not None
                },
            )
            for plan in listener
        ]
        for listener in plans
    ]


def _differences(rig: L7Rig, count: int, requests: list[bytes]) -> list[tuple[int, bytes, bytes, bytes]]:
    found = []
    for listener in range(count):
        for request in requests:
            ours, theirs = (rig.ask(proxy, listener, request) for proxy in ("amphorad", "haproxy"))
            if ours != theirs:
                found.append((listener, request, ours, theirs))
    return found


def _check(plans: list[list[dict[str, Any]]], requests: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        with run_both(Path(directory), len(plans), lambda pools: _build(plans, pools)) as rig:
            found = _differences(rig, len(plans), requests)
    text = "\n".join(
        f"{plans[at]}\n  {request!r}\n  amphorad {ours!r}\n  haproxy {theirs!r}"
        for at, request, ours, theirs in found[:5]
    )
    assert not found, f"{len(found)} differences, among them\n{text}"


_plans = st.lists(_policies(), min_size=1, max_size=4)


@pytest.mark.slow
@settings(
    max_examples=10,
    derandomize=True,  # a search for what nobody thought of is for people; the suite stays the same from run to run
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    report_multiple_bugs=False,
    phases=[phase for phase in settings.default.phases if phase.name in ("explicit", "reuse", "generate")],
)
@given(
    plans=st.lists(_plans, min_size=LISTENERS, max_size=LISTENERS),
    requests=st.lists(_requests(), min_size=REQUESTS, max_size=REQUESTS),
)
def test_policies_any_rules_and_requests_lead_where_haproxy_leads(
    plans: list[list[dict[str, Any]]], requests: list[bytes]
) -> None:
    _check(plans, requests)


def _single_rule_plans(kind: str) -> list[list[dict[str, Any]]]:
    compares = {"FILE_TYPE": ["EQUAL_TO", "REGEX"]}.get(kind, _COMPARES)
    values = {"HOST_NAME": _HOSTS[:-1]}.get(kind, _WORDS)
    keys = {"HEADER": ["X-A"], "COOKIE": ["c"]}.get(kind, [None])
    return [
        [
            {
                "action": "REDIRECT_TO_POOL",
                "redirect_pool": "red",
                "rules": [{"kind": kind, "compare": compare, "value": value, "key": key, "invert": False}],
            }
        ]
        for key in keys
        for compare in compares
        for value in (_PATTERNS if compare == "REGEX" else values)
    ]


def _wide_requests() -> list[bytes]:
    """Every host, path, header value and cookie of the lists, several at a time in one request."""
    count = max(len(_HOSTS), len(_PATHS), len(_ELEMENTS), len(_COOKIES))
    return [
        (
            f"GET {_PATHS[n % len(_PATHS)]}{_QUERIES[n % len(_QUERIES)]} HTTP/1.1\r\nHost: {_HOSTS[n % len(_HOSTS)]}\r\n"
            f"X-A: {_ELEMENTS[n % len(_ELEMENTS)]}\r\nCookie: {_COOKIES[n]}\r\n\r\n"
        ).encode()
        for n in range(count)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", _KINDS[:5])
def test_rules_every_comparison_and_value_choose_as_haproxy(kind: str) -> None:
    _check(_single_rule_plans(kind), _wide_requests())
