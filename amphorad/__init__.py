"""amphorad: a userspace load balancer data plane for OpenStack Octavia."""

__version__ = "0.1.0"
