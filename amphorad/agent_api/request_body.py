"""Reads the body of a request: whole, within its limit and its time, or not at all.

The body is complete before anything is done with it, so a controller that dies half-way changes nothing. Everything wrong here is
answered with 400: the controller takes 413, 415 and 422 for success (Octavia contract section 1.2).

Limits: each route has its own (`CONFIGURATION_LIMIT` and so on, the body may be exactly that long). A body that is announced to
be longer is refused unread. A body that has not come within `agent_request_read_timeout` is refused. Compressed bodies are refused.
Memory: one body for each connection of `server.MAX_CONNECTIONS`, all of clients that have shown a certificate.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import msgspec
from aiohttp import hdrs
from aiohttp.web_protocol import RequestPayloadError

from amphorad.agent_api.answers import Refusal, frame_error

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest

__all__ = [
    "CERTIFICATE_LIMIT",
    "CONFIGURATION_LIMIT",
    "JSON_LIMIT",
    "SERVER_CERTIFICATE_LIMIT",
    "SETTINGS_LIMIT",
    "VRRP_LIMIT",
    "decode_json",
    "read_body",
]

CONFIGURATION_LIMIT = 8 * 1024 * 1024  # haproxy.cfg and LVS files; 200 members make about 50 KiB
CERTIFICATE_LIMIT = 4 * 1024 * 1024  # certificate chains, crt-lists, CA bundles (all public ones: 220 KiB) and CRLs
SERVER_CERTIFICATE_LIMIT = 256 * 1024  # one chain with its key, about 5 KiB
SETTINGS_LIMIT = 1024 * 1024  # the agent's configuration file, about 2 KiB
VRRP_LIMIT = 1024 * 1024  # one VRRP instance, about 2 KiB
JSON_LIMIT = 1024 * 1024  # a port with its addresses and routes, a list of firewall rules

_T = TypeVar("_T")


async def read_body(request: BaseRequest, limit_bytes: int, timeout_s: float) -> bytes:
    """The whole body of a request.

    Raises:
        Refusal: 400, the body is too long, too late, cut off, or encoded in a way that was not asked for.
    """
    announced = request.content_length
    if announced is not None and announced > limit_bytes:
        raise _refusal(f"the body has {announced} bytes, more than the {limit_bytes} allowed here")
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity")
    if encoding.strip().lower() != "identity":
        raise _refusal("a compressed body is not taken")
    await _grant_continuation(request)
    chunks: list[bytes] = []
    length = 0
    try:
        async with asyncio.timeout(timeout_s):
            while chunk := await request.content.readany():
                chunks.append(chunk)
                length += len(chunk)
                if length > limit_bytes:
                    raise _refusal(f"the body is longer than the {limit_bytes} bytes allowed here")
    except TimeoutError:
        raise _refusal(f"the body was not complete after {timeout_s:g} seconds") from None
    except (RequestPayloadError, ConnectionError):
        raise _refusal("the body was cut off or is framed wrongly") from None
    return b"".join(chunks)


async def _grant_continuation(request: BaseRequest) -> None:
    """Tells a client that waits before it sends its body to go on. RFC 9110 section 10.1.1."""
    expectation = request.headers.get(hdrs.EXPECT)
    if expectation is None:
        return
    if expectation.strip().lower() != "100-continue":
        raise _refusal("an expectation other than 100-continue")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # nothing of the answer itself has been sent


def decode_json(body: bytes, shape: type[_T], complaint: str) -> _T:
    """A JSON body as `shape`; the Content-Type is not looked at.

    Raises:
        Refusal: 400 with `complaint`, a sentence of Octavia contract section 1.5.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _refusal(complaint) from None


def _refusal(text: str) -> Refusal:
    return Refusal(frame_error(400, text))
