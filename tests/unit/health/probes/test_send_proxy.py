"""PROXY headers of checks, byte for byte as HAProxy 2.6 sends them (Octavia contract section 4.11)."""

from __future__ import annotations

import pytest

from amphorad.health.probes.send_proxy import proxy_header
from amphorad.model import ProxyProtocol

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


@pytest.mark.parametrize(
    ("version", "own", "member", "expected"),
    [
        (
            ProxyProtocol.V1,
            ("10.0.0.9", 40000),
            ("10.0.0.1", 80),
            b"PROXY TCP4 10.0.0.9 10.0.0.1 40000 80\r\n",
        ),
        (ProxyProtocol.V1, ("fd00::9", 40000), ("fd00::1", 80), b"PROXY TCP6 fd00::9 fd00::1 40000 80\r\n"),
        (ProxyProtocol.V2, ("10.0.0.9", 1), ("10.0.0.1", 80), SIGNATURE + b"\x20\x00\x00\x00"),
        (
            ProxyProtocol.V2_SSL_CN,
            ("10.0.0.9", 1),
            ("10.0.0.1", 80),
            SIGNATURE + b"\x20\x00\x00\x08\x20\x00\x05\x00\x00\x00\x00\x00",
        ),
    ],
)
def test_proxy_header(version: ProxyProtocol, own: tuple[str, int], member: tuple[str, int], expected: bytes) -> None:
    assert proxy_header(version, own, member) == expected
