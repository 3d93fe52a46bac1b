"""Renders haproxy.cfg texts with the real Octavia templates, from simple keyword arguments.

Needs the `octavia` package (19.0.0); `require_octavia()` skips a test that cannot have it. The keywords are the API's own
field names. Every function returns plain data models of `octavia.common.data_models`, so a test can compare what the
dialect read with what was asked for:

    listener = make_listener("HTTP", 80, default_pool=make_pool("HTTP", members=[make_member("10.0.0.1", 8080)]))
    text = render_load_balancer([listener], topology="ACTIVE_STANDBY", additional_vips=["fd00::10"])

Identifiers are made from a counter per call site's `label` unless given: `make_id("pool", 1)`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import uuid
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "CERT_DIR",
    "has_octavia",
    "make_id",
    "make_listener",
    "make_member",
    "make_monitor",
    "make_policy",
    "make_pool",
    "make_rule",
    "render_load_balancer",
    "require_octavia",
]

CERT_DIR = "/var/lib/octavia/certs"
_NAMESPACE = uuid.UUID("6f6d6f65-6261-4c62-8000-6c6f61646261")
_counter = itertools.count(1)


def has_octavia() -> bool:
    return importlib.util.find_spec("octavia") is not None


def require_octavia() -> None:
    """Skip the calling test or module without the real renderer."""
    if not has_octavia():
        pytest.skip("the octavia package is not installed", allow_module_level=True)


@functools.cache
def _octavia() -> SimpleNamespace:
    """The modules in use. Importing them warns about libraries of theirs, which must not fail our tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SimpleNamespace(
            config=importlib.import_module("octavia.common.config"),
            data_models=importlib.import_module("octavia.common.data_models"),
            jinja_cfg=importlib.import_module("octavia.common.jinja.haproxy.combined_listeners.jinja_cfg"),
        )


def make_id(label: str, number: int) -> str:
    """A UUID that depends on nothing but its arguments."""
    return str(uuid.uuid5(_NAMESPACE, f"{label}-{number}"))


def _next_id(label: str) -> str:
    return make_id(label, next(_counter))


def make_member(
    address: str, port: int, *, weight: int = 1, enabled: bool = True, backup: bool = False, **fields: Any
) -> Any:
    """A member. `fields`: id, monitor_address, monitor_port, provisioning_status, ..."""
    data_models = _octavia().data_models
    values: dict[str, Any] = {"id": _next_id("member"), "provisioning_status": "ACTIVE", "operating_status": "ONLINE"}
    values |= fields
    return data_models.Member(
        ip_address=address, protocol_port=port, weight=weight, enabled=enabled, backup=backup, **values
    )


def make_monitor(kind: str, *, delay: int = 5, timeout: int = 3, rise: int = 2, fall: int = 3, **fields: Any) -> Any:
    """A health monitor with the API's defaults. `fields`: enabled, http_method, url_path, expected_codes, ..."""
    data_models = _octavia().data_models
    values: dict[str, Any] = {"id": _next_id("monitor"), "enabled": True, "provisioning_status": "ACTIVE"}
    if kind in ("HTTP", "HTTPS"):
        values |= {"http_method": "GET", "url_path": "/", "expected_codes": "200"}
    values |= fields
    return data_models.HealthMonitor(
        type=kind, delay=delay, timeout=timeout, rise_threshold=rise, fall_threshold=fall, **values
    )


def make_pool(
    protocol: str,
    *,
    members: Iterable[Any] = (),
    algorithm: str = "ROUND_ROBIN",
    monitor: Any = None,
    persistence: str | None = None,
    cookie_name: str | None = None,
    **fields: Any,
) -> Any:
    """A pool. `fields`: id, enabled, tls_enabled, tls_ciphers, tls_versions, alpn_protocols, tls_certificate_id, ..."""
    data_models = _octavia().data_models
    values: dict[str, Any] = {
        "id": _next_id("pool"),
        "enabled": True,
        "tls_enabled": False,
        "provisioning_status": "ACTIVE",
        "operating_status": "ONLINE",
    }
    values |= fields
    session = data_models.SessionPersistence(type=persistence, cookie_name=cookie_name) if persistence else None
    return data_models.Pool(
        protocol=protocol,
        lb_algorithm=algorithm,
        members=list(members),
        health_monitor=monitor,
        session_persistence=session,
        **values,
    )


def make_rule(
    kind: str, compare: str, value: str, *, key: str | None = None, invert: bool = False, **fields: Any
) -> Any:
    data_models = _octavia().data_models
    values: dict[str, Any] = {"id": _next_id("rule"), "enabled": True, "provisioning_status": "ACTIVE"}
    values |= fields
    return data_models.L7Rule(type=kind, compare_type=compare, value=value, key=key, invert=invert, **values)


def make_policy(action: str, rules: Iterable[Any], **fields: Any) -> Any:
    """An L7 policy. `fields`: enabled, redirect_pool, redirect_url, redirect_prefix, redirect_http_code, ..."""
    data_models = _octavia().data_models
    values: dict[str, Any] = {"id": _next_id("policy"), "enabled": True, "provisioning_status": "ACTIVE"}
    values |= fields
    return data_models.L7Policy(action=action, l7rules=list(rules), **values)


def make_listener(
    protocol: str,
    port: int,
    *,
    default_pool: Any = None,
    policies: Iterable[Any] = (),
    pools: Iterable[Any] = (),
    **fields: Any,
) -> Any:
    """A listener. Its pools are the default pool, those of its policies, and `pools`.

    `fields`: id, enabled, connection_limit, insert_headers, timeout_client_data, tls_certificate_id, ...
    """
    data_models = _octavia().data_models
    values: dict[str, Any] = {
        "id": _next_id("listener"),
        "enabled": True,
        "connection_limit": -1,
        "insert_headers": {},
        "provisioning_status": "ACTIVE",
    }
    values |= fields
    policies = list(policies)
    attached: dict[str, Any] = {}
    for pool in (default_pool, *(policy.redirect_pool for policy in policies), *pools):
        if pool is not None:
            attached.setdefault(pool.id, pool)
    return data_models.Listener(
        protocol=protocol,
        protocol_port=port,
        default_pool=default_pool,
        l7policies=policies,
        pools=list(attached.values()),
        peer_port=1025,
        **values,
    )


def render_load_balancer(
    listeners: Sequence[Any],
    *,
    lb_id: str | None = None,
    project_id: str = "e2c1d7a2b3f84d5f9a0b1c2d3e4f5a6b",
    vip: str = "10.0.0.10",
    additional_vips: Sequence[str] = (),
    topology: str = "SINGLE",
    enabled: bool = True,
    amphora_addresses: Sequence[str] = ("10.0.0.11", "10.0.0.12"),
    tls_certs: Mapping[str, Any] | None = None,
    haproxy_version: tuple[str, ...] = ("2", "9", "1"),
    amphora_details: Mapping[str, Any] | None = None,
    connection_logging: bool = True,
    log_format: str | None = None,
    default_connection_limit: int | None = None,
) -> str:
    """The haproxy.cfg that a controller sends for these listeners.

    Args:
        tls_certs: certificate ids to file names (client CA, CRL), and pool ids to `{"client_cert", "ca_cert", "crl"}`.
        haproxy_version: what the amphora reported; older versions lose features.
        amphora_details: the answer of the details call (`active_tuned_profiles`, `cpu_count`, `memory`).
        log_format: the operator's `user_log_format`.
    """
    octavia = _octavia()
    data_models = octavia.data_models
    load_balancer = data_models.LoadBalancer(
        id=lb_id or _next_id("load-balancer"),
        project_id=project_id,
        enabled=enabled,
        topology=topology,
        vip=data_models.Vip(ip_address=vip),
        additional_vips=[data_models.AdditionalVip(ip_address=address) for address in additional_vips],
        listeners=list(listeners),
        amphorae=[
            data_models.Amphora(id=make_id("amphora", number), vrrp_ip=address, status="ALLOCATED")
            for number, address in enumerate(amphora_addresses)
        ],
    )
    for listener in listeners:
        listener.load_balancer = load_balancer
    group = octavia.config.cfg.CONF.haproxy_amphora
    overrides = {"user_log_format": log_format, "default_connection_limit": default_connection_limit}
    changed = {key: value for key, value in overrides.items() if value is not None}
    for key, value in changed.items():
        octavia.config.cfg.CONF.set_override(key, value, group="haproxy_amphora")
    try:
        templater = octavia.jinja_cfg.JinjaTemplater(
            base_amp_path=group.base_path, base_crt_dir=CERT_DIR, connection_logging=connection_logging
        )
        text: str = templater.build_config(
            host_amphora=load_balancer.amphorae[0],
            listeners=list(listeners),
            tls_certs=dict(tls_certs) if tls_certs is not None else None,
            haproxy_versions=list(haproxy_version),
            amp_details=dict(amphora_details or {}),
        )
    finally:
        for key in changed:
            octavia.config.cfg.CONF.clear_override(key, group="haproxy_amphora")
    return text
