"""Writes files of the dialect for end-to-end tests, one line per thing that a test cares about.

    text = lb_file(
        listener("web", port, [member(9001, weight=2), member(9002, backup=True)], mode="http", maxconn=5),
        maxconn=100,
    )

The lines have the controller's spelling (Octavia contract section 4); timeouts are milliseconds, as there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["balancer_text", "lb_file", "listener", "member"]

_HEADER = """\
# Configuration for loadbalancer 5f8e4a53-39b2-4a36-8f0a-0e6c3c1a1a11
global
    daemon
    user nobody
    log /run/rsyslog/octavia/log local0
    log /run/rsyslog/octavia/log local1 notice
    stats socket /var/lib/octavia/5f8e4a53-39b2-4a36-8f0a-0e6c3c1a1a11.sock mode 0666 level user
    maxconn {maxconn}

defaults
    no log
    retries {retries}
    option redispatch
    option splice-request
    option splice-response
    option http-keep-alive
"""


def member(
    port: int,
    *,
    address: str = "127.0.0.1",
    name: str | None = None,
    weight: int = 1,
    backup: bool = False,
    disabled: bool = False,
) -> str:
    """A `server` line. Its id is `m` and the port unless `name` is given."""
    words = f"    server {name or f'm{port}'} {address}:{port} weight {weight}"
    return words + " backup" * backup + " disabled" * disabled + "\n"


def listener(
    name: str,
    port: int,
    members: Iterable[str] | None,
    *,
    mode: str = "tcp",
    binds: Sequence[tuple[str, int]] = (),
    balance: str = "roundrobin",
    maxconn: int = 50000,
    client_ms: int = 50000,
    server_ms: int = 50000,
    connect_ms: int = 5000,
    monitor: str = "",
) -> str:
    """A frontend on 127.0.0.1 and `port` (or on `binds`) with its pool `NAME-pool`; without one when `members` is None.

    `monitor` is the lines of a health monitor.
    """
    lines = [f"\nfrontend {name}\n    maxconn {maxconn}\n"]
    lines += [f"    bind {address}:{number}\n" for address, number in binds or [("127.0.0.1", port)]]
    lines.append(f"    mode {mode}\n")
    if members is not None:
        lines.append(f"    default_backend {name}-pool:{name}\n")
    lines.append(f"    timeout client {client_ms}\n")
    if members is not None:
        lines.append(f"\nbackend {name}-pool:{name}\n    mode {mode}\n")
        lines += ["    http-reuse safe\n"] * (mode == "http")
        lines.append(f"    balance {balance}\n{monitor}    fullconn 50000\n    option allbackups\n")
        lines.append(f"    timeout connect {connect_ms}\n    timeout server {server_ms}\n")
        lines += members
    return "".join(lines)


def lb_file(*listeners: str, maxconn: int = 50000, retries: int = 3) -> str:
    """The whole file."""
    return _HEADER.format(maxconn=maxconn, retries=retries) + "".join(listeners)


def balancer_text(*listeners: tuple[str, int, Sequence[int]]) -> str:
    """A file of TCP listeners: of each its id, its port and the ports of its members."""
    return lb_file(*(listener(name, port, [member(each) for each in members]) for name, port, members in listeners))
