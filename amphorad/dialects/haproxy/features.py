"""What a configuration may ask for beyond the basics, and what is carried out today.

The basics need no feature: TCP and HTTP listeners, several binds, balancing, weights, backup and disabled members,
X-Forwarded-For/-Port/-Proto, timeouts, connection limits, retries and redispatch.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

__all__ = ["ALL_FEATURES", "SUPPORTED", "Feature"]


class Feature(StrEnum):
    """One part of the dialect that may be refused with `NotSupportedYet`. The value is the operator's word for it."""

    TLS_LISTENER = "TLS on a listener"
    TLS_CLIENT_AUTHENTICATION = "client certificates"
    TLS_HEADER_INSERTION = "X-SSL-* header insertion"
    HSTS = "HTTP Strict Transport Security"
    TLS_MEMBER = "TLS towards members"
    HEALTH_MONITOR = "health monitors"
    TLS_MONITOR = "health monitors over TLS (HTTPS, TLS-HELLO)"
    PING_MONITOR = "PING health monitors"
    L7_POLICY = "L7 policies"
    SOURCE_IP_PERSISTENCE = "SOURCE_IP persistence"
    APP_COOKIE = "APP_COOKIE persistence"
    HTTP_COOKIE = "HTTP_COOKIE persistence"
    PROXY_PROTOCOL = "PROXY protocol towards members"
    PROXY_PROTOCOL_TLS = "PROXY protocol towards members that tells of the client's TLS"
    PEERS = "stick-table peers"
    PROMETHEUS = "PROMETHEUS listeners"
    TRAFFIC_LOG = "the traffic log"
    HTTP_POOL_ON_TCP_LISTENER = "an HTTP pool under a TCP listener"


ALL_FEATURES: Final = frozenset(Feature)
"""Everything the dialect knows; for tests, and for tools that only look at a configuration."""

SUPPORTED: Final = frozenset(
    {
        Feature.TRAFFIC_LOG,
        Feature.PROMETHEUS,
        Feature.HEALTH_MONITOR,
        Feature.TLS_MONITOR,
        Feature.PING_MONITOR,
        Feature.PROXY_PROTOCOL,
        Feature.HTTP_POOL_ON_TCP_LISTENER,
        Feature.L7_POLICY,
        Feature.SOURCE_IP_PERSISTENCE,
        Feature.APP_COOKIE,
        Feature.HTTP_COOKIE,
        Feature.PEERS,
        Feature.TLS_LISTENER,
        Feature.TLS_CLIENT_AUTHENTICATION,
        Feature.TLS_HEADER_INSERTION,
        Feature.HSTS,
        Feature.TLS_MEMBER,
        Feature.PROXY_PROTOCOL_TLS,
    }
)
"""What the data plane carries out today. A feature is added here by the change that builds it."""
