"""The rigs: see `tests.support.http_rig`."""

from tests.support.http_rig import (  # noqa: F401  pytest finds fixtures by their names here
    _running,
    _running_amphorad,
    _running_haproxy,
    amphorad_rig,
    haproxy_rig,
    rig,
)
