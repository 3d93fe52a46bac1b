"""Stick tables of a pair: amphorad beside the real HAProxy both ways, and beside itself (Octavia contract section 4.5)."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import octavia_render as render
from tests.support.peer_pair import HAProxyPeer, PeerPair
from tests.support.persistence_rig import ask
from tests.support.served import Served, wait_until

if TYPE_CHECKING:
    from pathlib import Path

render.require_octavia()
pytestmark = pytest.mark.timeout(120)

OTHER = ("amphorad", pytest.param("haproxy", marks=pytest.mark.haproxy))


def knows(pair: PeerPair, which: int, owners: dict[int, str]) -> bool:
    """Whether that side sends every client to its member. An unknown one is balanced, which could be right by chance, so
    each is asked often enough to tell."""
    return all(pair.return_of(which, client) == owner for client, owner in owners.items() for _ in range(3))


@pytest.mark.parametrize("other", OTHER)
def test_clients_of_either_side_are_known_at_the_other(tmp_path: Path, other: str) -> None:
    with PeerPair(tmp_path, "APP_COOKIE") as pair:
        pair.start(0, "amphorad")
        pair.start(1, other)

        first = {client: pair.learn(0, client) for client in range(7)}
        wait_until(lambda: knows(pair, 1, first))
        second = {client: pair.learn(1, client) for client in range(7, 12)}
        wait_until(lambda: knows(pair, 0, second))


@pytest.mark.parametrize("other", OTHER)
def test_address_learned_by_one_side_is_known_at_the_other(tmp_path: Path, other: str) -> None:
    with PeerPair(tmp_path, "SOURCE_IP") as pair:
        pair.start(1, other)
        ask(pair.ports[1])
        ask(pair.ports[1])
        pair.start(0, "amphorad")
        owner = ask(pair.ports[1]).member

        wait_until(lambda: {ask(pair.ports[0]).member for _ in range(3)} == {owner})


@pytest.mark.parametrize("other", OTHER)
def test_side_that_starts_later_is_taught_everything(tmp_path: Path, other: str) -> None:
    with PeerPair(tmp_path, "APP_COOKIE") as pair:
        pair.start(0, "amphorad")
        owners = {client: pair.learn(0, client) for client in range(20)}
        pair.start(1, other)
        wait_until(lambda: knows(pair, 1, owners))


@pytest.mark.parametrize("other", OTHER)
def test_side_that_lost_its_table_is_taught_again(tmp_path: Path, other: str) -> None:
    with PeerPair(tmp_path, "APP_COOKIE") as pair:
        pair.start(0, other)
        pair.start(1, "amphorad")
        owners = {client: pair.learn(0, client) for client in range(20)}
        wait_until(lambda: knows(pair, 1, owners))

        pair.stop(0)
        more = {client: pair.learn(1, client) for client in range(20, 25)}
        pair.start(0, other)

        wait_until(lambda: knows(pair, 0, owners | more))


def test_killed_data_plane_connects_again_and_goes_on(tmp_path: Path) -> None:
    with PeerPair(tmp_path, "APP_COOKIE") as pair:
        pair.start(0, "amphorad")
        pair.start(1, "amphorad")
        owners = {0: pair.learn(0, 0)}
        wait_until(lambda: knows(pair, 1, owners))
        served = pair.running[0]
        assert isinstance(served, Served)
        first = served.data_plane

        os.kill(first, signal.SIGKILL)
        wait_until(lambda: served.data_plane not in (0, first))

        owners |= {1: pair.learn(0, 1), 2: pair.learn(1, 2)}
        wait_until(lambda: knows(pair, 0, owners) and knows(pair, 1, owners))


def peer_seen_by(served: Served, name: str) -> dict[str, Any]:
    """The status of a peer; UNKNOWN until the data plane has told of it."""
    return next((dict(peer) for peer in served.status()["peers"] if peer["name"] == name), {"state": "UNKNOWN"})


def test_status_tells_of_peers(tmp_path: Path) -> None:
    with PeerPair(tmp_path, "APP_COOKIE") as pair:
        pair.start(0, "amphorad")
        served = pair.running[0]
        assert isinstance(served, Served)
        wait_until(lambda: peer_seen_by(served, pair.names[0])["state"] == "LOCAL")
        assert peer_seen_by(served, pair.names[1])["state"] == "DOWN"

        pair.start(1, "amphorad")
        wait_until(lambda: peer_seen_by(served, pair.names[1])["state"] == "CONNECTED")
        pair.learn(0, 0)
        wait_until(lambda: peer_seen_by(served, pair.names[1])["told"] >= 1)
        text = served.command("status").stdout
        pair.stop(1)
        wait_until(lambda: peer_seen_by(served, pair.names[1])["state"] == "DOWN")

    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith(("peer", *pair.names))}
    assert lines["peer"] == ["peer", "address", "state", "connects", "learned", "told"]
    assert lines[pair.names[0]][1:3] == [f"127.0.0.1:{pair.peer_ports[0]}", "LOCAL"]
    assert lines[pair.names[1]][1:3] == [f"127.0.0.1:{pair.peer_ports[1]}", "CONNECTED"]


def test_adopted_data_plane_keeps_its_peers(tmp_path: Path) -> None:
    with PeerPair(tmp_path, "APP_COOKIE") as pair:
        pair.start(0, "amphorad", "--survive")
        pair.start(1, "amphorad")
        other = pair.running[1]
        assert isinstance(other, Served)
        wait_until(lambda: peer_seen_by(other, pair.names[0])["state"] == "CONNECTED")
        before = peer_seen_by(other, pair.names[0])
        first = pair.running[0]
        assert isinstance(first, Served)
        pid = first.data_plane

        first.process.kill()
        first.process.wait()
        owners = {client: pair.learn(0, client) for client in range(5)}
        first.__exit__()
        pair.start(0, "amphorad", "--survive")
        second = pair.running[0]
        assert isinstance(second, Served)

        assert second.data_plane == pid
        wait_until(lambda: knows(pair, 1, owners))
        after = peer_seen_by(other, pair.names[0])
        assert (after["connects"], after["since"]) == (before["connects"], before["since"])


def test_successor_of_a_data_plane_takes_its_peers_over(tmp_path: Path) -> None:
    with PeerPair(tmp_path, "APP_COOKIE") as pair:
        pair.start(0, "amphorad", "--survive")
        pair.start(1, "amphorad")
        owners = {client: pair.learn(0, client) for client in range(5)}
        wait_until(lambda: knows(pair, 1, owners))
        first, other = pair.running
        assert isinstance(first, Served)
        assert isinstance(other, Served)
        pid = first.data_plane

        first.process.kill()
        first.process.wait()
        first.__exit__()
        pair.start(0, "amphorad", "--survive", "--threads", "1")  # others than before: the old one hands over
        second = pair.running[0]
        assert isinstance(second, Served)

        assert second.data_plane != pid
        wait_until(lambda: peer_seen_by(other, pair.names[0])["state"] == "CONNECTED")
        wait_until(lambda: peer_seen_by(second, pair.names[0])["state"] == "LOCAL")
        owners |= {10: pair.learn(1, 10), 11: pair.learn(0, 11)}
        wait_until(lambda: knows(pair, 0, owners) and knows(pair, 1, owners))
        assert not [text for text in second.status()["alarms"] if "listen" in text]


def test_peers_port_full_of_silent_strangers_is_free_again(tmp_path: Path) -> None:
    with PeerPair(tmp_path, "APP_COOKIE") as pair, contextlib.ExitStack() as stack:
        pair.start(0, "amphorad")
        for _stranger in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", pair.peer_ports[0]), timeout=10))
        pair.start(1, "amphorad")
        owners = {client: pair.learn(1, client) for client in range(5)}

        wait_until(lambda: knows(pair, 0, owners))


@pytest.mark.haproxy
def test_ten_thousand_entries_of_haproxy_are_learned_and_taught_back(tmp_path: Path) -> None:
    with PeerPair(tmp_path, "APP_COOKIE") as pair:
        pair.start(1, "haproxy")
        haproxy = pair.running[1]
        assert isinstance(haproxy, HAProxyPeer)
        for start in range(0, 10_000, 250):
            haproxy.command(
                ";".join(f"set table p:l key c{n} data.server_id {n % 3 + 1}" for n in range(start, start + 250))
            )
        assert "used:10000" in haproxy.command("show table p:l")

        pair.start(0, "amphorad")
        sample = {client: f"m{client % 3 + 1}" for client in random.Random(1).sample(range(10_000), 40)}
        wait_until(lambda: knows(pair, 0, sample))

        pair.stop(1)
        pair.start(1, "haproxy")
        again = pair.running[1]
        assert isinstance(again, HAProxyPeer)
        wait_until(lambda: "used:10000" in again.command("show table p:l"))
        assert knows(pair, 1, sample)


GARBAGE = [
    (b"", b""),
    (b"GET / HTTP/1.1\r\n\r\n", b"501\n"),
    (b"HAProxyS 3.0\nx\ny 1 1\n", b"501\n"),
    (b"HAProxyS 2.7\nx\ny 1 1\n", b"502\n"),
    (b"HAProxyS 2.1\nnobody\ny 1 1\n", b"503\n"),
    (b"HAProxyS 2.1\n{local}\nnobody 1 1\n", b"504\n"),
    (b"HAProxyS 2.1\n{local}\n{remote}\n", b"501\n"),
    (b"HAProxyS 2.1\n" + b"x" * 5000, b"501\n"),
    (b"HAProxyS 2.1\n{local}\n{remote} 1 1\n\xff\x00", b"200\n"),
    (b"HAProxyS 2.1\n{local}\n{remote} 1 1\n\x0a\x80\xff\xff\xff\xff\x00", b"200\n"),
    (b"HAProxyS 2.1\n{local}\n{remote} 1 1\n\x0a\x82\x05\x01\xf0\x00\x00\x00", b"200\n"),
]


def test_garbage_is_answered_closed_and_reported_once(tmp_path: Path) -> None:
    with PeerPair(tmp_path, "APP_COOKIE") as pair:
        pair.start(0, "amphorad")
        served = pair.running[0]
        assert isinstance(served, Served)

        for sent, status in GARBAGE:
            with socket.create_connection(("127.0.0.1", pair.peer_ports[0]), timeout=10) as stranger:
                names = {b"{local}": pair.names[0].encode(), b"{remote}": pair.names[1].encode()}
                for word, name in names.items():
                    sent = sent.replace(word, name)
                stranger.sendall(sent)
                stranger.shutdown(socket.SHUT_WR)
                answer = b""
                while part := stranger.recv(4096):
                    answer += part
            assert answer.startswith(status), sent

        alarms = [text for text in served.status()["alarms"] if "closed" in text]
        assert len(alarms) == 1
        assert pair.learn(0, 1) == pair.return_of(0, 1)
