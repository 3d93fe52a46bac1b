"""The PROXY header that goes before a check of a pool that sends one (HAProxy proxy-protocol.txt).

Version 1 tells the check's real addresses; version 2 says LOCAL: the connection speaks for the proxy itself.
"""

from __future__ import annotations

from typing import Final

from amphorad.model import ProxyProtocol

__all__ = ["proxy_header"]

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_LOCAL: Final = b"\x20\0"  # version 2, LOCAL; family unspecified
_NO_TLS: Final = b"\x20\0\x05" + bytes(5)  # TLV of the client's TLS: none, so nothing is verified


def proxy_header(version: ProxyProtocol, own: tuple[str, int], member: tuple[str, int]) -> bytes:
    """The bytes for a connection between these two addresses."""
    if version is ProxyProtocol.V1:
        family = "TCP6" if ":" in member[0] else "TCP4"
        return f"PROXY {family} {own[0]} {member[0]} {own[1]} {member[1]}\r\n".encode()
    extra = _NO_TLS if version is ProxyProtocol.V2_SSL_CN else b""
    return _SIGNATURE + _LOCAL + len(extra).to_bytes(2, "big") + extra
