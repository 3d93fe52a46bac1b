"""Which member gets a session, seen from outside: order, shares, weights, backups, least connections, source hash."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import ScriptedMember, connect, get, http_member
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


def introduce(name: str) -> Callable[[socket.socket], None]:
    """A TCP script that says its one-letter name and then waits for the end."""

    def script(connection: socket.socket) -> None:
        connection.sendall(name.encode())
        connection.recv(1)

    return script


@pytest.fixture
def tcp_ports() -> Iterator[list[int]]:
    """Members a, b, c, d that say their name."""
    with ExitStack() as stack:
        yield [stack.enter_context(ScriptedMember(introduce(name))).port for name in "abcd"]


@pytest.fixture
def http_ports() -> Iterator[list[int]]:
    """Members a, b, c that answer with their name."""
    with ExitStack() as stack:
        yield [stack.enter_context(ScriptedMember(http_member(name.encode()))).port for name in "abc"]


def names_of(port: int, count: int, *, source: str | None = None) -> str:
    """The members of that many sessions, one after the other."""
    names = ""
    for _session in range(count):
        with connect(port, source=source) as client:
            names += client.recv(1).decode()
    return names


def serve(tmp_path: Path, port: int, members: Sequence[str], *, threads: int = 1, **fields: str) -> Served:
    return Served(tmp_path, lb_file(listener("lb", port, members, **fields)), "--threads", str(threads))


def test_round_robin_order_is_exact(tmp_path: Path, tcp_ports: list[int]) -> None:
    port = free_port()
    with serve(tmp_path, port, [member(each) for each in tcp_ports[:3]]):
        assert names_of(port, 12) == "abc" * 4


def test_round_robin_totals_are_exact_over_threads_and_connections(tmp_path: Path, http_ports: list[int]) -> None:
    """300 requests of 10 clients at once over 2 threads: 100 each."""
    port = free_port()

    def ask(_client: int) -> list[bytes]:
        with connect(port) as client:
            return [get(client) for _request in range(30)]

    with (
        serve(tmp_path, port, [member(each) for each in http_ports], threads=2, mode="http") as served,
        served.ask() as admin,
        ThreadPoolExecutor(10) as pool,
    ):
        answers = Counter(answer for answers in pool.map(ask, range(10)) for answer in answers)

        assert answers == {b"200 a": 100, b"200 b": 100, b"200 c": 100}
        wait_until(lambda: admin.status().listeners[0].counts.current == 0)
        counted = [each.counts["responses_2xx"] for each in admin.status().listeners[0].pools[0].members]
        assert counted == [100, 100, 100]


def test_weights_give_shares_without_runs(tmp_path: Path, tcp_ports: list[int]) -> None:
    port = free_port()
    weights = (5, 1, 1)
    with serve(tmp_path, port, [member(each, weight=w) for each, w in zip(tcp_ports, weights, strict=False)]):
        names = names_of(port, 21)

    assert Counter(names) == {"a": 15, "b": 3, "c": 3}
    assert "aaaaa" not in names
    assert "bb" not in names


def test_weights_are_exact_over_threads(tmp_path: Path, http_ports: list[int]) -> None:
    port = free_port()
    weights = (3, 2, 1)

    def ask(_client: int) -> list[bytes]:
        with connect(port) as client:
            return [get(client) for _request in range(30)]

    members = [member(each, weight=weight) for each, weight in zip(http_ports, weights, strict=True)]
    with serve(tmp_path, port, members, threads=2, mode="http"), ThreadPoolExecutor(4) as pool:
        answers = Counter(answer for answers in pool.map(ask, range(4)) for answer in answers)

    assert answers == {b"200 a": 60, b"200 b": 40, b"200 c": 20}


def test_weight_zero_gets_no_new_session(tmp_path: Path, tcp_ports: list[int]) -> None:
    port = free_port()
    with serve(tmp_path, port, [member(tcp_ports[0], weight=0), member(tcp_ports[1])]):
        assert names_of(port, 4) == "bbbb"


def test_disabled_member_gets_nothing(tmp_path: Path, tcp_ports: list[int]) -> None:
    port = free_port()
    members = [member(tcp_ports[0]), member(tcp_ports[1], disabled=True), member(tcp_ports[2])]
    with serve(tmp_path, port, members) as served, served.ask() as admin:
        assert names_of(port, 6) == "acacac"
        assert [each.state for each in admin.status().listeners[0].pools[0].members] == [
            "NO CHECK",
            "MAINT",
            "NO CHECK",
        ]


def test_every_member_disabled_or_without_weight_closes_at_once(tmp_path: Path, tcp_ports: list[int]) -> None:
    port = free_port()
    with serve(tmp_path, port, [member(tcp_ports[0], disabled=True), member(tcp_ports[1], weight=0)]):
        assert names_of(port, 2) == ""


def test_backups_get_nothing_while_a_normal_member_is_usable(tmp_path: Path, tcp_ports: list[int]) -> None:
    port = free_port()
    members = [member(tcp_ports[0]), *(member(each, backup=True) for each in tcp_ports[1:])]
    with serve(tmp_path, port, members):
        assert names_of(port, 6) == "aaaaaa"


@pytest.mark.parametrize("unusable", [{"disabled": True}, {"weight": 0}])
def test_backups_all_serve_when_no_normal_member_is_usable(
    tmp_path: Path, tcp_ports: list[int], unusable: dict[str, bool]
) -> None:
    """`option allbackups`."""
    port = free_port()
    members = [member(tcp_ports[0], **unusable), *(member(each, backup=True) for each in tcp_ports[1:])]
    with serve(tmp_path, port, members):
        assert Counter(names_of(port, 9)) == {"b": 3, "c": 3, "d": 3}


def test_normal_member_that_comes_back_replaces_the_backups(tmp_path: Path, tcp_ports: list[int]) -> None:
    port = free_port()
    backup = member(tcp_ports[1], backup=True)
    with serve(tmp_path, port, [member(tcp_ports[0], disabled=True), backup]) as served, served.ask() as admin:
        assert names_of(port, 2) == "bb"

        admin.apply(lb_file(listener("lb", port, [member(tcp_ports[0]), backup])), "lb.cfg")

        assert names_of(port, 2) == "aa"


def test_least_connections_fills_the_least_busy_member(tmp_path: Path, tcp_ports: list[int]) -> None:
    port = free_port()
    members = [member(each) for each in tcp_ports[:3]]
    with serve(tmp_path, port, members, balance="leastconn", threads=2) as served, ExitStack() as stack:
        admin = stack.enter_context(served.ask())
        held = []
        for _session in range(6):
            client = stack.enter_context(connect(port))
            held.append((client.recv(1).decode(), client))
        assert Counter(name for name, _client in held) == {"a": 2, "b": 2, "c": 2}

        for name, client in held:
            if name == "b":
                client.close()
        wait_until(lambda: admin.status().listeners[0].counts.current == 4)
        fresh = []
        for _session in range(2):
            client = stack.enter_context(connect(port))
            fresh.append(client.recv(1))

        assert fresh == [b"b", b"b"]


def test_least_connections_respects_weights(tmp_path: Path, tcp_ports: list[int]) -> None:
    port = free_port()
    members = [member(tcp_ports[0], weight=3), member(tcp_ports[1], weight=1)]
    with serve(tmp_path, port, members, balance="leastconn"), ExitStack() as stack:
        names = [stack.enter_context(connect(port)).recv(1) for _session in range(8)]

    assert Counter(names) == {b"a": 6, b"b": 2}


def test_source_hash_keeps_a_client_address_on_its_member(tmp_path: Path, tcp_ports: list[int]) -> None:
    port = free_port()
    members = [member(each) for each in tcp_ports]
    text = lb_file(listener("lb", port, members, balance="source"))
    with Served(tmp_path, text) as served, served.ask() as admin:
        addresses = [f"127.0.0.{number}" for number in range(2, 18)]
        first = {address: names_of(port, 3, source=address) for address in addresses}

        assert all(len(set(names)) == 1 for names in first.values())
        assert len(set(first.values())) > 1
        # and over an apply that changes something else
        admin.apply(lb_file(listener("lb", port, members, balance="source", client_ms=40000)), "lb.cfg")
        assert {address: names_of(port, 3, source=address) for address in addresses} == first


def test_rotation_goes_on_where_it_was_after_an_apply(tmp_path: Path, tcp_ports: list[int]) -> None:
    port = free_port()
    members = [member(each) for each in tcp_ports[:3]]
    with serve(tmp_path, port, members) as served, served.ask() as admin:
        assert names_of(port, 4) == "abca"

        admin.apply(lb_file(listener("lb", port, members, server_ms=40000)), "lb.cfg")

        assert names_of(port, 4) == "bcab"
