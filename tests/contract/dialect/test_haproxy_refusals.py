"""Everything that is not in the grammar is refused, with line and word."""

from __future__ import annotations

import re

import pytest

from amphorad.dialects.haproxy import (
    ALL_FEATURES,
    MAX_ERRORS,
    MAX_LINE_CHARACTERS,
    MAX_LISTENERS,
    MAX_MEMBERS,
    MAX_POOLS,
    MAX_TEXT_BYTES,
    Feature,
    check,
    decode,
    parse,
)
from amphorad.errors import ConfigError, NotSupportedYet

_BASE = """\
# Configuration for loadbalancer lb
global
    maxconn 100
defaults
    log global
frontend l
    bind 10.0.0.10:80
    mode http
    default_backend p:l
    timeout client 50000
backend p:l
    mode http
    balance roundrobin
    timeout connect 5000
    timeout server 50000
    server m1 10.0.0.1:80 weight 1
"""
_FRONTEND_END = "    timeout client 50000\n"
_TLS_BIND = "    bind 10.0.0.10:443 ssl crt-list /c"


def _errors(text: str) -> list[tuple[int | None, str]]:
    return [(error.line, str(error)) for error in check(text, file="f", features=ALL_FEATURES)[1]]


def _only_error(text: str) -> ConfigError:
    model, errors = check(text, file="f", features=ALL_FEATURES)
    assert model is None
    assert len(errors) == 1, [str(error) for error in errors]
    with pytest.raises(type(errors[0])):
        parse(text, features=ALL_FEATURES)
    return errors[0]


def test_base_is_fine() -> None:
    assert _errors(_BASE) == []


def _in(section: str, line: str) -> str:
    """`_BASE` with one more line at the end of a section."""
    lines = _BASE.splitlines()
    ends = {"global": 3, "defaults": 5, "frontend": 10, "backend": 16}
    lines.insert(ends[section], f"    {line}")
    return "\n".join(lines) + "\n"


_CASES = [
    # section, line, what the message says
    ("global", "stats socket s mode 0666 level user", "absolute path"),
    ("global", "nbproc 4", "unknown directive in section 'global': 'nbproc'"),
    ("global", "maxconn 5", "given twice (first in line 3)"),
    ("global", "log /run/l", "log SOCKET FACILITY"),
    ("global", "log 127.0.0.1 local0", "unix datagram socket"),
    ("global", "log /run/l local9", "facility"),
    ("global", "log /run/l local0 loud", "severity"),
    ("global", "stats socket /run/s", "stats socket PATH"),
    ("global", "stats timeout 5s", "unknown 'stats' directive"),
    ("global", "nbthread 0", "from 1 to"),
    ("global", "nbthread ٣", "from 1 to"),
    ("global", "cpu-map 1/1 0", "auto:1/1-N"),
    ("global", "cpu-map auto:1/1-3 1-2", "one CPU per thread"),
    ("global", "cpu-map auto:1/1-3 1-3", "does not fit nbthread"),
    ("global", "daemon now", "only 'daemon' is taken"),
    ("global", "tune.ssl.cachesize x", "number"),
    ("defaults", "mode http", "unknown directive"),
    ("defaults", "option redispatch 3", "only 'option redispatch'"),
    ("defaults", "option tcplog", "unknown 'option' directive in section 'defaults': 'tcplog'"),
    ("defaults", "retries -1", "from 0 to 100"),
    ("defaults", "no log", "given twice"),
    ("frontend", "bind", "bind ADDRESS:PORT"),
    ("frontend", "use_backend", "name is missing"),
    ("frontend", "acl r", "acl ID FETCH"),
    ("frontend", "acl r path_end", "value is missing"),
    ("frontend", "acl r path -m str 'a b' c", "more than one value"),
    ("frontend", "acl r req.hdr(a@b) -m str x", "HTTP token"),
    ("frontend", "acl r path -m str a\\ \\x4", "hexadecimal"),
    ("frontend", "frobnicate", "unknown directive in a frontend: 'frobnicate'"),
    ("frontend", "mode tcp", "given twice (first in line 8)"),
    ("frontend", "maxconn 0", "from 1 to"),
    ("frontend", "bind 10.0.0.10:80", "address and port are taken (line 7)"),
    ("frontend", "bind 10.0.0.10", "ADDRESS:PORT"),
    ("frontend", "bind localhost:80", "IPv4 or IPv6 address"),
    ("frontend", "bind *:80", "IPv4 or IPv6 address"),
    ("frontend", "bind 10.0.0.010:80", "IPv4 or IPv6 address"),
    ("frontend", "bind fe80::1%eth0:80", "IPv4 or IPv6 address"),
    ("frontend", "bind 10.0.0.11:0", "port"),
    ("frontend", "bind 10.0.0.11:65536", "port"),
    ("frontend", "bind 10.0.0.11:81 transparent", "unknown option of 'bind': 'transparent'"),
    ("frontend", "bind 10.0.0.11:81 ssl", "needs a crt-list"),
    ("frontend", "bind 10.0.0.11:81 crt-list /c", "needs 'ssl'"),
    ("frontend", "bind 10.0.0.11:81 ssl crt-list /c", "the same TLS options"),
    ("frontend", "bind 10.0.0.11:81 verify required", "needs a ca-file"),
    ("frontend", "bind 10.0.0.11:81 ca-file /c verify maybe", "none, optional, required"),
    ("frontend", "bind 10.0.0.11:81 crl-file /c", "needs a ca-file"),
    ("frontend", "bind 10.0.0.11:81 alpn", "value is missing: 'alpn'"),
    ("frontend", "bind 10.0.0.11:81 alpn h2,h2", "ALPN"),
    ("frontend", "bind 10.0.0.11:81 no-sslv3 no-tlsv10 no-tlsv11 no-tlsv12 no-tlsv13", "every TLS version"),
    ("frontend", "default_backend p:l", "given twice"),
    ("frontend", "use_backend q:l", "no such backend: 'q:l'"),
    ("frontend", "use_backend p:other", "another listener"),
    ("frontend", "use_backend p", "POOL:LISTENER"),
    ("frontend", "timeout client 5", "given twice"),
    ("frontend", "timeout queue 5", "unknown 'timeout' directive in a frontend: 'queue'"),
    ("frontend", "tcp-request inspect-delay 5w", "optional unit"),
    ("frontend", "log-format a b", "unexpected word"),
    ("frontend", "log-format", "missing"),
    ("frontend", "acl r path -m str", "value is missing"),
    ("frontend", "acl r path /x", "comparison '-m HOW' is missing"),
    ("frontend", "acl r path -m len 5", "str, beg, end, sub, reg"),
    ("frontend", "acl r src -m str x", "unknown sample"),
    ("frontend", "acl r path -m str a b", "more than one value"),
    ("frontend", "acl r path -m str a\\ b c", "more than one value"),
    ("frontend", "acl r ssl_c_verify ge 1", "compared with 'eq'"),
    ("frontend", "acl r ssl_c_used x", "takes no value"),
    ("frontend", "http-request deny if r", "unknown rule: 'r'"),
    ("frontend", "http-request deny if", "names no rule"),
    ("frontend", "http-request deny unless r", "starts with 'if'"),
    ("frontend", "http-request set-header A b", "unknown 'http-request' directive"),
    ("frontend", "redirect location", "redirect [code N]"),
    ("frontend", "redirect code 304 location http://h/", "301, 302, 303, 307, 308"),
    ("frontend", "redirect scheme https", "if !{ ssl_fc }"),
    ("frontend", 'http-response set-header X-A "b"', "Strict-Transport-Security"),
    ("frontend", 'http-response set-header Strict-Transport-Security "%[src]"', "plain text"),
    ("frontend", 'http-response set-header Strict-Transport-Security "a', "quote is not closed"),
    ("frontend", 'http-response set-header Strict-Transport-Security "${HOME}"', "environment variables"),
    ("backend", "listen x", "not part of the dialect"),
    ("backend", "compression algo gzip", "unknown directive in a backend: 'compression'"),
    ("backend", "server m2", "server ID ADDRESS:PORT"),
    ("backend", "server m2 10.0.0.2:80 ssl verify maybe", "required or none"),
    ("backend", "server m2 10.0.0.2:80 ssl verify none crl-file /c", "needs a ca-file"),
    ("backend", "stick-table type ipv6 size 10k peers a b", "unexpected word"),
    ("backend", "stick fast on src", "unknown 'stick' directive"),
    ("backend", "option httpchk GET /\x01", "control character"),
    ("backend", "http-request set-header X", "http-request set-header NAME VALUE"),
    ("backend", "http-reuse always", "only 'http-reuse safe'"),
    ("backend", "server m1 10.0.0.2:80 weight 1", "member given twice in this pool: 'm1'"),
    ("backend", "server m2 10.0.0.2", "ADDRESS:PORT"),
    ("backend", "server m2 10.0.0.2:80 weight 257", "from 0 to 256"),
    ("backend", "server m2 10.0.0.2:80 weight -1", "from 0 to 256"),
    ("backend", "server m2 10.0.0.2:80 weight", "value is missing: 'weight'"),
    ("backend", "server m2 10.0.0.2:80 weight 1 weight 2", "option given twice: 'weight'"),
    ("backend", "server m2 10.0.0.2:80 maxconn 5", "unknown option of 'server': 'maxconn'"),
    ("backend", "server m2 10.0.0.2:80 inter 5s", "need 'check'"),
    ("backend", "server m2 10.0.0.2:80 check inter 0", "more than 0"),
    ("backend", "server m2 10.0.0.2:80 check rise 0", "from 1 to"),
    ("backend", "server m2 10.0.0.2:80 check check-ssl", "followed by 'verify none'"),
    ("backend", "server m2 10.0.0.2:80 check check-ssl verify required", "verify none"),
    ("backend", "server m2 10.0.0.2:80 check port 0", "monitor port"),
    ("backend", "server m2 10.0.0.2:80 check addr x", "monitor address"),
    ("backend", "server m2 10.0.0.2:80 ssl verify none", "the same TLS and PROXY options"),
    ("backend", "server m2 10.0.0.2:80 send-proxy", "the same TLS and PROXY options"),
    ("backend", "server m2 10.0.0.2:80 send-proxy send-proxy-v2", "more than one PROXY"),
    ("backend", "server m2 10.0.0.2:80 ssl", "needs a ca-file"),
    ("backend", "server m2 10.0.0.2:80 ca-file /c", "needs 'ssl'"),
    ("backend", "server m2 10.0.0.2:80 ssl verify none sni str(x)", "ssl_fc_sni"),
    ("backend", "stick on src", "needs a stick-table"),
    ("backend", "stick-table type ipv6 size 10k", "never used"),
    ("backend", "stick-table type ip size 10k", "stick-table type"),
    ("backend", "stick-table type ipv6 size 0", "number of entries"),
    ("backend", "stick-table type ipv6 size 10k expire 5m", "unexpected word"),
    ("backend", "cookie SRV insert", "insert indirect nocache"),
    ("backend", "option httpchk", "option httpchk METHOD"),
    ("backend", "option httpchk GET / HTTP/2", "HTTP/1.0 or HTTP/1.1"),
    ("backend", "http-check expect status 200", "rstatus"),
    ("backend", "http-check expect rstatus .*", "200|201"),
    ("backend", "http-check send hdr X-A b", "Host"),
    ("backend", "external-check command /bin/sh", "ping-wrapper"),
    ("backend", "http-request set-header X %[src]", "unknown expression"),
    ("backend", "http-request set-header X:Y http", "HTTP token"),
    ("backend", "load-server-state-from-file local", "global"),
    ("backend", "mode http", "given twice"),
]


@pytest.mark.parametrize(("section", "line", "message"), _CASES, ids=[case[1] for case in _CASES])
def test_parse_line_outside_of_the_grammar_is_refused_with_its_number(section: str, line: str, message: str) -> None:
    error = _only_error(_in(section, line))

    assert message in str(error)
    assert error.line == {"global": 4, "defaults": 6, "frontend": 11, "backend": 17}[section]
    assert error.file == "f"


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("default_backend p:l", "default_backend q:l", 9, "no such backend: 'q:l'"),
        ("\nbackend p:l\n", "\nbackend p:x\n", 11, "belongs to no listener"),
        ("\nbackend p:l\n", "\nbackend p\n", 11, "POOL:LISTENER"),
        ("\nbackend p:l\n", "\nbackend p:l:x\n", 11, "listener's id"),
        ("frontend l\n", "frontend\n", 6, "listener's id is missing"),
        ("frontend l\n", "frontend a b\n", 6, "unexpected word"),
        ("    bind 10.0.0.10:80\n", "", 6, "no bind"),
        ("    mode http\n    balance", "    mode tcp\n    balance", 12, "must be in mode http"),
        ("mode http", "mode health", 8, "the mode is tcp or http"),
        ("balance roundrobin", "balance random", 13, "roundrobin, leastconn, source"),
        ("global\n", "\n", 3, "outside of any section"),
        ("global\n", "global x\n", 2, "no name"),
        ("defaults\n", "global\n", 4, "given twice"),
        ("    maxconn", "\tmaxconn\r", 3, "carriage return"),
        ("maxconn 100", "maxconn 1\0", 3, "NUL"),
    ],
)
def test_parse_edited_text_is_refused_with_line(old: str, new: str, line: int, message: str) -> None:
    assert old in _BASE

    found = _errors(_BASE.replace(old, new, 1))

    assert any(number == line and message in text for number, text in found)


def test_parse_second_frontend_and_backend_of_one_name_are_refused() -> None:
    frontend = "frontend l\n    bind 10.0.0.10:81\n    nonsense is not looked at\n"

    assert [line for line, _ in _errors(_BASE + frontend)] == [17]
    assert [line for line, _ in _errors(_BASE + "backend p:l\n    mode http\n")] == [17]


def test_parse_bind_taken_by_another_listener_in_another_spelling_is_refused() -> None:
    text = _BASE.replace("10.0.0.10:80", "fd00::10:80") + "frontend k\n    bind fd00:0:0::0010:80\n"

    assert _errors(text) == [(18, "f:18: address and port are taken (line 7): 'fd00:0:0::0010:80'")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stick on dst", "takes src"),
        ("stick match req.cook(a)", "table of strings"),
        ("stick match req.hdr(a)", "table of strings"),
        ("stick store-response req.cook(a)", "res.cook(NAME)"),
    ],
)
def test_parse_stick_rule_that_does_not_fit_its_table_is_refused(line: str, message: str) -> None:
    errors = _errors(f"{_BASE}    stick-table type ipv6 size 1k\n    {line}\n")

    assert any(number == 18 and message in text for number, text in errors)


def test_parse_two_kinds_of_persistence_are_refused() -> None:
    cookie = "    cookie SRV insert indirect nocache\n"

    assert "one kind" in _errors(f"{_BASE}    stick-table type ipv6 size 1k\n    stick on src\n{cookie}")[0][1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("peer a", "peer NAME ADDRESS:PORT"),
        ("peer a 10.0.0.1", "ADDRESS:PORT"),
        ("peer a/b 10.0.0.1:1025", "letters"),
        ("bind 10.0.0.1:1025", "unknown directive in section 'peers'"),
        ("peer known 10.0.0.3:1025", "peer given twice"),
    ],
)
def test_parse_malformed_peer_is_refused(line: str, message: str) -> None:
    error = _only_error(f"{_BASE}peers x\n    peer known fd00::1:1025\n    {line}\n")

    assert error.line == 19
    assert message in str(error)


def test_parse_members_with_other_check_options_are_refused() -> None:
    text = _BASE.replace("weight 1", "check inter 5s") + "    server m2 10.0.0.2:80 check inter 6s\n"

    assert "same check options" in _only_error(text).reason


def test_parse_bracketed_address_is_taken() -> None:
    assert parse(_BASE.replace("10.0.0.1:80", "[fd00::1]:80")).listeners[0].pools[0].members[0].address == "fd00::1"


def test_parse_stick_table_of_unknown_peers_is_refused() -> None:
    text = _in("backend", "stick-table type ipv6 size 1k peers nobody") + "    stick on src\n"

    assert _errors(text) == [(17, "f:17: no such peers section: 'nobody'")]


def test_parse_stick_table_twice_is_refused() -> None:
    table = "    stick-table type ipv6 size 1k\n"

    assert _errors(f"{_BASE}{table}    stick on src\n{table}")[0][0] == 19


def test_parse_app_cookie_that_matches_another_cookie_is_refused() -> None:
    stick = "    stick store-response res.cook(a)\n    stick match req.cook(b)\n"

    assert "must be one" in _errors(f"{_BASE}    stick-table type string len 64 size 1k\n{stick}")[0][1]


def test_parse_l7_policy_on_a_tcp_listener_is_refused() -> None:
    text = _BASE.replace("mode http", "mode tcp").replace(_FRONTEND_END, _FRONTEND_END + "    http-request deny\n")

    assert "mode http" in _errors(text)[0][1]


def test_parse_use_backend_of_a_missing_backend_is_refused_at_its_line() -> None:
    text = _BASE.replace(_FRONTEND_END, "    acl a path -m beg /\n    use_backend x:l if a\n" + _FRONTEND_END)

    assert _errors(text) == [(11, "f:11: no such backend: 'x:l'")]


def test_parse_prometheus_listener_without_the_exporter_is_refused() -> None:
    text = _BASE.replace("default_backend p:l", "default_backend prometheus-exporter-internal")

    assert [line for line, _ in _errors(text)] == [9]


def test_parse_changed_exporter_section_is_refused() -> None:
    text = _BASE + "backend prometheus-exporter-internal\n    server evil 127.0.0.1:22\n"

    assert "not part of the exporter's backend" in _errors(text)[0][1]


def test_check_goes_on_after_an_error() -> None:
    text = (
        _BASE.replace("maxconn 100", "maxconn x").replace("balance roundrobin", "balance x").replace("weight 1", "w 1")
    )

    assert [line for line, _ in _errors(text)] == [3, 13, 16]


def test_check_unknown_section_is_one_error() -> None:
    text = _BASE + "listen x\n    bind 10.0.0.1:1\n    frobnicate\n"

    assert [line for line, _ in _errors(text)] == [17]


def test_check_refused_rule_is_no_second_error_in_its_policy() -> None:
    text = _BASE.replace(_FRONTEND_END, "    acl a src -m str x\n    http-request deny if a\n")

    assert [line for line, _ in _errors(text)] == [10]


def test_check_many_errors_are_cut() -> None:
    assert len(_errors(_BASE + "    nonsense\n" * 5000)) == MAX_ERRORS
    assert len(_errors(_BASE + "    'nonsense\n" * 5000)) == MAX_ERRORS


def test_check_long_word_is_cut_in_the_message() -> None:
    assert len(_errors(_in("backend", "x" * 10_000))[0][1]) < 300


def test_parse_reports_a_mistake_before_a_missing_feature() -> None:
    text = _in("frontend", "acl r path -m beg /").replace("balance roundrobin", "balance x")

    with pytest.raises(ConfigError) as caught:
        parse(text, features=frozenset())
    assert not isinstance(caught.value, NotSupportedYet)


@pytest.mark.parametrize(
    ("line", "feature"),
    [
        ("log-format x", Feature.TRAFFIC_LOG),
        ("redirect scheme https if !{ ssl_fc }", Feature.TLS_LISTENER),
        ('http-response set-header Strict-Transport-Security "max-age=1;"', Feature.HSTS),
        ("acl r path -m beg /", Feature.L7_POLICY),
    ],
)
def test_parse_directive_of_a_missing_feature_is_not_supported_yet(line: str, feature: Feature) -> None:
    text = _in("frontend", line)

    with pytest.raises(NotSupportedYet) as caught:
        parse(text, features=ALL_FEATURES - {feature})
    assert caught.value.line == 11
    assert feature.value in caught.value.reason
    assert check(text, features=frozenset({feature}))[1] == []


def test_parse_http_pool_under_tcp_listener_is_a_feature() -> None:
    text = _BASE.replace("mode http", "mode tcp", 1)

    with pytest.raises(NotSupportedYet) as caught:
        parse(text, features=ALL_FEATURES - {Feature.HTTP_POOL_ON_TCP_LISTENER})
    assert caught.value.line == 12


@pytest.mark.parametrize(
    ("word", "feature"),
    [
        ("send-proxy", Feature.PROXY_PROTOCOL),
        ("send-proxy-v2", Feature.PROXY_PROTOCOL),
        ("send-proxy-v2-ssl-cn", Feature.PROXY_PROTOCOL_TLS),
    ],
)
def test_parse_proxy_header_that_tells_of_tls_is_a_feature_of_its_own(word: str, feature: Feature) -> None:
    text = re.sub(r"(?m)^( +server .*)$", rf"\1 {word}", _BASE)
    assert word in text

    with pytest.raises(NotSupportedYet) as caught:
        parse(text, features=ALL_FEATURES - {feature})
    assert feature.value in caught.value.reason
    assert check(text, features=frozenset({feature}))[1] == []


def test_parse_text_beyond_a_limit_is_refused() -> None:
    filler = "#" + "x" * 1000 + "\n"

    assert "16777216 bytes" in _errors(filler * (MAX_TEXT_BYTES // len(filler) + 1))[0][1]
    assert "lines" in _errors("\n" * 600_000)[0][1]
    assert "65536 characters" in _only_error(_in("backend", "server " + "x" * MAX_LINE_CHARACTERS)).reason
    assert "bytes" in _errors("é" * (MAX_TEXT_BYTES // 2 + 1))[0][1]


def test_parse_too_many_objects_are_refused() -> None:
    members = "".join(f"    server x{n} 10.0.0.1:80\n" for n in range(MAX_MEMBERS))
    listeners = "".join(f"frontend f{n}\nbind 10.0.0.1:{n + 1}\n" for n in range(MAX_LISTENERS + 1))
    pools = "".join(f"backend p{n}:f0\n" for n in range(MAX_POOLS + 1))

    assert any("members" in text for _, text in _errors(_BASE + members))
    assert any("listeners" in text for _, text in _errors(listeners))
    assert any("pools" in text for _, text in _errors("frontend f0\n    bind 10.0.0.1:1\n" + pools))


def test_decode_of_other_bytes_names_the_line() -> None:
    assert decode("a\né".encode()) == "a\né"
    with pytest.raises(ConfigError) as caught:
        decode(b"a\nb\n\xff\n", file="f")
    assert caught.value.line == 3


def test_parse_comments_blank_lines_and_tabs_are_fine() -> None:
    text = _BASE.replace("    mode", "\t mode\t").replace(
        "defaults\n", "\n \t\n   # an operator's note: it's \"fine\n#\ndefaults\n"
    )

    assert parse(text, features=frozenset()) == parse(_BASE, features=frozenset())


def test_parse_id_comes_from_title_or_socket_or_is_local() -> None:
    body = _BASE.partition("\n")[2]
    socket = body.replace("    maxconn 100", "    stats socket /var/lib/octavia/abc.sock mode 0666 level user")

    assert parse(_BASE).id == "lb"
    assert parse(socket).id == "abc"
    assert parse(body).id == "local"


@pytest.mark.parametrize(
    ("word", "seconds"),
    [
        ("1", 0.001),
        ("2500", 2.5),
        ("250us", 0.00025),
        ("7ms", 0.007),
        ("7s", 7.0),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
    ],
)
def test_parse_timeout_units_become_seconds(word: str, seconds: float) -> None:
    listener = parse(_BASE.replace("timeout client 50000", f"timeout client {word}")).listeners[0]

    assert listener.timeout_client_s == seconds


@pytest.mark.parametrize("word", ["0", "0s", "-1", "1.5s", "1 s", "1w", "1S", "2147483648", "25d", "1_0", "+1", "٣"])
def test_parse_timeout_that_is_none_is_refused(word: str) -> None:
    assert _errors(_BASE.replace("timeout client 50000", f"timeout client {word}"))[0][0] == 10


def test_parse_no_log_drops_the_traffic_log() -> None:
    text = _in("frontend", "log-format x")

    assert parse(text).listeners[0].log_format == "x"
    assert parse(text.replace("log global", "no log")).listeners[0].log_format is None


def test_parse_tls_words_without_ssl_leave_plain_text() -> None:
    """A listener with SNI certificates only is rendered without `ssl` (Octavia contract section 4.8)."""
    options = " ca-file /ca verify required no-sslv3 alpn h2"

    assert parse(_BASE.replace("10.0.0.10:80", "10.0.0.10:80" + options)).listeners[0].tls is None


def test_parse_tls_versions_may_leave_a_hole() -> None:
    text = _BASE.replace("    bind 10.0.0.10:80", f"{_TLS_BIND} no-sslv3 no-tlsv10 no-tlsv12")

    tls = parse(text, features=ALL_FEATURES).listeners[0].tls

    assert tls is not None
    assert tls.versions == {"TLSv1.1", "TLSv1.3"}


@pytest.mark.parametrize(
    ("options", "verify"),
    [
        ("ssl verify none", False),
        ("ssl ca-file /ca", True),
        ("ssl ca-file /ca crl-file /crl verify required", True),
        ("check check-ssl verify none ssl ca-file /ca", True),
        ("check check-ssl verify none ssl verify none", False),
    ],
)
def test_parse_member_verification_defaults_to_required_with_a_ca(options: str, verify: bool) -> None:
    """The check's own `verify none` is not the traffic's (Octavia contract section 4.10.4)."""
    pool = parse(_BASE.replace("weight 1", options), features=ALL_FEATURES).listeners[0].pools[0]

    assert pool.tls is not None
    assert pool.tls.verify is verify


@pytest.mark.parametrize(
    ("lines", "options", "kind"),
    [
        ("", "check", "TCP"),
        ("", "check ssl verify none", "TLS-HELLO"),
        ("option httpchk GET /", "check", "HTTP"),
        ("option httpchk GET /", "check ssl verify none", "HTTP"),
        ("option httpchk GET /", "check check-ssl verify none", "HTTPS"),
        ("option external-check", "check ssl verify none", "PING"),
    ],
)
def test_parse_monitor_type_follows_the_pools_tls(lines: str, options: str, kind: str) -> None:
    text = _BASE.replace("    server m1 10.0.0.1:80 weight 1", f"    {lines}\n    server m1 10.0.0.1:80 {options}")

    monitor = parse(text, features=ALL_FEATURES).listeners[0].pools[0].health_monitor

    assert monitor is not None
    assert monitor.type == kind
    assert (monitor.interval_s, monitor.timeout_s, monitor.rise, monitor.fall) == (2.0, 2.0, 2, 3)


def test_parse_cookie_persistence_of_a_tcp_pool_is_ignored() -> None:
    text = _in("backend", "cookie SRV insert indirect nocache").replace("mode http", "mode tcp")

    assert parse(text, features=ALL_FEATURES).listeners[0].pools[0].persistence is None
