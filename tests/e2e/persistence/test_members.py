"""Clients and their members while members come, go, drain and fail (Octavia contract section 4.10.2)."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import octavia_render as render
from tests.support.persistence_rig import NAMES, ask, persistent_text
from tests.support.served import Served, free_port, wait_until
from tests.support.telling_members import TellingMembers

if TYPE_CHECKING:
    from collections.abc import Mapping

render.require_octavia()
pytestmark = pytest.mark.timeout(60)

KINDS = ("SOURCE_IP", "APP_COOKIE", "HTTP_COOKIE")


class Client:
    """One client of a persistent pool, with what it has to send to be known."""

    def __init__(self, port: int, kind: str, number: int = 0) -> None:
        self.port = port
        self.kind = kind
        self.cookie = b""
        self.number = number

    def ask(self) -> str:
        lines = self.cookie
        if self.kind == "APP_COOKIE":
            reply = b"set-cookie: sid=client-%d\r\n" % self.number
            lines = self.cookie or b"x-reply: " + reply.hex().encode() + b"\r\n"
            self.cookie = b"cookie: sid=client-%d\r\n" % self.number
        answer = ask(self.port, lines)
        if self.kind == "HTTP_COOKIE" and b"set-cookie: SRV=" in answer.head:
            self.cookie = b"cookie: SRV=" + answer.head.split(b"set-cookie: SRV=")[1].split(b";")[0] + b"\r\n"
        return answer.member


def text(
    port: int, members: Mapping[str, int], kind: str, changes: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    return persistent_text(port, members, kind, cookie_name="sid" if kind == "APP_COOKIE" else None, changes=changes)


@pytest.mark.parametrize("kind", KINDS)
def test_client_keeps_its_member_while_it_drains_and_moves_when_it_is_disabled(tmp_path: Path, kind: str) -> None:
    port = free_port()
    with TellingMembers(NAMES) as members, Served(tmp_path, text(port, members.ports, kind)) as served:
        client = Client(port, kind)
        own = client.ask()
        assert {client.ask() for _ in range(6)} == {own}

        assert served.apply(text(port, members.ports, kind, {own: {"weight": 0}})).returncode == 0
        assert {client.ask() for _ in range(6)} == {own}

        assert served.apply(text(port, members.ports, kind, {own: {"enabled": False}})).returncode == 0
        moved = client.ask()
        assert moved != own

        assert served.apply(text(port, members.ports, kind)).returncode == 0
        if kind == "APP_COOKIE":  # learns from responses only; nothing has told the client's cookie again
            assert client.ask() == own
        else:
            assert {client.ask() for _ in range(6)} == {moved}


@pytest.mark.parametrize("kind", KINDS)
def test_client_of_a_removed_member_moves_and_others_stay(tmp_path: Path, kind: str) -> None:
    port = free_port()
    with TellingMembers(NAMES) as members, Served(tmp_path, text(port, members.ports, kind)) as served:
        clients = [Client(port, kind, number) for number in range(6 if kind != "SOURCE_IP" else 1)]
        before = [client.ask() for client in clients]
        gone = before[0]
        left = {name: number for name, number in members.ports.items() if name != gone}

        assert served.apply(text(port, left, kind)).returncode == 0

        after = [client.ask() for client in clients]
        assert all(new == old for old, new in zip(before, after, strict=True) if old != gone)
        assert gone not in after
        assert served.apply(text(port, members.ports, kind)).returncode == 0
        assert [client.ask() for client in clients if client.kind == "HTTP_COOKIE"] == (
            after if kind == "HTTP_COOKIE" else []
        )


@pytest.mark.parametrize("kind", KINDS)
def test_client_of_a_member_that_refuses_is_redispatched(tmp_path: Path, kind: str) -> None:
    """After three attempts a second apart at its own member, as HAProxy with `retries 3` and `option redispatch`."""
    port = free_port()
    with TellingMembers(NAMES) as members, Served(tmp_path, text(port, members.ports, kind)):
        client = Client(port, kind)
        own = client.ask()

        members.close(own)

        moved = client.ask()
        assert moved not in ("", own)
        if kind != "APP_COOKIE":
            assert {client.ask() for _ in range(4)} == {moved}


@pytest.mark.parametrize("kind", KINDS)
def test_killed_data_plane_keeps_every_client_at_its_member(tmp_path: Path, kind: str) -> None:
    port = free_port()
    with (
        TellingMembers(NAMES) as members,
        Served(tmp_path, text(port, members.ports, kind)) as served,
        served.ask() as admin,
    ):
        clients = [Client(port, kind, number) for number in range(9)]
        before = [client.ask() for client in clients]

        first = admin.status().data_plane.pid
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: admin.status().data_plane.pid not in (0, first))

        assert [client.ask() for client in clients] == before


def test_apply_under_load_keeps_every_client_at_its_member(tmp_path: Path) -> None:
    """Weights change, other members come and go."""
    port = free_port()
    names = [f"m{number}" for number in range(8)]

    async def scenario() -> None:
        with TellingMembers(names) as members:
            stay = dict(list(members.ports.items())[:4])
            with Served(tmp_path, text(port, stay, "APP_COOKIE")) as served, served.ask() as admin:
                clients = [Client(port, "APP_COOKIE", number) for number in range(24)]
                owners = [client.ask() for client in clients]
                moved: list[tuple[str, str]] = []
                asked = 0
                stop = False

                def use() -> None:
                    nonlocal asked
                    while not stop:
                        for client, owner in zip(clients, owners, strict=True):
                            found = client.ask()
                            asked += 1
                            if found != owner:
                                moved.append((owner, found))

                load = asyncio.create_task(asyncio.to_thread(use))
                for turn in range(12):
                    chosen = stay | dict(list(members.ports.items())[4 : 4 + turn % 5])
                    changes = {"m0": {"weight": turn % 3}}
                    await asyncio.to_thread(admin.apply, text(port, chosen, "APP_COOKIE", changes), "lb.cfg")
                stop = True
                await load
                assert asked > 20
                assert moved == []

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["SOURCE_IP", "APP_COOKIE"])
def test_restarted_service_keeps_every_client_at_its_member(tmp_path: Path, kind: str) -> None:
    port = free_port()
    with TellingMembers(NAMES) as members:
        with Served(tmp_path, text(port, members.ports, kind)):
            clients = [Client(port, kind, number) for number in range(8)]
            before = [client.ask() for client in clients]

        with Served(tmp_path, text(port, members.ports, kind)):
            assert [client.ask() for client in clients] == before


def test_tcp_listener_keeps_a_client_at_its_member_over_threads(tmp_path: Path) -> None:
    port = free_port()
    with TellingMembers(NAMES) as members:
        config = persistent_text(port, members.ports, "SOURCE_IP", protocol="TCP")
        with Served(tmp_path, config, "--threads", "2") as served:
            own = ask(port).member
            assert {ask(port).member for _ in range(20)} == {own}
            changed = persistent_text(
                port, members.ports, "SOURCE_IP", protocol="TCP", changes={own: {"enabled": False}}
            )
            assert served.apply(changed).returncode == 0
            assert len({ask(port).member for _ in range(10)} - {own}) == 1


def test_kind_of_persistence_changes_while_clients_are_served(tmp_path: Path) -> None:
    """Tables come and go under two threads at work; nobody is refused."""
    port = free_port()

    async def scenario() -> None:
        with TellingMembers(NAMES) as members:
            with (
                Served(tmp_path, text(port, members.ports, "SOURCE_IP"), "--threads", "2") as served,
                served.ask() as admin,
            ):
                stop = False
                asked = 0

                def use(number: int) -> None:
                    nonlocal asked
                    while not stop:
                        lines = b"cookie: sid=%d; SRV=m%d\r\n" % (number, number % 3 + 1)
                        lines += b"x-reply: " + (b"set-cookie: sid=%d\r\n" % number).hex().encode() + b"\r\n"
                        assert ask(port, lines).member
                        asked += 1

                load = [asyncio.create_task(asyncio.to_thread(use, number)) for number in range(4)]
                for turn in range(30):
                    config = text(port, members.ports, KINDS[turn % 3])
                    if turn % 3 == 1 and turn % 2:
                        config = config.replace("size 10k", "size 64").replace("len 64", "len 8")
                    receipt = await asyncio.to_thread(admin.apply, config, "lb.cfg")
                    assert receipt.changed or turn == 0
                stop = True
                await asyncio.gather(*load)

                assert asked > 50
                assert admin.status().data_plane.restarts == 0

    asyncio.run(scenario())


def test_member_found_down_by_its_monitor_loses_its_clients_and_gets_the_new_ones_back_later(tmp_path: Path) -> None:
    port = free_port()
    with TellingMembers(NAMES) as members:
        config = text(port, members.ports, "SOURCE_IP")
        config = config.replace(" weight 1", " weight 1 check inter 1s fall 1 rise 1")
        config = config.replace("    balance ", "    timeout check 1s\n    balance ")
        with Served(tmp_path, config) as served:
            own = ask(port).member
            assert {ask(port).member for _ in range(5)} == {own}

            members.close(own)
            wait_until(lambda: f"/{own} is DOWN" in served.log)

            moved = ask(port).member
            assert moved != own
            members.open(own)
            wait_until(lambda: f"/{own} is UP" in served.log)
            assert {ask(port).member for _ in range(5)} == {moved}


def test_table_that_is_not_configured_any_more_gives_its_memory_back(tmp_path: Path) -> None:
    port = free_port()
    with TellingMembers(NAMES) as members:
        plain = text(port, members.ports, "HTTP_COOKIE")
        with Served(tmp_path, plain) as served, served.ask() as admin:
            pid = admin.status().data_plane.pid

            def come_and_go() -> int:
                admin.apply(text(port, members.ports, "SOURCE_IP"), "lb.cfg")
                ask(port)
                held = shared_memory_kb(pid)
                admin.apply(plain, "lb.cfg")
                return held

            held = come_and_go()
            wait_until(lambda: shared_memory_kb(pid) <= held - 16)
            before = shared_memory_kb(pid)
            for _ in range(4):
                come_and_go()
            wait_until(lambda: shared_memory_kb(pid) <= before + 8)


def shared_memory_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssShmem:"):
            return int(line.split()[1])
    raise AssertionError("no such figure")
