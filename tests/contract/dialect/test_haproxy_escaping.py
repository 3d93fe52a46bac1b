"""Intent mode restores what the user asked for; strict mode reads as HAProxy does (Octavia contract 4.1 and 4.16)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.dialects.haproxy import ALL_FEATURES, Escaping, check, parse
from amphorad.errors import ConfigError
from amphorad.model import L7Compare, L7Policy, L7Rule

_TEXT = """\
frontend l
    bind 10.0.0.10:80
    mode http
{lines}
"""


def _policy(lines: str, escaping: Escaping) -> L7Policy:
    return parse(_TEXT.format(lines=lines), escaping=escaping, features=ALL_FEATURES).listeners[0].policies[0]


def _rule(value: str, escaping: Escaping) -> L7Rule:
    return _policy(f"  acl r path -m str {value}\n  http-request deny if r", escaping).rules[0]


@pytest.mark.parametrize(
    ("text", "intent", "strict"),
    [
        (r"/a\ b\\c", r"/a b\c", r"/a b\c"),
        (r"^/re[0-9]{2}\\.x$", r"^/re[0-9]{2}\.x$", r"^/re[0-9]{2}\.x$"),
        (r"&#34;q\ v&#34;", '"q v"', "&"),
        ("/x#y", "/x#y", "/x"),
        ("/a&amp;b", "/a&b", "/a&amp;b"),
        ("/a&amp;amp;b", "/a&amp;b", "/a&amp;amp;b"),
        ("&lt;&gt;&#39;", "<>'", "&lt;&gt;&"),
        ("&quot;&#35;&nbsp;", "&quot;&#35;&nbsp;", "&quot;&"),
        (r"/end\ ", "/end ", "/end "),
        (r"/end\\", "/end\\", "/end\\"),
        (r"\d+", r"\d+", r"\d+"),
        (r"/a\#b", "/a#b", "/a#b"),
        (r"/\x41\t", "/A\t", "/A\t"),
        ('"/quoted value"', "/quoted value", "/quoted value"),
        (r"'/single \ quoted'", r"/single \ quoted", r"/single \ quoted"),
        (r'"/dou\"ble"', '/dou"ble', '/dou"ble'),
        ("/no\u00a0break\u2028", "/no\u00a0break\u2028", "/no\u00a0break\u2028"),
        ("/trailing   \t ", "/trailing", "/trailing"),
    ],
)
def test_rule_value_in_both_modes(text: str, intent: str, strict: str) -> None:
    assert _rule(text, Escaping.INTENT).value == intent
    assert _rule(text, Escaping.STRICT).value == strict


def test_intent_tab_inside_a_value_is_part_of_it() -> None:
    """The controller escapes blanks but not TABs."""
    assert _rule("a\tb\\ c", Escaping.INTENT).value == "a\tb c"


def test_strict_tab_inside_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="more than one value"):
        _rule("a\tb", Escaping.STRICT)


def test_strict_value_cut_off_completely_never_matches() -> None:
    rule = _rule("#f00", Escaping.STRICT)

    assert (rule.compare, rule.value) == (L7Compare.REGEX, "(?!)")
    assert _rule("#f00", Escaping.INTENT).value == "#f00"


def test_intent_redirect_url_is_literal() -> None:
    line = "  acl r path -m beg /\n  redirect location http://h/\\a\\\\?x=1&amp;b=&#39;#f if r"

    policy = _policy(line, Escaping.INTENT)

    assert policy.redirect_url == "http://h/\\a\\\\?x=1&b='#f"
    assert len(policy.rules) == 1


def test_strict_redirect_with_a_fragment_loses_its_condition() -> None:
    policy = _policy("  acl r path -m beg /\n  redirect location http://h/?a&amp;b#f if r", Escaping.STRICT)

    assert policy.redirect_url == "http://h/?a&amp;b"
    assert policy.rules == ()


def test_strict_control_character_in_a_redirect_url_is_refused() -> None:
    with pytest.raises(ConfigError, match="control character"):
        _policy("  redirect location http://h/\\r\\nSet-Cookie:x", Escaping.STRICT)


def test_strict_value_that_haproxy_reads_as_an_option_is_refused() -> None:
    with pytest.raises(ConfigError, match="as an option"):
        _rule("-i", Escaping.STRICT)
    assert _rule("-i", Escaping.INTENT).value == "-i"


def test_file_type_value_may_look_like_an_option() -> None:
    policy = _policy("  acl r path_end  -m\n  http-request deny if r", Escaping.INTENT)

    assert (policy.rules[0].compare, policy.rules[0].value) == (L7Compare.EQUAL_TO, "-m")


def test_header_name_is_restored() -> None:
    rule = _policy("  acl r req.hdr(a&amp;b&#39;#c) -m str x\n  http-request deny if r", Escaping.INTENT).rules[0]

    assert rule.key == "a&b'#c"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("log-format 'a", "quote is not closed"),
        ('log-format "a', "quote is not closed"),
        (r"log-format \x4", "hexadecimal"),
        (r"log-format \x00", "hexadecimal"),
        (r"log-format \xff", "ASCII"),
    ],
)
def test_malformed_word_is_refused_with_its_line(line: str, message: str) -> None:
    _, errors = check(_TEXT.format(lines=line), features=ALL_FEATURES)

    assert [error.line for error in errors] == [4]
    assert message in str(errors[0])


def _rendered(value: str) -> str:
    """As the controller writes a rule's value: backslashes, blanks, then the five entities."""
    value = value.replace("\\", "\\\\").replace(" ", "\\ ").replace("&", "&amp;")
    return value.replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;").replace("'", "&#39;")


@given(st.text(st.characters(exclude_characters="\n\r\0\t", exclude_categories=["Cs"]), min_size=1))
def test_intent_restores_any_value(value: str) -> None:
    assert _rule(_rendered(value), Escaping.INTENT).value == value
