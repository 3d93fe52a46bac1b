"""Nanoseconds to evaluate L7 policies on a parsed head: five rules of five types, each alone and all together.

    python bench/micro/bench_matcher.py

The first run warms up and is not counted. Runs are short, so that the best of many is free of other processes; the
median stands beside it. "five" is the worst case: five policies of one rule each, none of which applies.
"""

from __future__ import annotations

import argparse

from amphorad.proxy.wire.matcher import Action, Compare, PolicyProgram, PolicyRow, RuleRow, Source
from bench.micro.bench_http1 import BROWSER, SMALL

RULES = {
    "host": RuleRow("host", Source.HOST, Compare.EQUAL, b"api.example.com", fold=True),
    "path": RuleRow("path", Source.PATH, Compare.START, b"/admin/"),
    "header": RuleRow("header", Source.HEADER, Compare.EQUAL, b"beta", b"x-channel"),
    "cookie": RuleRow("cookie", Source.COOKIE, Compare.EQUAL, b"blue", b"theme"),
    "regex": RuleRow("regex", Source.PATH, Compare.REGEX, b"^/v[0-9]+/users/[0-9]+$"),
}
RUNS = 301


def main() -> None:
    parser = argparse.ArgumentParser(description="time the L7 policy table")
    parser.add_argument("--rounds", type=int, default=2_000)
    rounds = parser.parse_args().rounds
    cases = {**{name: [rule] for name, rule in RULES.items()}, "five": list(RULES.values())}
    for request_name, request in (("browser", BROWSER), ("small", SMALL)):
        for name, rules in cases.items():
            program = PolicyProgram([PolicyRow(Action.POOL, (rule,)) for rule in rules])
            program.time_choice(request, rounds)
            runs = sorted(program.time_choice(request, rounds) for _ in range(RUNS))
            print(f"{request_name:8} {name:7} {runs[0]:7.1f} ns  (median of {RUNS}: {runs[RUNS // 2]:.1f})")


if __name__ == "__main__":
    main()
