"""What goes together in one TCP segment: the ticket of TLS 1.3 with the first answer, the last answer with the connection's end."""

from __future__ import annotations

import select
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from tests.support.tls_rig import Answer, TlsRig, run_tls_rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

INFO_BYTES = 160
DATA_SEGMENTS_IN_AT = 152  # tcpi_data_segs_in of struct tcp_info, linux/tcp.h


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[TlsRig]:
    found = TlsRig(tmp_path)
    with run_tls_rig(
        "amphorad", found, f"ssl crt-list {found.write_list(found.authority.issue('default'))}"
    ) as running:
        yield running


def _data_segments(connection: socket.socket) -> int:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
    count: int = struct.unpack_from("I", info, DATA_SEGMENTS_IN_AT)[0]
    return count


def test_ticket_answer_and_end_are_one_segment(rig: TlsRig) -> None:
    with rig.connect() as connection:
        assert _data_segments(connection) == 1

        assert rig.ask(connection, extra="Connection: close\r\n").status == 200
        assert connection.recv(1) == b""  # with close_notify: the context does not take a bare end for one

        assert _data_segments(connection) == 2
        assert connection.session.has_ticket


def test_answer_to_a_client_that_stays_is_not_held_back(rig: TlsRig) -> None:
    with rig.connect() as connection:
        for path in ("/", "/size/10", "/size/40000"):
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert select.select([connection], [], [], 10)[0]
            assert Answer.read(connection).status == 200


def test_client_that_asks_for_nothing_has_its_ticket_all_the_same(rig: TlsRig) -> None:
    with rig.connect() as connection:
        assert select.select([connection], [], [], 10)[0]
        connection.settimeout(0.05)
        with pytest.raises(TimeoutError):
            connection.recv(1)  # nothing but the ticket

        assert connection.session.has_ticket
