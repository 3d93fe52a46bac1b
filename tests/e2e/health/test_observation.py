"""What live traffic shows of members: ejection, checks at once, slow start. Options of the operator."""

from __future__ import annotations

import collections
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from amphorad.demo.member import MemberProcess
from tests.e2e.health.test_monitor import get, is_down, seen, server
from tests.support.lb_file import lb_file, listener, member
from tests.support.proxy_headers import refusing_port
from tests.support.scripted_member import ScriptedMember, echo, echoes, http_answer, read_head, read_response
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def fails(connection: socket.socket) -> None:
    """A script that answers every request 500."""
    while read_head(connection):
        connection.sendall(http_answer(b"no").replace(b"200 OK", b"500 Internal Server Error"))


def fails_every_other_time(connection: socket.socket) -> None:
    while read_head(connection):
        connection.sendall(http_answer(b"yes"))
        if read_head(connection):
            connection.sendall(http_answer(b"no").replace(b"200 OK", b"500 Internal Server Error"))


@pytest.fixture
def banana() -> Iterator[MemberProcess]:
    process = MemberProcess("banana", 0.0)
    process.start()
    yield process
    process.kill()


def test_member_that_refuses_is_ejected_and_let_in_again(tmp_path: Path, banana: MemberProcess) -> None:
    port = free_port()
    with refusing_port() as refusing:
        text = lb_file(listener("web", port, [member(refusing, name="apple"), server(banana, "")], mode="http"))
        with Served(tmp_path, text, "--eject-after", "3", "--ejection-time", "5", "--threads", "2") as served:
            answers = {get(port) for _request in range(20)}
            wait_until(lambda: is_down(served, "apple"))
            attempts = seen(served)["apple"]["counts"]["counters"]["connections"]
            answers |= {get(port) for _request in range(20)}
            assert seen(served)["apple"]["counts"]["counters"]["connections"] == attempts
            why = served.command("why", "member", "apple").stdout
            wait_until(lambda: not is_down(served, "apple"))
            log = wait_until(lambda: served.log if " is UP, " in served.log else None)

    assert answers == {(200, "banana")}
    assert 'Server web-pool:web/apple is DOWN, reason: Health analyze, info: "Detected' in log
    assert 'consecutive errors, last one was: L4 unsuccessful connection; out for 5 s". 1 active and 0 backup' in log
    assert "Server web-pool:web/apple is UP, Its time out of the balancing is over" in log
    assert "DOWN, Health analyze, info:" in why


def test_member_that_answers_5xx_is_ejected(tmp_path: Path, banana: MemberProcess) -> None:
    port = free_port()
    with ScriptedMember(fails) as failing:
        text = lb_file(listener("web", port, [member(failing.port, name="apple"), server(banana, "")], mode="http"))
        with Served(tmp_path, text, "--eject-after", "3", "--ejection-time", "60") as served:
            before = [get(port)[0] for _request in range(6)]
            wait_until(lambda: is_down(served, "apple"))
            after = [get(port)[0] for _request in range(6)]

    assert sorted(set(before)) == [200, 500]
    assert after == [200] * 6


def test_5xx_among_good_answers_ejects_nobody(tmp_path: Path, banana: MemberProcess) -> None:
    port = free_port()
    with ScriptedMember(fails_every_other_time) as either:
        text = lb_file(listener("web", port, [member(either.port, name="apple"), server(banana, "")], mode="http"))
        with Served(tmp_path, text, "--eject-after", "3") as served:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                for _request in range(24):
                    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    read_response(client)
            with pytest.raises(AssertionError, match="in vain"), limited_patience(1.0):
                wait_until(lambda: is_down(served, "apple"))


@contextlib.contextmanager
def limited_patience(seconds: float) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.support.served.WAIT_S", seconds)
        yield


def test_tcp_member_that_refuses_is_ejected_and_no_client_notices(tmp_path: Path) -> None:
    port = free_port()
    with refusing_port() as refusing, ScriptedMember(echo) as good:
        text = lb_file(listener("tcp", port, [member(refusing, name="apple"), member(good.port, name="banana")]))
        with Served(tmp_path, text, "--eject-after", "2") as served:
            for _connection in range(8):
                with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                    assert echoes(client)
            wait_until(lambda: is_down(served, "apple"))


def test_refused_connection_has_the_member_checked_at_once(tmp_path: Path, banana: MemberProcess) -> None:
    """Its own next check is an hour away."""
    port = free_port()
    check = " check inter 3600s fall 1 rise 1"
    monitor = "    timeout check 1s\n"
    apple = MemberProcess("apple", 0.0)
    apple.start()
    try:
        lines = [server(apple, check), server(banana, check)]
        text = lb_file(listener("web", port, lines, mode="http", monitor=monitor))
        with Served(tmp_path, text, "--check-on-failure") as served:
            get(port)
            apple.kill()
            answers = {get(port) for _request in range(8)}
            wait_until(lambda: is_down(served, "apple"))
            assert seen(served)["apple"]["check"]["code"] == "L4CON"
        assert answers == {(200, "banana")}
    finally:
        apple.kill()


def test_member_that_comes_back_gets_its_share_slowly(tmp_path: Path, banana: MemberProcess) -> None:
    port = free_port()
    check = " check inter 1s fall 1 rise 1"
    monitor = "    timeout check 1s\n"
    apple = MemberProcess("apple", 0.0)
    apple.start()
    try:
        lines = [server(apple, check), server(banana, check)]
        text = lb_file(listener("web", port, lines, mode="http", monitor=monitor))
        with Served(tmp_path, text, "--slow-start", "3600", "--threads", "1") as served:
            wait_until(lambda: (seen(served)["apple"]["check"] or {}).get("checks"))
            at_first = collections.Counter(get(port)[1] for _request in range(40))
            apple.kill()
            wait_until(lambda: is_down(served, "apple"))
            apple.start()
            wait_until(lambda: not is_down(served, "apple"))
            returned = collections.Counter(get(port)[1] for _request in range(110))
    finally:
        apple.kill()

    assert at_first == {"apple": 20, "banana": 20}
    assert 8 <= returned["apple"] <= 12  # a tenth of the other's
