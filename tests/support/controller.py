"""The real controller's side of the amphora API: driver, client and renderers of the `octavia` package."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.support.octavia_render import require_octavia

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.api_certificates import Identities

__all__ = ["Controller", "modules", "require_octavia"]

RETRIES = 3
PAUSE_S = 0  # between two tries of the controller, instead of 5 s


def modules() -> SimpleNamespace:
    """The modules in use. Importing them warns about libraries of theirs, which must not fail our tests."""
    names = {
        "config": "octavia.common.config",
        "constants": "octavia.common.constants",
        "data_models": "octavia.common.data_models",
        "driver": "octavia.amphorae.drivers.haproxy.rest_api_driver",
        "driver_errors": "octavia.amphorae.driver_exceptions.exceptions",
        "errors": "octavia.amphorae.drivers.haproxy.exceptions",
        "network_models": "octavia.network.data_models",
        "vrrp_templates": "octavia.amphorae.drivers.keepalived.jinja.jinja_cfg",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SimpleNamespace(**{key: importlib.import_module(name) for key, name in names.items()})


@dataclass
class Controller:
    """One controller that knows one amphora.

    Args:
        driver: the real `HaproxyAmphoraLoadBalancerDriver`.
        client: its real REST client of version 1.0.
        amphora: its record of the amphora.
    """

    driver: Any
    client: Any
    amphora: Any

    @classmethod
    @contextlib.contextmanager
    def configured(
        cls, identities: Identities, *, port: int, cert_dir: Path, base_path: Path | None = None, **amphora: Any
    ) -> Iterator[Controller]:
        """A controller with its configuration set for the time being."""
        octavia = modules()
        conf = octavia.config.cfg.CONF
        overrides = {
            "haproxy_amphora": {
                "bind_port": port,
                "client_cert": str(identities.client),
                "server_ca": str(identities.server_ca),
                "base_cert_dir": str(cert_dir),
                "connection_max_retries": RETRIES,
                "connection_retry_interval": PAUSE_S,
                "rest_request_conn_timeout": 5,
                "rest_request_read_timeout": 10,
            },
            "certificates": {
                "cert_manager": "local_cert_manager",
                "storage_path": str(cert_dir.parent / "controller_certificates"),
            },
        }
        if base_path is not None:
            overrides["haproxy_amphora"]["base_path"] = str(base_path)
        (cert_dir.parent / "controller_certificates").mkdir(exist_ok=True)
        for group, options in overrides.items():
            for name, value in options.items():
                conf.set_override(name, value, group=group)
        record = {
            "id": identities.amphora_id,
            "lb_network_ip": "127.0.0.1",
            "status": "ALLOCATED",
            "vrrp_ip": "203.0.113.20",
            "ha_ip": "203.0.113.7",
            "vrrp_port_id": "port-1",
            "role": "MASTER",
            "vrrp_priority": 100,
        } | amphora
        driver = octavia.driver.HaproxyAmphoraLoadBalancerDriver()
        try:
            yield cls(driver, driver.clients["1.0"], octavia.data_models.Amphora(**record))
        finally:
            for client in driver.clients.values():
                client.session.close()
            for group, options in overrides.items():
                for name in options:
                    conf.clear_override(name, group=group)
