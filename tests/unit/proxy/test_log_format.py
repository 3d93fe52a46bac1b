"""Syntax of log formats; the rules were checked against the parser of HAProxy 2.6."""

from __future__ import annotations

import pytest

from amphorad.proxy.log_format import FACILITIES, Formatter, LogFormatError, Segment, parse


def names(text: str) -> list[str | None]:
    return [segment.variable for segment in parse(text)]


def message(text: str) -> bytes:
    line = Formatter(text, pid=1, host="h").line(client=(b"\x7f\0\0\1", 80), listener=b"L")
    return line.partition(b"]: ")[2]


def test_parse_splits_literals_and_variables() -> None:
    assert parse("a %ci:%cp") == (Segment(b"a ", "ci", 0), Segment(b":", "cp", 0), Segment(b"", None, 0))


def test_parse_empty_text_gives_an_empty_line() -> None:
    assert parse("") == (Segment(b"", None, 0),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a   b  ", b"a b \n"),
        (" %hr  a %hs b", b"a b\n"),
        ("%{+Q}o  %ci", b'"127.0.0.1"\n'),
        ("a\tb\nc", b"a b c\n"),
        ("100%%x", b"100%x\n"),
        ("%_x %] %-ci", b"_x ] -ci\n"),
        ("%ci%cp{x}", b"127.0.0.180{x}\n"),
        ("bell\x07 \x7f", b"bell#07 #7F\n"),
        ("caf\u00e9", "caf\u00e9\n".encode()),
    ],
)
def test_literals_are_written_as_haproxy_does(text: str, expected: bytes) -> None:
    assert message(text) == expected


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("%{+Q}ci", 1),
        ("%{+X}ci", 2),
        ("%{+E}ci", 4),
        ("%{+Q,+X}ci", 3),
        ("%{+Q +X}ci", 3),
        ("%{+Q,-Q}ci", 0),
        ("%{Q}ci", 0),
        ("%{+Z}ci", 0),
        ("%{}ci", 0),
        ("%{+Q,}ci", 1),
        ("%{+Q}o%ci", 1),
        ("%{+Q}o%{-Q}ci", 0),
        ("%{+E}o%{+Q}ci", 5),
    ],
)
def test_parse_flags_add_and_remove(text: str, flags: int) -> None:
    assert parse(text)[0] == Segment(b"", "ci", flags)


def test_parse_flags_of_one_variable_do_not_reach_the_next() -> None:
    assert [segment.flags for segment in parse("%{+Q}ci%cp")] == [1, 0, 0]


def test_parse_sample_expressions_keep_their_brackets() -> None:
    assert names("%[ssl_c_verify]%{+Q}[ssl_c_s_dn]%[req.hdr(a])]%[src, lower]") == [
        "[ssl_c_verify]",
        "[ssl_c_s_dn]",
        "[req.hdr(a])]",
        "[src,lower]",
        None,
    ]


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("%", 0),
        ("a %", 2),
        ("a% b", 1),
        ("%{+Q", 1),
        ("%{+Q}", 1),
        ("%{+Q}%", 1),
        ("%{+Q} ci", 1),
        ("x%[src", 2),
        ("%[]", 1),
        ("%[", 1),
    ],
)
def test_parse_malformed_text_is_refused_with_its_position(text: str, position: int) -> None:
    with pytest.raises(LogFormatError) as caught:
        parse(text)

    assert caught.value.position == position
    assert isinstance(caught.value, ValueError)


def test_formatter_unknown_variables_are_dashes_and_warnings() -> None:
    formatter = Formatter("%nosuch %{+Q}[req.hdr(a)] %nosuch %ci", pid=1)

    line = formatter.line(client=(b"\x01\x02\x03\x04", 5))

    assert line.endswith(b': - "" - 1.2.3.4\n')
    assert [warning.split()[2] for warning in formatter.warnings] == ["%nosuch", "%[req.hdr(a)]"]


@pytest.mark.parametrize(("facility", "priority"), [("local0", 134), ("local1", 142), ("kern", 6), ("cron2", 126)])
def test_formatter_header_has_facility_and_severity_info(facility: str, priority: int) -> None:
    formatter = Formatter("x", facility=facility, tag="program", pid=42)

    line = formatter.line(now_s=0)

    assert line.startswith(b"<%d>" % priority)
    assert line.endswith(b" program[42]: x\n")


def test_formatter_unknown_facility_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown syslog facility"):
        Formatter("x", facility="local8", pid=1)


def test_facilities_are_the_24_of_syslog() -> None:
    assert sorted(FACILITIES.values()) == list(range(24))
