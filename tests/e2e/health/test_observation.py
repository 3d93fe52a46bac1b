"""Passive observation and slow start of a running load balancer: what clients, the status, the log and `why` see."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from amphorad.demo.member import MemberProcess
from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import ScriptedMember, connect, echo, echoes, http_answer, http_member, read_head
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MONITOR = "    timeout check 1s\n    option httpchk GET /health\n    http-check expect rstatus 200\n"


def get(port: int) -> int:
    """The status of one request on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := client.recv(65536):
            answer += data
    return int(answer[9:12])


def members(served: Served) -> dict[str, dict[str, Any]]:
    with served.ask() as admin:
        status: dict[str, Any] = msgspec.to_builtins(admin.status())
    return {each["id"]: each for each in status["listeners"][0]["pools"][0]["members"]}


def is_ejected(served: Served, name: str) -> bool:
    exclusion = members(served)[name]["exclusion"]
    return bool(exclusion and exclusion["ejected_until"])


def failing(connection: socket.socket) -> None:
    read_head(connection)
    connection.sendall(http_answer(b"no", status="500 Internal Server Error"))


@pytest.fixture
def refusing() -> Iterator[int]:
    """A port that refuses connections, and that nobody else gets."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def text(port: int, *lines: str, mode: str = "http", monitor: str = "") -> str:
    return lb_file(listener("web", port, lines, mode=mode, monitor=monitor))


def test_member_that_refuses_is_ejected(tmp_path: Path, refusing: int) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as good, ExitStack() as stack:
        lines = (member(good.port, name="good"), member(refusing, name="bad"))
        served = stack.enter_context(Served(tmp_path, text(port, *lines), "--observe", "connects=3,eject_s=600"))
        statuses = [get(port) for _request in range(8)]
        wait_until(lambda: is_ejected(served, "bad"))
        why = served.command("why", "member", "bad").stdout
        shown = served.command("status").stdout
        refused = members(served)["bad"]["counts"]["counters"]["connect_errors"]
        statuses += [get(port) for _request in range(20)]
        refused_meanwhile = members(served)["bad"]["counts"]["counters"]["connect_errors"] - refused

    assert set(statuses) == {200}
    assert refused_meanwhile == 0
    assert "gets no new clients: it is ejected for another 9m" in why
    assert "too many in a row of connections to it failed" in why
    assert "NO CHECK ejected" in shown


def test_ejected_member_comes_back(tmp_path: Path, refusing: int) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as good, ExitStack() as stack:
        lines = (member(good.port, name="good"), member(refusing, name="bad"))
        served = stack.enter_context(Served(tmp_path, text(port, *lines), "--observe", "connects=3,eject_s=0.5"))
        statuses = [get(port) for _request in range(8)]
        log = wait_until(lambda: served.log if "bad is returned" in served.log else None)
        wait_until(lambda: members(served)["bad"]["exclusion"] is None)
        history = members(served)["bad"]["history"]

    assert set(statuses) == {200}
    assert [(change["what"], change["up"]) for change in history] == [("ejected", False), ("returned", True)]
    assert "Server web-pool:web/bad is ejected, reason: " in log
    assert " connections in a row failed, ejected for 0.5 s." in log


def test_member_that_answers_5xx_is_ejected_and_the_last_one_never_is(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(failing) as first, ScriptedMember(failing) as second, ExitStack() as stack:
        lines = (member(first.port, name="a"), member(second.port, name="b"))
        options = ("--observe", "errors=4,eject_s=600,share=100", "--http-reuse", "never")
        served = stack.enter_context(Served(tmp_path, text(port, *lines), *options))
        statuses = [get(port) for _request in range(10)]
        wait_until(lambda: is_ejected(served, "a") or is_ejected(served, "b"))
        statuses += [get(port) for _request in range(20)]
        ejected = [name for name in "ab" if is_ejected(served, name)]
        log = served.log

    assert set(statuses) == {500}
    assert len(ejected) == 1
    assert log.count(" is ejected, reason: ") == 1
    assert " responses in a row were 5xx or broken off" in log


def test_response_in_between_that_is_good_ejects_nobody(tmp_path: Path) -> None:
    port = free_port()
    turns = iter(range(1000))

    def alternating(connection: socket.socket) -> None:
        read_head(connection)
        status = "500 Internal Server Error" if next(turns) % 3 else "200 OK"
        connection.sendall(http_answer(b"x", status=status))

    with ScriptedMember(alternating) as moody, ScriptedMember(http_member()) as good, ExitStack() as stack:
        lines = (member(moody.port, name="moody"), member(good.port, name="good"))
        options = ("--observe", "errors=3", "--http-reuse", "never")
        served = stack.enter_context(Served(tmp_path, text(port, *lines), *options))
        statuses = [get(port) for _request in range(40)]
        ejected = is_ejected(served, "moody")

    assert statuses.count(500) > 10
    assert not ejected


def test_tcp_member_that_refuses_is_ejected_too(tmp_path: Path, refusing: int) -> None:
    port = free_port()
    with ScriptedMember(echo) as good, ExitStack() as stack:
        lines = (member(good.port, name="good"), member(refusing, name="bad"))
        served = stack.enter_context(
            Served(tmp_path, text(port, *lines, mode="tcp"), "--observe", "connects=2,eject_s=600")
        )
        for _session in range(10):
            with connect(port) as client:
                assert echoes(client)
        wait_until(lambda: is_ejected(served, "bad"))


def test_without_the_option_nobody_is_ejected(tmp_path: Path, refusing: int) -> None:
    port = free_port()
    with ScriptedMember(http_member()) as good, ExitStack() as stack:
        lines = (member(good.port, name="good"), member(refusing, name="bad"))
        served = stack.enter_context(Served(tmp_path, text(port, *lines)))
        statuses = [get(port) for _request in range(30)]
        bad = members(served)["bad"]

    assert set(statuses) == {200}
    assert bad["counts"]["counters"]["connect_errors"] > 5
    assert bad["exclusion"] is None


def test_failed_connection_has_the_member_checked_at_once(tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        started = [MemberProcess(name, 0.0) for name in ("apple", "banana")]
        for each in started:
            each.start()
            stack.callback(each.kill)
        lines = [
            member(each.port, name=each.name).rstrip("\n") + " check inter 600s fall 1 rise 1\n" for each in started
        ]
        served = stack.enter_context(
            Served(tmp_path, text(port, *lines, monitor=MONITOR), "--observe", "connects=0,errors=0")
        )
        wait_until(lambda: (members(served)["apple"]["check"] or {}).get("checks"))
        started[0].kill()
        statuses = [get(port) for _request in range(4)]
        down = wait_until(lambda: members(served)["apple"]["state"] == "DOWN")

    assert set(statuses) == {200}
    assert down


def test_member_that_comes_back_gets_its_share_little_by_little(tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        started = [MemberProcess(name, 0.0) for name in ("apple", "banana")]
        for each in started:
            each.start()
            stack.callback(each.kill)
        lines = [member(each.port, name=each.name).rstrip("\n") + " check inter 1s fall 1 rise 1\n" for each in started]
        served = stack.enter_context(Served(tmp_path, text(port, *lines, monitor=MONITOR), "--slow-start", "600"))
        wait_until(lambda: (members(served)["apple"]["check"] or {}).get("checks"))
        at_first = members(served)["apple"]["exclusion"]
        started[0].kill()
        wait_until(lambda: members(served)["apple"]["state"] == "DOWN")
        started[0].start()
        wait_until(lambda: members(served)["apple"]["state"] == "UP")
        before = members(served)
        for _request in range(100):
            assert get(port) == 200
        after = members(served)
        why = served.command("why", "member", "apple").stdout

    share = after["apple"]["counts"]["counters"]["requests"] - before["apple"]["counts"]["counters"]["requests"]
    assert at_first is None
    assert after["apple"]["exclusion"]["percent"] == 5
    assert 1 <= share <= 10  # 5 : 100
    assert "but only 5 % of its weight so far: it came back and is in its slow start" in why
    assert "about 5 % of what comes" in why
