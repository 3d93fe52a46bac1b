"""The 21 routes of the amphora API by area. Source: Octavia contract sections 1.4 and 1.5, whose numbers the docstrings use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amphorad.agent_api.certificate_store import CertificateStore
from amphorad.agent_api.routes import agent, certificates, discovery, interfaces, load_balancers, vrrp

if TYPE_CHECKING:
    from amphorad.agent_api.programs import Versions
    from amphorad.agent_api.routing import Route
    from amphorad.agent_api.services import ApiSettings, Services

__all__ = ["all_routes"]


def all_routes(settings: ApiSettings, services: Services, versions: Versions) -> list[Route]:
    """Every route, in no particular order."""
    return [
        *discovery.routes(services.load_balancers, services.plugging, versions),
        *load_balancers.routes(services.load_balancers),
        *certificates.routes(CertificateStore(settings.base_cert_dir)),
        *interfaces.routes(services.plugging),
        *agent.routes(settings, services.reread_settings),
        *vrrp.routes(services.vrrp),
    ]
