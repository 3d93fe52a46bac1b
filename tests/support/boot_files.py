"""The files that a controller injects into an amphora at its boot.

Source: Octavia contract sections 2.1 and 2.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.api_certificates import Identities

__all__ = ["HEARTBEAT_KEY", "boot_files"]

HEARTBEAT_KEY = "insecure"


def boot_files(
    identities: Identities,
    controller: str,
    *,
    amphora_id: str | None = None,
    topology: str = "SINGLE",
    interval: int = 2,
    options: str = "",
) -> dict[str, bytes]:
    """Contents by absolute path.

    Args:
        controller: ADDRESS:PORT of heartbeats.
        amphora_id: None for the one of `identities`; another one gets a certificate of the same authority.
        interval: of heartbeats, seconds.
        options: further lines of amphora-agent.conf.
    """
    server = identities.server.read_bytes()
    if amphora_id is not None and amphora_id != identities.amphora_id:
        server = identities.server_authority.issue(amphora_id)
    settings = (
        f"[DEFAULT]\ndebug = False\n[haproxy_amphora]\nbase_cert_dir = /var/lib/octavia/certs\nbase_path = /var/lib/octavia\n"
        f"bind_host = ::\nbind_port = 9443\n[health_manager]\ncontroller_ip_port_list = {controller}\n"
        f"heartbeat_interval = {interval}\nheartbeat_key = {HEARTBEAT_KEY}\n"
        f"[amphora_agent]\nagent_server_ca = /etc/octavia/certs/client_ca.pem\n"
        f"agent_server_cert = /etc/octavia/certs/server.pem\namphora_id = {amphora_id or identities.amphora_id}\n"
        f"[controller_worker]\nloadbalancer_topology = {topology}\n{options}"
    )
    return {
        "/etc/octavia/amphora-agent.conf": settings.encode(),
        "/etc/octavia/certs/server.pem": server,
        "/etc/octavia/certs/client_ca.pem": identities.client_ca.read_bytes(),
        "/etc/rsyslog.d/10-rsyslog.conf": b"",
    }
