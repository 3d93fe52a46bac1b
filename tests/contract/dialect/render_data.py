"""Writes `data/*.cfg`: what release 19.0.0 of the controller renders, for tests and demos without the octavia package.

Run: `python -m tests.contract.dialect.render_data`. The texts are stable, except for the order of expected codes, which
the controller itself leaves open.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.octavia_render import (
    CERT_DIR,
    make_id,
    make_listener,
    make_member,
    make_monitor,
    make_policy,
    make_pool,
    make_rule,
    render_load_balancer,
)

__all__ = ["DATA", "render_all"]

DATA = Path(__file__).parent / "data"
_ALPN = ["h2", "http/1.1", "http/1.0"]
_CIPHERS = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256"


def _members(label: str, count: int, port: int = 8080, **fields: Any) -> list[Any]:
    return [make_member(f"10.1.0.{n}", port, id=make_id(f"{label}-member", n), **fields) for n in range(1, count + 1)]


def _http() -> str:
    members = _members("http", 2)
    members[1].weight = 5
    members.append(make_member("fd00:1::3", 8080, id=make_id("http-member", 3), weight=0, backup=True))
    members.append(make_member("10.1.0.4", 8080, id=make_id("http-member", 4), enabled=False))
    pool = make_pool("HTTP", id=make_id("http-pool", 1), members=members)
    headers = {"X-Forwarded-For": "true", "X-Forwarded-Port": "true", "X-Forwarded-Proto": "true"}
    listener = make_listener(
        "HTTP", 80, id=make_id("http-listener", 1), default_pool=pool, insert_headers=headers, connection_limit=2000
    )
    return render_load_balancer([listener], lb_id=make_id("load-balancer", 1), additional_vips=["fd00::10"])


def _tcp() -> str:
    pool = make_pool("TCP", id=make_id("tcp-pool", 1), members=_members("tcp", 3), algorithm="LEAST_CONNECTIONS")
    other = make_pool("HTTPS", id=make_id("tcp-pool", 2), members=_members("tcp-b", 2, 443), algorithm="SOURCE_IP")
    listeners = [
        make_listener("TCP", 3306, id=make_id("tcp-listener", 1), default_pool=pool, timeout_tcp_inspect=500),
        make_listener("HTTPS", 443, id=make_id("tcp-listener", 2), default_pool=other, timeout_client_data=600_000),
    ]
    return render_load_balancer(listeners, lb_id=make_id("load-balancer", 2))


def _tls() -> str:
    pool = make_pool(
        "HTTP",
        id=make_id("tls-pool", 1),
        members=_members("tls", 2, 8443),
        monitor=make_monitor("HTTPS", url_path="/healthy?a=1&b=2", expected_codes="200-204", http_version=1.1),
        persistence="HTTP_COOKIE",
        tls_enabled=True,
        tls_ciphers=_CIPHERS,
        tls_versions=["TLSv1.2", "TLSv1.3"],
        alpn_protocols=_ALPN,
        ca_tls_certificate_id="ca",
    )
    names = ("X-Forwarded-Proto", "X-SSL-Client-Verify", "X-SSL-Client-DN", "X-SSL-Client-SHA1")
    listener = make_listener(
        "TERMINATED_HTTPS",
        443,
        id=make_id("tls-listener", 1),
        default_pool=pool,
        tls_certificate_id="certificate",
        client_ca_tls_certificate_id="client-ca",
        client_authentication="OPTIONAL",
        tls_ciphers=_CIPHERS,
        tls_versions=["TLSv1.2", "TLSv1.3"],
        alpn_protocols=_ALPN,
        hsts_max_age=31_536_000,
        hsts_include_subdomains=True,
        hsts_preload=True,
        insert_headers=dict.fromkeys(names, "true"),
    )
    certs = {"client-ca": "client_ca.pem", pool.id: {"ca_cert": f"{CERT_DIR}/{make_id('load-balancer', 3)}/ca.pem"}}
    return render_load_balancer([listener], lb_id=make_id("load-balancer", 3), tls_certs=certs)


def _l7() -> str:
    pools = [make_pool("HTTP", id=make_id("l7-pool", n), members=_members(f"l7-{n}", 2)) for n in range(1, 3)]
    number = iter(range(1, 100))

    def rule(kind: str, compare: str, value: str, **fields: Any) -> Any:
        return make_rule(kind, compare, value, id=make_id("l7-rule", next(number)), **fields)

    policies = [
        make_policy("REDIRECT_TO_POOL", [rule("PATH", "STARTS_WITH", "/api")], redirect_pool=pools[1]),
        make_policy(
            "REJECT", [rule("HEADER", "EQUAL_TO", '"q v"', key="X-Why"), rule("COOKIE", "CONTAINS", "a", key="b")]
        ),
        make_policy(
            "REDIRECT_TO_URL",
            [rule("PATH", "REGEX", r"^/re[0-9]{2}\.x$"), rule("FILE_TYPE", "EQUAL_TO", "jpg", invert=True)],
            redirect_url="https://www.example.com/?a=1&b=2#f",
            redirect_http_code=307,
        ),
        make_policy(
            "REDIRECT_PREFIX",
            [rule("HOST_NAME", "ENDS_WITH", ".example.com")],
            redirect_prefix="https://h/?a=1&b",
        ),
    ]
    listener = make_listener("HTTP", 80, id=make_id("l7-listener", 1), default_pool=pools[0], policies=policies)
    return render_load_balancer([listener], lb_id=make_id("load-balancer", 4))


def _standby() -> str:
    pools = [
        make_pool(
            "TCP",
            id=make_id("standby-pool", 1),
            members=_members("standby-1", 2),
            persistence="SOURCE_IP",
            monitor=make_monitor("TCP"),
        ),
        make_pool(
            "HTTP",
            id=make_id("standby-pool", 2),
            members=_members("standby-2", 2, monitor_port=9000),
            persistence="APP_COOKIE",
            cookie_name="JSESSIONID",
            monitor=make_monitor("PING"),
        ),
        make_pool("PROXYV2", id=make_id("standby-pool", 3), members=_members("standby-3", 2)),
    ]
    listeners = [
        make_listener("TCP", 5432, id=make_id("standby-listener", 1), default_pool=pools[0]),
        make_listener("HTTP", 80, id=make_id("standby-listener", 2), default_pool=pools[1]),
        make_listener("TCP", 8000, id=make_id("standby-listener", 3), default_pool=pools[2]),
        make_listener("PROMETHEUS", 8088, id=make_id("standby-listener", 4)),
    ]
    details = {"active_tuned_profiles": "virtual-guest amphora", "cpu_count": 4}
    return render_load_balancer(
        listeners,
        lb_id=make_id("load-balancer", 5),
        topology="ACTIVE_STANDBY",
        amphora_addresses=["fd00::11", "fd00::12"],
        vip="fd00::10",
        amphora_details=details,
    )


def render_all() -> dict[str, str]:
    """File name -> text."""
    return {
        "http.cfg": _http(),
        "tcp.cfg": _tcp(),
        "tls.cfg": _tls(),
        "l7.cfg": _l7(),
        "active_standby.cfg": _standby(),
        "disabled.cfg": render_load_balancer(
            [make_listener("HTTP", 80, id=make_id("disabled", 1))], lb_id=make_id("load-balancer", 6), enabled=False
        ),
    }


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    for file_name, content in render_all().items():
        (DATA / file_name).write_text(content, encoding="utf-8")
