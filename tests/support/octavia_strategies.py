"""Hypothesis strategies for what a tenant may ask Octavia for, as the data models that its templates render.

Values are odd on purpose (quotes, entities, `#`, backslashes, blanks, TABs, text of other scripts) but only as odd as the
API lets through. A TAB at the ends of a rule's value is left out: the text does not tell it from indentation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.support import octavia_render as render

__all__ = ["Request", "requests"]

_ODD = "ab/.-_?=&<>\"'#\\ \t;%$!{}()[]|*é\u00a0\u2028x0n"
_TOKEN = "ABCxyz019-_.!#$&'*+^`|~"
_CIPHERS = ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305", "AES128-GCM-SHA256"]
_SUITES = ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"]
_VERSIONS = ["SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]
_HEADERS = ["X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto"]
_SSL_HEADERS = [
    "X-SSL-Client-Verify",
    "X-SSL-Client-Has-Cert",
    "X-SSL-Client-DN",
    "X-SSL-Client-CN",
    "X-SSL-Issuer",
    "X-SSL-Client-SHA1",
    "X-SSL-Client-Not-Before",
    "X-SSL-Client-Not-After",
]
_POOL_PROTOCOLS = {
    "TCP": ["HTTP", "HTTPS", "PROXY", "PROXYV2", "TCP"],
    "HTTP": ["HTTP", "PROXY", "PROXYV2"],
    "HTTPS": ["HTTPS", "PROXY", "PROXYV2", "TCP"],
    "TERMINATED_HTTPS": ["HTTP", "PROXY", "PROXYV2"],
}


@dataclass
class Request:
    """One load balancer: the data models, and the keywords to render it with."""

    listeners: list[Any]
    keywords: dict[str, Any] = field(default_factory=dict)

    def render(self) -> str:
        return render.render_load_balancer(self.listeners, **self.keywords)


_addresses = st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str))
_ports = st.integers(1, 65535)
_tokens = st.text(_TOKEN, min_size=1, max_size=12)
_values = st.text(_ODD, min_size=1, max_size=20).filter(lambda value: value == value.strip("\t"))
_plain_values = st.text(_ODD.replace("\t", ""), min_size=1, max_size=20)
_url_tails = st.text(_ODD.replace("\t", "").replace(" ", "").replace("\u00a0", "\u3042"), max_size=20)
_milliseconds = st.one_of(st.none(), st.integers(1, 24 * 24 * 3600 * 1000))

_uuids = st.uuids().map(str)
_booleans = st.booleans()
_maybe_addresses = st.none() | _addresses
_maybe_ports = st.none() | _ports
_statuses = st.sampled_from(["ACTIVE", "ACTIVE", "ACTIVE", "ERROR", "PENDING_DELETE"])
_mostly = st.sampled_from([True, True, True, False])
_weights = st.integers(0, 256)
_seconds = st.integers(1, 3600)
_thresholds = st.integers(1, 10)
_maybe_versions = st.none() | st.lists(st.sampled_from(_VERSIONS), min_size=1, unique=True)
_ciphers = st.lists(st.sampled_from(_CIPHERS + _SUITES), min_size=1, unique=True).map(":".join)
_maybe_ciphers = st.none() | _ciphers
_maybe_alpn = st.sampled_from([None, ["h2", "http/1.1", "http/1.0"], ["http/1.1"], ["h2"]])


@st.composite
def _members(draw: st.DrawFn) -> Any:
    return render.make_member(
        draw(_addresses),
        draw(_ports),
        id=draw(_uuids),
        weight=draw(_weights),
        enabled=draw(_booleans),
        backup=draw(_booleans),
        monitor_address=draw(_maybe_addresses),
        monitor_port=draw(_maybe_ports),
        provisioning_status=draw(_statuses),
    )


@st.composite
def _monitors(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(["TCP", "HTTP", "HTTPS", "PING", "TLS-HELLO"]))
    fields: dict[str, Any] = {"enabled": draw(_booleans)}
    if kind in ("HTTP", "HTTPS"):
        fields["http_method"] = draw(st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]))
        fields["url_path"] = "/" + draw(_url_tails)
        fields["expected_codes"] = draw(st.sampled_from(["200", "200,201", "200-204", "200, 202,404"]))
        fields["http_version"] = draw(st.sampled_from([None, 1.0, 1.1]))
        fields["domain_name"] = draw(st.sampled_from([None, "www.example.com"]))
    return render.make_monitor(
        kind,
        delay=draw(_seconds),
        timeout=draw(_seconds),
        rise=draw(_thresholds),
        fall=draw(_thresholds),
        **fields,
    )


@st.composite
def _tls_choice(draw: st.DrawFn) -> dict[str, Any]:
    """Ciphers, versions and ALPN; the renderer wants ciphers whenever versions are given."""
    versions = draw(_maybe_versions)
    return {
        "tls_versions": versions,
        "tls_ciphers": draw(_ciphers if versions is not None else _maybe_ciphers),
        "alpn_protocols": draw(_maybe_alpn),
    }


_tls_choices = _tls_choice()
_member_lists = st.lists(_members(), max_size=3, unique_by=lambda member: member.id)
_maybe_monitors = st.none() | _monitors()


@st.composite
def _pools(draw: st.DrawFn, protocol: str, tls_certs: dict[str, Any]) -> Any:
    fields: dict[str, Any] = {"id": draw(_uuids), "enabled": draw(_mostly)}
    if draw(_booleans):
        fields |= {"tls_enabled": True, **draw(_tls_choices)}
        names = draw(st.sets(st.sampled_from(["client_cert", "ca_cert", "crl"])))
        tls_certs[fields["id"]] = {name: f"{render.CERT_DIR}/{name}-{fields['id']}.pem" for name in names}
        references = {
            "client_cert": "tls_certificate_id",
            "ca_cert": "ca_tls_certificate_id",
            "crl": "crl_container_id",
        }
        fields |= {references[name]: name for name in names}
    persistence = draw(st.sampled_from([None, "SOURCE_IP", "HTTP_COOKIE", "APP_COOKIE"]))
    return render.make_pool(
        protocol,
        members=draw(_member_lists),
        algorithm=draw(st.sampled_from(["ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP"])),
        monitor=draw(_maybe_monitors),
        persistence=persistence,
        cookie_name=draw(_tokens) if persistence == "APP_COOKIE" else None,
        **fields,
    )


@st.composite
def _rules(draw: st.DrawFn) -> Any:
    kind = draw(
        st.sampled_from(
            [
                "HOST_NAME",
                "PATH",
                "FILE_TYPE",
                "HEADER",
                "COOKIE",
                "SSL_CONN_HAS_CERT",
                "SSL_VERIFY_RESULT",
                "SSL_DN_FIELD",
            ]
        )
    )
    compare = "EQUAL_TO"
    value = draw(_values)
    if kind == "SSL_CONN_HAS_CERT":
        value = "True"
    elif kind == "SSL_VERIFY_RESULT":
        value = str(draw(st.integers(0, 79)))
    elif kind == "FILE_TYPE":
        compare = draw(st.sampled_from(["EQUAL_TO", "REGEX"]))
        value = draw(_plain_values)
    else:
        compare = draw(st.sampled_from(["EQUAL_TO", "REGEX", "STARTS_WITH", "ENDS_WITH", "CONTAINS"]))
    key = draw(_tokens) if kind in ("HEADER", "COOKIE", "SSL_DN_FIELD") else None
    return render.make_rule(
        kind, compare, value, key=key, id=draw(_uuids), invert=draw(_booleans), enabled=draw(_booleans)
    )


_rule_lists = st.lists(_rules(), max_size=3, unique_by=lambda rule: rule.id)


@st.composite
def _policies(draw: st.DrawFn, pools: list[Any]) -> Any:
    actions = ["REJECT", "REDIRECT_TO_URL", "REDIRECT_PREFIX"] + (["REDIRECT_TO_POOL"] if pools else [])
    action = draw(st.sampled_from(actions))
    fields: dict[str, Any] = {"enabled": draw(_mostly)}
    code = draw(st.sampled_from([None, 301, 302, 303, 307, 308]))
    if action == "REDIRECT_TO_POOL":
        fields["redirect_pool"] = pools[draw(st.integers(0, len(pools) - 1))]
    elif action == "REDIRECT_TO_URL":
        fields |= {"redirect_url": "http://www.example.com/" + draw(_url_tails), "redirect_http_code": code}
    elif action == "REDIRECT_PREFIX":
        fields |= {"redirect_prefix": "https://www.example.com/" + draw(_url_tails), "redirect_http_code": code}
    rules = draw(_rule_lists)
    return render.make_policy(action, rules, **fields)


@st.composite
def _listeners(draw: st.DrawFn, port: int, tls_certs: dict[str, Any]) -> Any:
    protocol = draw(st.sampled_from(["TCP", "HTTP", "HTTPS", "TERMINATED_HTTPS", "PROMETHEUS"]))
    listener_id = draw(_uuids)
    fields: dict[str, Any] = {
        "id": listener_id,
        "enabled": draw(_mostly),
        "connection_limit": draw(st.sampled_from([-1, 1, 2000, 1_000_000])),
        "timeout_client_data": draw(_milliseconds),
        "timeout_member_connect": draw(_milliseconds),
        "timeout_member_data": draw(_milliseconds),
        "timeout_tcp_inspect": draw(_milliseconds),
    }
    headers = _HEADERS + (_SSL_HEADERS if protocol == "TERMINATED_HTTPS" else [])
    chosen = draw(st.sets(st.sampled_from(headers)))
    fields["insert_headers"] = {name: "true" if name in chosen else "false" for name in headers}
    if protocol in ("TERMINATED_HTTPS", "PROMETHEUS"):
        fields |= draw(_tls_choices)
        fields["tls_certificate_id"] = draw(st.sampled_from(["certificate", "certificate", None]))
        if draw(_booleans):
            fields["client_ca_tls_certificate_id"] = f"ca-{listener_id}"
            fields["client_authentication"] = draw(st.sampled_from(["NONE", "OPTIONAL", "MANDATORY"]))
            tls_certs[f"ca-{listener_id}"] = "client_ca.pem"
            if draw(_booleans):
                fields["client_crl_container_id"] = f"crl-{listener_id}"
                tls_certs[f"crl-{listener_id}"] = "client_crl.pem"
        fields["hsts_max_age"] = draw(st.none() | st.integers(0, 10**8))
        fields["hsts_include_subdomains"] = draw(_booleans)
        fields["hsts_preload"] = draw(_booleans)
    pools: list[Any] = []
    if protocol in _POOL_PROTOCOLS:
        kinds = draw(st.lists(st.sampled_from(_POOL_PROTOCOLS[protocol]), max_size=3))
        pools = [draw(_pools(kind, tls_certs)) for kind in kinds]
    policies: list[Any] = []
    if protocol in ("HTTP", "TERMINATED_HTTPS"):
        policies = draw(st.lists(_policies(pools), max_size=4))
    default = pools[draw(st.integers(0, len(pools) - 1))] if pools and draw(_booleans) else None
    return render.make_listener(protocol, port, default_pool=default, policies=policies, pools=pools[:1], **fields)


_port_lists = st.lists(_ports, min_size=1, max_size=3, unique=True)
_vips = st.lists(_addresses, min_size=1, max_size=3, unique=True)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Any load balancer with one to three listeners, of any topology, on one to three VIPs."""
    tls_certs: dict[str, Any] = {}
    ports = draw(_port_lists)
    listeners = [draw(_listeners(port, tls_certs)) for port in ports]
    vips = draw(_vips)
    details: dict[str, Any] = {"memory": {"free": draw(st.integers(0, 10**7)), "buffers": 0, "cached": 0}}
    details |= {"active_tuned_profiles": draw(st.sampled_from(["", "virtual-guest amphora"]))}
    details |= {"cpu_count": draw(st.integers(1, 16))}
    return Request(
        listeners,
        {
            "lb_id": draw(_uuids),
            "vip": vips[0],
            "additional_vips": vips[1:],
            "topology": draw(st.sampled_from(["SINGLE", "ACTIVE_STANDBY"])),
            "enabled": draw(st.sampled_from([True] * 9 + [False])),
            "amphora_addresses": draw(st.lists(_addresses, min_size=1, max_size=2)),
            "tls_certs": tls_certs,
            "amphora_details": details,
            "connection_logging": draw(_booleans),
            "log_format": draw(st.none() | st.sampled_from(['{{ lb_id }} %f "x\'" <&> %{+Q}r', "%ci #%cp"])),
        },
    )
