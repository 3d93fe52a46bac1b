"""Applies while traffic runs: nothing fails, and it takes effect quickly."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.lb_file import lb_file, listener, member
from tests.support.served import Served, free_port
from tests.support.traffic import Load, Members

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from amphorad.admin import ApplyReceipt, Client

CLIENTS = {"keep_alive": 12, "short": 6, "held": 12}


def text(http: int, tcp: int, members: Sequence[int], *, weight: int = 1) -> str:
    lines = [member(port, weight=weight) for port in members]
    return lb_file(listener("http", http, lines, mode="http"), listener("tcp", tcp, lines))


async def apply_beside(admin: Client, text: str) -> tuple[ApplyReceipt, float]:
    """In a thread, so that the load goes on; with the seconds that it took as the operator sees it."""
    began = time.monotonic()
    receipt = await asyncio.to_thread(admin.apply, text, "lb.cfg")
    return receipt, time.monotonic() - began


def test_change_of_100_of_200_members_fails_no_request(tmp_path: Path) -> None:
    http, tcp = free_port(), free_port()

    async def scenario() -> None:
        async with Members(300) as members:
            kept, leaving, coming = members.ports[:100], members.ports[100:200], members.ports[200:]
            with Served(tmp_path, text(http, tcp, kept + leaving)) as served, served.ask() as admin:
                async with Load(http, tcp, **CLIENTS) as load:
                    await load.wait_answered(600)
                    receipt, seen_s = await apply_beside(admin, text(http, tcp, kept + coming))
                    before = members.requests.copy()
                    await load.wait_answered(1200)
                    for old, new in ((coming, leaving), (leaving, coming), (coming, leaving)):
                        again, again_s = await apply_beside(admin, text(http, tcp, kept + new))
                        assert again.changed, old
                        seen_s = max(seen_s, again_s)
                        await load.wait_answered(300)

                print(f"in effect after {receipt.elapsed_s * 1000:.1f} ms, command {seen_s * 1000:.1f} ms under load")
                assert load.failures == []
                assert "200 members added, 200 removed" in receipt.summary
                assert receipt.elapsed_s < 1.0
                assert all(members.requests[port] > before[port] for port in coming), "a new member got nothing"
                # TCP sessions stay with their member; the requests of the others went to the new ones
                status = admin.status()
                assert status.data_plane.restarts == 0
                assert status.generation == 5

    asyncio.run(scenario())


def test_removed_members_get_no_request_after_the_receipt(tmp_path: Path) -> None:
    http, tcp = free_port(), free_port()

    async def scenario() -> None:
        async with Members(20) as members:
            leaving = members.ports[10:]
            with Served(tmp_path, text(http, tcp, members.ports)) as served, served.ask() as admin:
                async with Load(http, tcp, keep_alive=8, short=4) as load:
                    await load.wait_answered(300)
                    await apply_beside(admin, text(http, tcp, members.ports[:10]))
                    await load.wait_answered(40)  # those on their way when it came into force
                    before = members.requests.copy()
                    await load.wait_answered(500)

                assert load.failures == []
                assert {port: members.requests[port] - before[port] for port in leaving} == dict.fromkeys(leaving, 0)

    asyncio.run(scenario())


@pytest.mark.parametrize("threads", ["1", "2"])
def test_applies_in_a_row_under_load_fail_no_request(tmp_path: Path, threads: str) -> None:
    """Weights, limits and timeouts change every few requests."""
    http, tcp = free_port(), free_port()

    async def scenario() -> None:
        async with Members(10) as members:
            first = text(http, tcp, members.ports)
            with Served(tmp_path, first, "--threads", threads) as served, served.ask() as admin:
                async with Load(http, tcp, **CLIENTS) as load:
                    for turn in range(40):
                        await load.wait_answered(20)
                        await apply_beside(admin, text(http, tcp, members.ports[turn % 5 :], weight=2 + turn % 7))

                assert load.failures == []
                assert admin.status().generation == 41

    asyncio.run(scenario())
