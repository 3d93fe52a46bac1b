"""Random policies on random and mutated request heads against the laws of the matcher.

    python -m tests.fuzz.fuzz_matcher --seconds 60 --seed 1

Laws: no crash (run it under the address sanitizer too); a rule and its inversion never agree, overruns aside; what is equal
also starts, ends and contains; the first policy that holds by itself is the chosen one; a Location is prefix, path, query.
"""

from __future__ import annotations

import random
import time

from amphorad.proxy.wire.http1 import parse_request_head
from amphorad.proxy.wire.matcher import Action, Compare, PolicyProgram, PolicyRow, RuleRow, Source
from amphorad.proxy.wire.regex import Regex, RegexError
from tests.fuzz.command import fuzz_as_command
from tests.fuzz.fuzz_http1 import mutate

SEEDS = [
    b"GET /a/b.jpg?c=d HTTP/1.1\r\nHost: www.example.com:8080\r\nCookie: a=b; c=d\r\nX-A: a, b,, \"c,d\"\r\n\r\n",
    b"GET http://h:80/a HTTP/1.1\r\nHost: h\r\nCookie: a=\"b;c\", $d=e; f\r\nCookie: a =  b \r\nX-A:\r\nX-A: a\\\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close, x-a\r\nCookie: =a; ; a=\r\nx-a: \"a\\\",\r\n\r\n",
    b"GET https://h:443 HTTP/1.0\r\nX-A: \"\\\r\nCookie: a=\"\\\r\n\r\n",
]  # fmt: skip
VALUES = [
    b"",
    b"a",
    b"b",
    b"/",
    b"/a",
    b"h",
    b"h:80",
    b"a, b",
    b'"',
    b"c,d",
    b"\\",
    b"www.example.com",
    b"=",
    b".jpg",
    b"d",
    b"close",
]
PATTERNS = [
    b"^a",
    b"a$",
    b"",
    b"[a-z]+",
    b"(a|b)*c",
    b"(a+)+$",
    b"\\.jpg$",
    b"^/(.*)/(.*)$",
    b"(.)\\1",
    b"(?i)A",
    b"\\x00",
    b"[",
]
NAMES = [b"x-a", b"cookie", b"host", b"connection", b"a", b"c", b"f", b""]


def random_rule(rng: random.Random) -> RuleRow:
    compare = rng.choice(list(Compare))
    value = rng.choice(PATTERNS if compare is Compare.REGEX and rng.random() < 0.8 else VALUES)
    if rng.random() < 0.1:
        value += rng.randbytes(rng.randrange(6))
    return RuleRow(
        "r",
        rng.choice(list(Source)),
        compare,
        value,
        rng.choice(NAMES),
        invert=rng.random() < 0.3,
        fold=rng.random() < 0.3,
    )


def is_loadable(rule: RuleRow) -> bool:
    if rule.compare is Compare.REGEX:
        try:
            Regex(rule.value)
        except RegexError:
            return False
    return True


def chosen(policies: list[PolicyRow], request: bytes) -> tuple[int | None, bool]:
    program = PolicyProgram(policies)
    return program.choose(request), bool(program.overruns())


def check_rule(rule: RuleRow, request: bytes) -> None:
    found, overran = chosen([PolicyRow(Action.REJECT, (rule,))], request)
    inverted, _ = chosen([PolicyRow(Action.REJECT, (rule._replace(invert=not rule.invert),))], request)
    assert overran or (found is None) != (inverted is None)
    if rule.compare is Compare.EQUAL and not rule.invert and found == 0:
        for compare in (Compare.START, Compare.END, Compare.PART):
            assert chosen([PolicyRow(Action.REJECT, (rule._replace(compare=compare),))], request)[0] == 0


def check(rng: random.Random, data: bytes) -> None:
    head = parse_request_head(data)
    if head.result != 0:
        return
    rules = [rule for rule in (random_rule(rng) for _ in range(rng.randrange(1, 7))) if is_loadable(rule)]
    for rule in rules:
        check_rule(rule, data)
    policies = [
        PolicyRow(Action.REJECT, tuple(rng.choices(rules, k=rng.randrange(3)) if rules else ())) for _ in range(4)
    ]
    alone = [chosen([policy], data)[0] == 0 for policy in policies]
    assert chosen(policies, data)[0] == (alone.index(True) if True in alone else None)
    location = PolicyProgram([PolicyRow(Action.REDIRECT_PREFIX, (), location=b"http://p")]).location(data)
    path, _, query = head.target.partition(b"?")
    assert location is not None
    if not head.target.startswith(b"*"):
        start = b"" if head.target.startswith(b"/") else path[: path.index(b"/", 8)] if b"/" in path[8:] else path
        tail = head.target[len(start) :]
        assert location == b"http://p" + (tail if tail.startswith(b"/") else b"/" + tail), query


def run(seconds: float, seed: int) -> int:
    """Executions done in `seconds`. A broken law raises, with the input in the message."""
    rng = random.Random(seed)
    stop = time.monotonic() + seconds
    executions = 0
    while time.monotonic() < stop:
        data = mutate(rng, SEEDS)
        try:
            check(rng, data)
        except AssertionError as error:
            raise AssertionError(f"seed={seed} execution={executions} input={data!r}") from error
        executions += 1
    return executions


if __name__ == "__main__":
    fuzz_as_command(__doc__, lambda seconds, seed: f"executions={run(seconds, seed)}")
