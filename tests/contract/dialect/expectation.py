"""What the model must say about a request, derived from the API objects and never from the rendered text."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from amphorad.dialects.haproxy.values import canonical_address
from amphorad.model import (
    Algorithm,
    AppCookie,
    Bind,
    ClientAuthentication,
    HeaderInsertion,
    HealthMonitor,
    HealthMonitorType,
    HttpCookie,
    L7Action,
    L7Compare,
    L7Policy,
    L7Rule,
    L7RuleType,
    Listener,
    ListenerTls,
    LoadBalancer,
    LogTarget,
    Member,
    MemberTls,
    Mode,
    Peer,
    Pool,
    ProxyProtocol,
    ReusePolicy,
    SourceIp,
)

if TYPE_CHECKING:
    from tests.support.octavia_strategies import Request

__all__ = ["expected_load_balancer"]

_ALGORITHMS = {
    "ROUND_ROBIN": Algorithm.WEIGHTED_ROUND_ROBIN,
    "LEAST_CONNECTIONS": Algorithm.LEAST_CONNECTIONS,
    "SOURCE_IP": Algorithm.SOURCE_IP_HASH,
}
_VERSIONS = ("SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_AUTHENTICATION = {
    "NONE": ClientAuthentication.NONE,
    "OPTIONAL": ClientAuthentication.OPTIONAL,
    "MANDATORY": ClientAuthentication.REQUIRED,
}
_SSL_HEADERS = {
    "X-SSL-Client-Verify": "%[ssl_c_verify]",
    "X-SSL-Client-Has-Cert": "%[ssl_c_used]",
    "X-SSL-Client-DN": "%{+Q}[ssl_c_s_dn]",
    "X-SSL-Client-CN": "%{+Q}[ssl_c_s_dn(cn)]",
    "X-SSL-Issuer": "%{+Q}[ssl_c_i_dn]",
    "X-SSL-Client-SHA1": "%{+Q}[ssl_c_sha1,hex]",
    "X-SSL-Client-Not-Before": "%{+Q}[ssl_c_notbefore]",
    "X-SSL-Client-Not-After": "%{+Q}[ssl_c_notafter]",
}
_CERT_DIR = "/var/lib/octavia/certs"


def expected_load_balancer(request: Request, read: LoadBalancer) -> LoadBalancer:
    """The whole model. From `read` come only fields that the request does not determine (peer names, cache size)."""
    keywords = request.keywords
    lb_id = keywords["lb_id"]
    enabled = [listener for listener in request.listeners if listener.enabled]
    limits = [_connection_limit(listener) for listener in enabled]
    cpus = keywords["amphora_details"]["cpu_count"]
    pinned = "amphora" in keywords["amphora_details"]["active_tuned_profiles"] and cpus > 1
    standby = keywords["topology"] == "ACTIVE_STANDBY"
    addresses = keywords["amphora_addresses"] if standby else []
    assert len(read.peers) == len(addresses)
    return LoadBalancer(
        id=lb_id,
        listeners=tuple(_listener(listener, request) for listener in enabled) if keywords["enabled"] else (),
        connection_limit=sum(limits) if 0 < sum(limits) < 1_000_000 else 1_000_000,
        retries=3,
        redispatch=True,
        log_targets=(
            LogTarget(path="/run/rsyslog/octavia/log", facility="local0"),
            LogTarget(path="/run/rsyslog/octavia/log", facility="local1", minimum_severity="notice"),
        ),
        stats_socket=f"/var/lib/octavia/{lb_id}.sock",
        server_state_file=f"/var/lib/octavia/{lb_id}/servers-state",
        threads=cpus - 1 if pinned else None,
        thread_cpus=tuple(range(1, cpus)) if pinned else (),
        tls_cache_blocks=read.tls_cache_blocks,
        peers=tuple(
            Peer(name=peer.name, address=canonical_address(address), port=1025)
            for peer, address in zip(read.peers, addresses, strict=True)
        ),
    )


def _connection_limit(listener: Any) -> int:
    limit: int = listener.connection_limit
    return limit if limit > 0 else 50000


def _listener(listener: Any, request: Request) -> Listener:
    keywords = request.keywords
    is_http = listener.protocol in ("HTTP", "TERMINATED_HTTPS", "PROMETHEUS")
    vips = [keywords["vip"], *keywords["additional_vips"]]
    pools = [pool for pool in listener.pools if pool.enabled]
    default = listener.default_pool
    terminated = listener.protocol == "TERMINATED_HTTPS"
    return Listener(
        id=listener.id,
        mode=Mode.HTTP if is_http else Mode.TCP,
        binds=tuple(Bind(address=str(ipaddress.ip_address(vip)), port=listener.protocol_port) for vip in vips),
        connection_limit=_connection_limit(listener),
        timeout_client_s=(listener.timeout_client_data or 50000) / 1000,
        default_pool=default.id if default is not None and default.enabled else None,
        pools=tuple(_pool(pool, listener, request) for pool in pools),
        policies=tuple(_policies(listener)),
        tls=_listener_tls(listener, request),
        redirect_plain_to_https=terminated,
        hsts=_hsts(listener) if terminated else None,
        log_format=_log_format(listener, keywords) if keywords["connection_logging"] else None,
        is_prometheus=listener.protocol == "PROMETHEUS",
    )


def _log_format(listener: Any, keywords: dict[str, Any]) -> str:
    default = (
        "{{ project_id }} {{ lb_id }} %f %ci %cp %t %{+Q}r %ST %B %U %[ssl_c_verify] %{+Q}[ssl_c_s_dn] %b %s %Tt %tsc"
    )
    text: str = keywords["log_format"] or default
    text = text.replace("{{ project_id }}", "e2c1d7a2b3f84d5f9a0b1c2d3e4f5a6b").replace(
        "{{ lb_id }}", keywords["lb_id"]
    )
    if listener.protocol not in ("HTTP", "TERMINATED_HTTPS"):
        text = text.replace("%{+Q}r", "-").replace("%ST", "-")
    return text


def _hsts(listener: Any) -> str | None:
    if listener.hsts_max_age is None:
        return None
    parts = [f"max-age={listener.hsts_max_age};"]
    parts += ["includeSubDomains;"] if listener.hsts_include_subdomains else []
    parts += ["preload;"] if listener.hsts_preload else []
    return " ".join(parts)


def _ciphers(thing: Any) -> dict[str, Any]:
    """Release 19.0.0 splits the cipher string, and drops the part that no version can use."""
    names = set(thing.tls_ciphers.split(":")) if thing.tls_ciphers is not None else set()
    versions = frozenset(_VERSIONS if thing.tls_versions is None else thing.tls_versions)
    suites = sorted(name for name in names if name.startswith("TLS_")) if "TLSv1.3" in versions else []
    ciphers = sorted(name for name in names if not name.startswith("TLS_")) if versions - {"TLSv1.3"} else []
    return {
        "ciphers": ":".join(ciphers) or None,
        "ciphersuites": ":".join(suites) or None,
        "versions": versions,
        "alpn": tuple(thing.alpn_protocols) if thing.alpn_protocols is not None else None,
    }


def _listener_tls(listener: Any, request: Request) -> ListenerTls | None:
    if listener.protocol not in ("TERMINATED_HTTPS", "PROMETHEUS") or listener.tls_certificate_id is None:
        return None
    base = f"{_CERT_DIR}/{request.keywords['lb_id']}"
    has_ca = listener.client_ca_tls_certificate_id is not None
    return ListenerTls(
        crt_list=f"{base}/{listener.id}.pem",
        ca_file=f"{base}/client_ca.pem" if has_ca else None,
        client_authentication=_AUTHENTICATION[listener.client_authentication] if has_ca else None,
        crl_file=f"{base}/client_crl.pem" if listener.client_crl_container_id is not None else None,
        **_ciphers(listener),
    )


def _policies(listener: Any) -> list[L7Policy]:
    found = []
    for policy in listener.l7policies:
        rules = tuple(_rule(rule) for rule in policy.l7rules if rule.enabled)
        pool = policy.redirect_pool
        if not policy.enabled or not rules or (pool is not None and not pool.enabled):
            continue
        found.append(
            L7Policy(
                action=L7Action(policy.action),
                rules=rules,
                redirect_pool=pool.id if pool is not None else None,
                redirect_url=policy.redirect_url,
                redirect_prefix=policy.redirect_prefix,
                redirect_code=policy.redirect_http_code,
            )
        )
    return found


def _rule(rule: Any) -> L7Rule:
    return L7Rule(
        id=rule.id,
        type=L7RuleType(rule.type),
        compare=L7Compare(rule.compare_type),
        key=rule.key,
        value=rule.value,
        invert=rule.invert,
    )


def _pool(pool: Any, listener: Any, request: Request) -> Pool:
    listener_is_http = listener.protocol in ("HTTP", "TERMINATED_HTTPS")
    is_proxy = pool.protocol in ("PROXY", "PROXYV2")
    is_http = pool.protocol == "HTTP" or (is_proxy and listener_is_http)
    members = tuple(_member(member, pool) for member in pool.members if member.provisioning_status != "PENDING_DELETE")
    insert = {name for name, value in listener.insert_headers.items() if value == "true"}
    headers = []
    if "X-Forwarded-Port" in insert and pool.protocol == "HTTP":
        headers.append(HeaderInsertion(name="X-Forwarded-Port", value="%[dst_port]"))
    if "X-Forwarded-Proto" in insert and listener_is_http:
        scheme = "http" if listener.protocol == "HTTP" else "https"
        headers.append(HeaderInsertion(name="X-Forwarded-Proto", value=scheme))
    headers += [HeaderInsertion(name=name, value=value) for name, value in _SSL_HEADERS.items() if name in insert]
    proxy = None
    if members and pool.protocol == "PROXY":
        proxy = ProxyProtocol.V1
    elif members and pool.protocol == "PROXYV2":
        proxy = ProxyProtocol.V2_SSL_CN if listener.protocol == "TERMINATED_HTTPS" else ProxyProtocol.V2
    return Pool(
        id=pool.id,
        mode=Mode.HTTP if is_http else Mode.TCP,
        algorithm=_ALGORITHMS[pool.lb_algorithm],
        members=members,
        reuse=ReusePolicy.SAFE if is_http else ReusePolicy.NEVER,
        persistence=_persistence(pool, is_http, request),
        health_monitor=_monitor(pool) if members else None,
        forwarded_for="X-Forwarded-For" in insert and pool.protocol == "HTTP",
        header_insertions=tuple(headers),
        proxy_protocol=proxy,
        tls=_member_tls(pool, request) if members else None,
        timeout_connect_s=(listener.timeout_member_connect or 5000) / 1000,
        timeout_member_s=(listener.timeout_member_data or 50000) / 1000,
    )


def _persistence(pool: Any, is_http: bool, request: Request) -> SourceIp | AppCookie | HttpCookie | None:
    session = pool.session_persistence
    replicated = request.keywords["topology"] == "ACTIVE_STANDBY"
    if session is None:
        return None
    if session.type == "SOURCE_IP":
        return SourceIp(size=10240, replicated=replicated)
    if not is_http:
        return None
    if session.type == "HTTP_COOKIE":
        return HttpCookie(name="SRV")
    return AppCookie(name=session.cookie_name, size=10240, value_limit=64, replicated=replicated)


def _monitor(pool: Any) -> HealthMonitor | None:
    monitor = pool.health_monitor
    if monitor is None or not monitor.enabled:
        return None
    kind = monitor.type
    if kind in ("TCP", "TLS-HELLO"):
        kind = "TLS-HELLO" if pool.tls_enabled else "TCP"
    is_http = kind in ("HTTP", "HTTPS")
    codes: set[str] = set()
    for part in (monitor.expected_codes or "").replace(" ", "").split(","):
        low, _, high = part.partition("-")
        codes |= {str(code) for code in range(int(low), int(high or low) + 1)} if part else set()
    version = monitor.http_version if is_http else None
    return HealthMonitor(
        type=HealthMonitorType(kind),
        interval_s=float(monitor.delay),
        timeout_s=float(monitor.timeout),
        rise=monitor.rise_threshold,
        fall=monitor.fall_threshold,
        http_method=monitor.http_method if is_http else None,
        url_path=monitor.url_path if is_http else None,
        http_version=str(version) if version else None,
        domain_name=monitor.domain_name if version == 1.1 else None,
        expected_codes="|".join(sorted(codes)) if is_http else None,
        alpn=tuple(pool.alpn_protocols) if pool.tls_enabled and pool.alpn_protocols is not None else None,
    )


def _member_tls(pool: Any, request: Request) -> MemberTls | None:
    if not pool.tls_enabled:
        return None
    files = request.keywords["tls_certs"].get(pool.id, {})
    has_ca = "ca_cert" in files
    return MemberTls(
        certificate_file=files.get("client_cert"),
        ca_file=files.get("ca_cert"),
        crl_file=files.get("crl") if has_ca else None,
        verify=has_ca,
        send_client_sni=True,
        **_ciphers(pool),
    )


def _member(member: Any, pool: Any) -> Member:
    monitor = pool.health_monitor
    checked = monitor is not None and monitor.enabled
    cookie = pool.session_persistence is not None and pool.session_persistence.type == "HTTP_COOKIE"
    address = member.monitor_address if checked else None
    return Member(
        id=member.id,
        address=canonical_address(member.ip_address),
        port=member.protocol_port,
        weight=member.weight,
        backup=bool(member.backup),
        admin_state_up=member.enabled,
        checked=checked,
        monitor_address=canonical_address(address) if address else None,
        monitor_port=member.monitor_port if checked else None,
        cookie=member.id if cookie else None,
    )
