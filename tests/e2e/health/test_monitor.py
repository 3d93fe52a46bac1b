"""Health monitors of a running load balancer: what clients, the log and the status see."""

from __future__ import annotations

import os
import re
import signal
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from amphorad.demo.member import MemberProcess
from tests.support.lb_file import lb_file, listener, member
from tests.support.proxy_headers import refusing_port
from tests.support.served import Served, free_port, wait_until
from tests.support.traffic import Load, Members

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

HTTP = "    timeout check 1s\n    option httpchk GET /health\n    http-check expect rstatus {codes}\n"
CHECK = " check inter 1s fall 2 rise 1"


def web(name: str, port: int, members: Sequence[str], *, codes: str | None = "200") -> str:
    """A listener with a pool; `codes` None leaves the HTTP part of the monitor out."""
    monitor = HTTP.format(codes=codes) if codes else "    timeout check 1s\n"
    return listener(name, port, members, mode="http", monitor=monitor)


def server(process: MemberProcess, options: str = CHECK, weight: int = 1) -> str:
    return member(process.port, name=process.name, weight=weight).rstrip("\n") + options + "\n"


@pytest.fixture
def members() -> Iterator[list[MemberProcess]]:
    with ExitStack() as stack:
        started = [MemberProcess(name, 0.0) for name in ("apple", "banana")]
        for member in started:
            member.start()
            stack.callback(member.kill)
        yield started


def get(port: int) -> tuple[int, str]:
    """Status, and the member that answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := client.recv(65536):
            answer += data
    name = answer.partition(b"x-member: ")[2].partition(b"\r\n")[0].decode()
    return int(answer[9:12]), name


def seen(served: Served, listener: int = 0) -> dict[str, dict[str, Any]]:
    """The members of a listener's pool by name."""
    pool = served.status()["listeners"][listener]["pools"][0]
    return {member["id"]: member for member in pool["members"]}


def is_down(served: Served, name: str) -> bool:
    return bool(seen(served)[name]["state"] == "DOWN")


def test_killed_member_costs_no_request_is_down_and_comes_back(tmp_path: Path, members: list[MemberProcess]) -> None:
    apple, banana = members
    port = free_port()
    with Served(tmp_path, lb_file(web("web", port, [server(apple), server(banana)]))) as served:
        wait_until(lambda: (seen(served)["apple"]["check"] or {}).get("checks"))
        apple.kill()
        answers = [get(port) for _request in range(20)]
        wait_until(lambda: is_down(served, "apple"))
        down = seen(served)["apple"]
        why = served.command("why", "member", "apple").stdout
        why_not = served.command("why", "member", "nobody")
        answers += [get(port) for _request in range(10)]
        apple.start()
        wait_until(lambda: not is_down(served, "apple"))
        names = {get(port)[1] for _request in range(4)}
        history = seen(served)["apple"]["history"]
        log = wait_until(lambda: served.log if " is UP, " in served.log else None)

    assert {status for status, _name in answers} == {200}
    assert "said L4CON, Layer4 connection problem (Connection refused)" in why
    assert "gets no new clients: it is DOWN" in why
    assert (why_not.returncode, "there are: apple, banana" in why_not.stderr) == (6, True)
    assert down["check"]["text"] == "Layer4 connection problem"
    assert down["check"]["info"] == "Connection refused"
    assert names == {"apple", "banana"}
    assert [change["up"] for change in history] == [False, True]
    assert re.search(
        r'Server web-pool:web/apple is DOWN, reason: Layer4 connection problem, info: "Connection refused", '
        r"check duration: \d+ms\. 1 active and 0 backup servers left\. \d+ sessions active, 0 requeued, 0 remaining in queue\.",
        log,
    )
    assert "Server web-pool:web/apple is UP, reason: Layer7 check passed, code: 200, check duration: " in log


def test_backups_take_over_and_then_clients_get_503(tmp_path: Path, members: list[MemberProcess]) -> None:
    apple, banana = members
    port = free_port()
    lines = [server(apple), server(banana, CHECK + " backup")]
    with Served(tmp_path, lb_file(web("web", port, lines))) as served:
        before = get(port)
        apple.kill()
        wait_until(lambda: is_down(served, "apple"))
        on_backup = get(port)
        banana.kill()
        wait_until(lambda: is_down(served, "banana"))
        without = get(port)
        log = wait_until(lambda: served.log if "no server available" in served.log else None)

    assert before == (200, "apple")
    assert on_backup == (200, "banana")
    assert without[0] == 503
    assert "Running on backup." in log
    assert "backend web-pool:web has no server available!" in log


def test_member_down_before_the_data_plane_dies_stays_down(tmp_path: Path, members: list[MemberProcess]) -> None:
    apple, banana = members
    port = free_port()
    with Served(tmp_path, lb_file(web("web", port, [server(apple), server(banana)]))) as served:
        apple.kill()
        wait_until(lambda: is_down(served, "apple"))
        errors = seen(served)["apple"]["counts"]["counters"]["connect_errors"]
        pid = served.data_plane
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: served.data_plane not in (0, pid))
        answers = [get(port) for _request in range(10)]
        after = seen(served)["apple"]
        log = served.log

    assert set(answers) == {(200, "banana")}
    assert after["state"] == "DOWN"
    assert after["counts"]["counters"]["connect_errors"] == errors
    assert [change["up"] for change in after["history"]] == [False]
    assert log.count("apple is DOWN") == 1


def test_apply_disturbs_no_monitor_that_it_does_not_change(tmp_path: Path, members: list[MemberProcess]) -> None:
    apple, banana = members
    port = free_port()
    with Served(tmp_path, lb_file(web("web", port, [server(apple), server(banana)]))) as served:
        apple.kill()
        wait_until(lambda: is_down(served, "apple"))
        wait_until(lambda: seen(served)["banana"]["check"]["checks"] >= 2)
        checks = {name: member["check"]["checks"] for name, member in seen(served).items()}
        applied = served.apply(lb_file(web("web", port, [server(apple, weight=5), server(banana, weight=3)])))
        after = seen(served)

    assert applied.returncode == 0
    assert after["apple"]["state"] == "DOWN"
    assert after["apple"]["weight"] == 5
    assert all(member["check"]["checks"] >= checks[name] for name, member in after.items())


def test_two_pools_with_one_address_have_each_their_own_state(tmp_path: Path, members: list[MemberProcess]) -> None:
    apple = members[0]
    ports = free_port(), free_port()
    text = lb_file(web("good", ports[0], [server(apple)]), web("bad", ports[1], [server(apple)], codes="500|503"))
    with Served(tmp_path, text) as served:
        wait_until(lambda: seen(served, 1)["apple"]["state"] == "DOWN")
        good, bad = seen(served, 0)["apple"], seen(served, 1)["apple"]
        answers = get(ports[0])[0], get(ports[1])[0]

    assert good["state"] == "UP"
    assert (bad["check"]["code"], bad["check"]["status"]) == ("L7STS", 200)
    assert answers == (200, 503)


def test_monitor_that_is_taken_away_frees_its_members(tmp_path: Path, members: list[MemberProcess]) -> None:
    apple = members[0]
    port = free_port()
    with Served(tmp_path, lb_file(web("web", port, [server(apple)], codes="500"))) as served:
        wait_until(lambda: is_down(served, "apple"))
        served.apply(lb_file(listener("web", port, [server(apple, "")], mode="http")))
        free = seen(served)["apple"]
        answer = get(port)
        served.apply(lb_file(web("web", port, [server(apple)])))
        wait_until(lambda: seen(served)["apple"]["check"])
        again = seen(served)["apple"]

    assert (free["state"], free["check"]) == ("NO CHECK", None)
    assert answer == (200, "apple")
    assert again["state"] == "UP"


def test_ping_monitor_keeps_a_member_up_whose_port_is_dead(tmp_path: Path, members: list[MemberProcess]) -> None:
    apple = members[0]
    port = free_port()
    ping = (
        "    timeout check 1s\n    option external-check\n    external-check command /var/lib/octavia/ping-wrapper.sh\n"
    )
    with Served(tmp_path, lb_file(listener("web", port, [server(apple)], mode="http", monitor=ping))) as served:
        apple.kill()
        check = wait_until(lambda: seen(served)["apple"]["check"])
        state = seen(served)["apple"]["state"]

    if check["code"] == "LOCAL":
        pytest.skip(check["info"])
    assert (check["code"], check["status"], state) == ("PROCOK", 0, "UP")


def test_status_text_shows_streak_and_last_check(tmp_path: Path, members: list[MemberProcess]) -> None:
    apple, banana = members
    port = free_port()
    with Served(tmp_path, lb_file(web("web", port, [server(apple), server(banana, "")]))) as served:
        wait_until(lambda: seen(served)["apple"]["check"])
        text = served.command("status").stdout

    assert "last check" in text
    assert "L7OK/200 in " in text


@pytest.mark.asyncio
async def test_member_that_refuses_costs_no_request_under_load(tmp_path: Path) -> None:
    """It has no monitor that could take it out: every session that picks it is tried elsewhere."""
    http, tcp = free_port(), free_port()
    async with Members(2) as targets:
        with refusing_port() as refusing:
            lines = [member(port) for port in (*targets.ports, refusing)]
            text = lb_file(listener("http", http, lines, mode="http"), listener("tcp", tcp, lines))
            with Served(tmp_path, text, "--threads", "2") as served:
                async with Load(http, tcp, keep_alive=8, short=8, held=8) as load:
                    await load.wait_answered(1500)
                assert load.failures == []
                counters = seen(served)[f"m{refusing}"]["counts"]["counters"]
    assert counters["connect_errors"] > 0
    assert counters["requests"] == 0
