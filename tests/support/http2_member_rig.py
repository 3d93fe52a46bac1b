"""HTTP/2 towards a played member: a pool of it behind a listener, and what frames say by number (RFC 9113 sections 6.5.2 and 7)."""

from __future__ import annotations

import contextlib
import select
from typing import TYPE_CHECKING

import pytest

from tests.support.http_rig import BOTH
from tests.support.served import free_port
from tests.support.tls_members import pool_text, run_pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.http2_client import Http2Client
    from tests.support.http2_member import Http2Peer

proxies = pytest.mark.parametrize("proxy", BOTH)
ALPN = "ssl verify none alpn h2,http/1.1,http/1.0"
NO_ERROR, PROTOCOL_ERROR, REFUSED, CANCEL, CALM, HTTP_1_REQUIRED = 0, 1, 7, 8, 11, 13
HEADER_TABLE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW = 1, 2, 3, 4


@contextlib.contextmanager
def serve(proxy: str, directory: Path, members: list[int], options: str = ALPN, **more: object) -> Iterator[int]:
    """The listener's port."""
    port = free_port()
    text = pool_text(port, [f"127.0.0.1:{one} weight 1 {options}" for one in members], **more)  # type: ignore[arg-type]
    # connections to members belong to a thread; with one of them it is known which may be shared
    with run_pool(proxy, directory, text, "--threads", "1"):
        yield port


def read_either(client: Http2Client, peer: Http2Peer) -> None:
    """Waits for bytes from either side of the proxy and takes them."""
    ready = [peer.socket] if peer.socket.pending() else select.select([client.socket, peer.socket], [], [], 10.0)[0]
    assert ready, "neither side of the proxy has anything to say"
    (client if ready[0] is client.socket else peer).read()
