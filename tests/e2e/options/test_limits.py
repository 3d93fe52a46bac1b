"""Rate limits of the operator, per client and per listener."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import (
    ScriptedMember,
    connect,
    echo,
    echoes,
    get,
    http_member,
    read_head,
    still_echoes,
)
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    from pathlib import Path


def counters(served: Served) -> dict[str, int]:
    found: dict[str, int] = served.status()["listeners"][0]["counts"]["counters"]
    return found


def test_request_beyond_the_limit_is_answered_429_and_the_connection_goes_on(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as apple:
        text = lb_file(listener("web", port, [member(apple.port)], mode="http"))
        options = ("--source-rate", "0.001", "--source-burst", "3", "--threads", "1")
        with (
            Served(tmp_path, text, *options) as served,
            connect(port) as client,
            connect(port, source="127.0.0.2") as other,
        ):
            answers = [get(client) for _request in range(5)]
            of_other = get(other)
            denied = counters(served)["denied"]
            log = wait_until(lambda: served.log if "rate limit" in served.log else None)

    assert answers[:3] == [b"200 ok"] * 3
    assert answers[3] == answers[4]
    assert answers[3].startswith(b"429 <html><body><h1>429 Too Many Requests</h1>\n")
    assert of_other == b"200 ok"
    assert denied == 2
    assert "listener web: beyond its rate limit" in log


def test_limit_holds_over_all_threads_and_through_an_apply(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as apple:
        text = lb_file(listener("web", port, [member(apple.port)], mode="http"))
        with Served(tmp_path, text, "--source-rate", "0.001", "--source-burst", "10", "--threads", "4") as served:
            answers = []
            for number in range(24):
                if number == 12:
                    assert served.apply(text.replace("weight 1", "weight 2")).returncode == 0
                with connect(port) as client:
                    answers.append(get(client)[:3])

    assert answers == [b"200"] * 10 + [b"429"] * 14


def test_limit_of_a_listener_counts_all_clients(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as apple:
        text = lb_file(listener("web", port, [member(apple.port)], mode="http"))
        with Served(tmp_path, text, "--listener-rate", "0.001", "--listener-burst", "2"):
            answers = []
            for number in range(4):
                with connect(port, source=f"127.0.0.{number + 1}") as client:
                    answers.append(get(client)[:3])

    assert answers == [b"200", b"200", b"429", b"429"]


def test_request_with_a_body_beyond_the_limit_leaves_no_byte_behind(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as apple:
        text = lb_file(listener("web", port, [member(apple.port)], mode="http"))
        with Served(tmp_path, text, "--source-rate", "0.001", "--source-burst", "1"), connect(port) as client:
            get(client)
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 10)
            head = read_head(client)
            client.shutdown(socket.SHUT_WR)

    assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"connection: close\r\n" in head


def test_tcp_connection_beyond_the_limit_is_closed(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as apple:
        text = lb_file(listener("tcp", port, [member(apple.port)]))
        with (
            Served(tmp_path, text, "--source-rate", "0.001", "--source-burst", "1") as served,
            connect(port) as first,
            connect(port) as second,
            connect(port, source="127.0.0.2") as other,
        ):
            # which of the two was accepted first depends on the threads
            assert sorted(still_echoes(client) for client in (first, second)) == [False, True]
            assert echoes(other)
            assert counters(served)["denied"] == 1
            assert apple.sessions == 2
