"""The rendered texts kept in `data/`, which tests and demos use without the octavia package."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from amphorad.dialects.haproxy import ALL_FEATURES, SUPPORTED, Feature, check, parse
from amphorad.errors import NotSupportedYet
from amphorad.model import (
    AppCookie,
    ClientAuthentication,
    HealthMonitorType,
    HttpCookie,
    L7Action,
    LoadBalancer,
    Mode,
    ProxyProtocol,
    SourceIp,
)
from amphorad.plan import compare
from tests.contract.dialect.render_data import DATA, render_all
from tests.support.octavia_render import require_octavia

if TYPE_CHECKING:
    from pathlib import Path

_FILES = sorted(path.name for path in DATA.glob("*.cfg"))
_PLAIN = ("disabled.cfg", "http.cfg", "tcp.cfg")


def _read(name: str) -> str:
    return (DATA / name).read_text(encoding="utf-8")


def _parse(name: str) -> LoadBalancer:
    return parse(_read(name), file=name, features=ALL_FEATURES)


def test_data_is_complete() -> None:
    assert len(_FILES) == 6


@pytest.mark.parametrize("name", _FILES)
@pytest.mark.timeout(120)  # the first import of octavia takes ten seconds on a busy machine
def test_data_is_what_the_installed_renderer_writes(name: str) -> None:
    require_octavia()

    def settled(text: str) -> str:
        return re.sub(r"rstatus (\S+)", lambda match: "rstatus " + "|".join(sorted(match[1].split("|"))), text)

    assert settled(_read(name)) == settled(render_all()[name])


@pytest.mark.parametrize("name", _PLAIN)
def test_parse_plain_load_balancers_needs_no_feature_but_the_log(name: str) -> None:
    assert SUPPORTED >= {Feature.TRAFFIC_LOG}
    assert parse(_read(name), features=frozenset({Feature.TRAFFIC_LOG})) == _parse(name)


@pytest.mark.parametrize(
    ("name", "features"),
    [
        (
            "tls.cfg",
            {
                Feature.TLS_LISTENER,
                Feature.TLS_CLIENT_AUTHENTICATION,
                Feature.TLS_HEADER_INSERTION,
                Feature.HSTS,
                Feature.TLS_MEMBER,
                Feature.HEALTH_MONITOR,
                Feature.TLS_MONITOR,
                Feature.HTTP_COOKIE,
            },
        ),
        ("l7.cfg", {Feature.L7_POLICY}),
        (
            "active_standby.cfg",
            {
                Feature.PEERS,
                Feature.PROMETHEUS,
                Feature.SOURCE_IP_PERSISTENCE,
                Feature.APP_COOKIE,
                Feature.HEALTH_MONITOR,
                Feature.PING_MONITOR,
                Feature.PROXY_PROTOCOL,
            },
        ),
    ],
)
def test_check_names_each_missing_feature_once(name: str, features: set[Feature]) -> None:
    model, errors = check(_read(name), features=frozenset({Feature.TRAFFIC_LOG}))

    assert model is None
    assert all(isinstance(error, NotSupportedYet) and error.line for error in errors)
    assert {error.reason.removesuffix(": not supported yet") for error in errors} == {one.value for one in features}
    assert len(errors) == len(features)
    assert check(_read(name), features=ALL_FEATURES - frozenset(features))[1] != []
    assert check(_read(name), features=frozenset(features | {Feature.TRAFFIC_LOG}))[1] == []


def test_parse_http_gives_members_and_headers() -> None:
    balancer = _parse("http.cfg")

    listener = balancer.listeners[0]
    pool = listener.pools[0]
    assert [str(bind) for bind in listener.binds] == ["10.0.0.10:80", "[fd00::10]:80"]
    assert listener.connection_limit == balancer.connection_limit == 2000
    assert [(one.weight, one.backup, one.admin_state_up) for one in pool.members] == [
        (1, False, True),
        (5, False, True),
        (0, True, True),
        (1, False, False),
    ]
    assert pool.members[2].address == "fd00:1::3"
    assert pool.forwarded_for
    assert {one.name: one.value for one in pool.header_insertions} == {
        "X-Forwarded-Port": "%[dst_port]",
        "X-Forwarded-Proto": "http",
    }
    assert listener.log_format is not None
    assert listener.log_format.endswith("%b %s %Tt %tsc")


def test_parse_tcp_gives_seconds() -> None:
    listeners = _parse("tcp.cfg").listeners

    assert [listener.mode for listener in listeners] == [Mode.TCP, Mode.TCP]
    assert [listener.timeout_client_s for listener in listeners] == [50.0, 600.0]


def test_parse_tls_verifies_traffic_although_the_check_does_not() -> None:
    listener = _parse("tls.cfg").listeners[0]

    pool = listener.pools[0]
    assert listener.tls is not None
    assert listener.tls.client_authentication is ClientAuthentication.OPTIONAL
    assert listener.hsts == "max-age=31536000; includeSubDomains; preload;"
    assert pool.tls is not None
    assert pool.tls.verify
    assert pool.tls.alpn == ("h2", "http/1.1", "http/1.0")
    assert isinstance(pool.persistence, HttpCookie)
    assert pool.health_monitor is not None
    assert pool.health_monitor.type is HealthMonitorType.HTTPS
    assert pool.health_monitor.url_path == "/healthy?a=1&b=2"


def test_parse_l7_keeps_file_order_and_the_users_values() -> None:
    policies = _parse("l7.cfg").listeners[0].policies

    assert [policy.action for policy in policies] == [
        L7Action.REDIRECT_TO_POOL,
        L7Action.REJECT,
        L7Action.REDIRECT_TO_URL,
        L7Action.REDIRECT_PREFIX,
    ]
    assert policies[1].rules[0].value == '"q v"'
    assert policies[2].redirect_url == "https://www.example.com/?a=1&b=2#f"
    assert [rule.value for rule in policies[2].rules] == [r"^/re[0-9]{2}\.x$", "jpg"]
    assert policies[2].rules[1].invert


def test_parse_active_standby_gives_peers_persistence_and_threads() -> None:
    balancer = _parse("active_standby.cfg")

    assert [(peer.address, peer.port) for peer in balancer.peers] == [("fd00::11", 1025), ("fd00::12", 1025)]
    assert balancer.threads == 3
    assert balancer.thread_cpus == (1, 2, 3)
    assert [listener.pools[0].persistence for listener in balancer.listeners[:2]] == [
        SourceIp(size=10240, replicated=True),
        AppCookie(name="JSESSIONID", size=10240, value_limit=64, replicated=True),
    ]
    assert balancer.listeners[2].pools[0].proxy_protocol is ProxyProtocol.V2
    assert balancer.listeners[3].is_prometheus
    assert balancer.listeners[3].pools == ()


def test_parse_disabled_load_balancer_listens_on_nothing() -> None:
    assert _parse("disabled.cfg").listeners == ()


def test_parse_another_order_of_expected_codes_is_the_same_monitor() -> None:
    text = _read("tls.cfg")
    match = re.search(r"rstatus (\S+)", text)
    assert match is not None
    turned = text.replace(match[1], "|".join(reversed(match[1].split("|"))))

    plan = compare(parse(text, features=ALL_FEATURES), parse(turned, features=ALL_FEATURES))

    assert turned != text
    assert plan.is_empty


def test_parse_spelling_of_the_development_branch_is_read_alike() -> None:
    """Runs of blanks between bind options, and one cipher string (Octavia contract appendix B)."""
    text = _read("tls.cfg")
    clone = text.replace(" ciphers ", "   ciphers ").replace(" no-sslv3", "    no-sslv3").replace(" verify", "  verify")
    clone = re.sub(r"(ciphers \S+) ciphersuites (\S+)", r"\1:\2", clone)

    tls = parse(clone, features=ALL_FEATURES).listeners[0].tls

    assert "ciphersuites" not in clone
    assert tls is not None
    assert tls.ciphers is not None
    assert tls.ciphers.endswith(":TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384")
    assert tls.ciphersuites is None


def test_parse_a_thousand_members_is_quick() -> None:
    """Fifty listeners with twenty members take about 25 ms; the bound only catches a change of order."""
    head, _, body = _read("http.cfg").partition("frontend ")
    texts = []
    for number in range(50):
        part = ("frontend " + body).replace("-", f"-{number}", 1).replace(":80\n", f":{number + 1}\n")
        ids = re.findall(r"^(?:frontend|backend) (\S+)$", part, re.MULTILINE)
        listener, backend = ids
        part = part.replace(backend.rpartition(":")[2], listener)
        member = re.search(r"^    server .*$", part, re.MULTILINE)
        assert member is not None
        texts.append(part + "".join(member[0].replace("server ", f"server {n}") + "\n" for n in range(16)))
    text = head + "".join(texts)

    started = time.process_time()
    balancer = parse(text, features=ALL_FEATURES)
    elapsed = time.process_time() - started

    assert sum(len(pool.members) for listener in balancer.listeners for pool in listener.pools) == 1000
    assert elapsed < 1.0


@pytest.mark.haproxy
@pytest.mark.parametrize("name", [name for name in _FILES if name != "tls.cfg"])  # its certificate files do not exist
def test_data_is_valid_for_haproxy(name: str, tmp_path: Path) -> None:
    program = shutil.which("haproxy")
    if program is None:
        pytest.skip("no haproxy program")
    (tmp_path / name).write_text(_read(name), encoding="utf-8")

    found = subprocess.run(
        [program, "-c", "-f", tmp_path / name], capture_output=True, text=True, timeout=10, check=False
    )

    assert found.returncode == 0, found.stderr
