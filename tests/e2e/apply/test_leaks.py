"""Many applies in a row: descriptors, memory and places on the board come back."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from amphorad.board import USED_AT, Board
from tests.support.lb_file import lb_file, listener, member
from tests.support.process_figures import descriptor_count, memory_kb
from tests.support.scripted_member import ScriptedMember, connect, get, http_member
from tests.support.served import Served, free_port, wait_until

APPLIES = 200


def slots_ever_used(supervisor: int) -> tuple[int, int]:
    """Of the board: places ever used, places in use."""
    for name in os.listdir(f"/proc/{supervisor}/fd"):
        path = Path(f"/proc/{supervisor}/fd/{name}")
        if "amphorad-board" in os.readlink(path):
            board = Board.attach(os.open(path, os.O_RDWR | os.O_CLOEXEC))
            try:
                return struct.unpack_from("=I", board.memory, USED_AT)[0], sum(1 for _slot in board.objects())
            finally:
                board.close()
    raise AssertionError("no board")


def test_applies_in_a_row_leak_nothing_and_keep_counters(tmp_path: Path) -> None:
    """Members, a listener and a bind come and go, with a connection that is used all along."""
    port, extra, bind = free_port(), free_port(), free_port()
    with ScriptedMember(http_member()) as one, ScriptedMember(http_member()) as two:

        def text(turn: int) -> str:
            members = [member(one.port, weight=1 + turn % 3), *([member(two.port)] * (turn % 2))]
            binds = [("127.0.0.1", port), *([("127.0.0.1", bind)] * (turn % 4 == 1))]
            listeners = [listener("web", port, members, mode="http", binds=binds)]
            listeners += [listener("more", extra, [member(one.port)])] * (turn % 3 == 1)
            return lb_file(*listeners)

        with Served(tmp_path, text(0)) as served, served.ask() as admin, connect(port) as client:
            pid = admin.status().data_plane.pid
            pids = (pid, served.process.pid)
            wait_until(lambda: admin.status().data_plane.spare)  # the supervisor holds two descriptors for it

            def settle(base: int) -> None:
                for turn in range(base, base + APPLIES // 2):
                    admin.apply(text(turn + 1), "lb.cfg")
                    assert get(client) == b"200 ok"
                admin.apply(text(0), "lb.cfg")
                assert get(client) == b"200 ok"

            settle(0)
            wait_until(lambda: slots_ever_used(served.process.pid)[1] == 3)
            descriptors = [descriptor_count(each) for each in pids]
            memory = [memory_kb(each) for each in pids]
            settle(APPLIES // 2)

            wait_until(lambda: [descriptor_count(each) for each in pids] <= descriptors)
            grown = [memory_kb(each) - before for each, before in zip(pids, memory, strict=True)]
            print(f"grown by {grown[0]} kB (data plane), {grown[1]} kB (supervisor) in {APPLIES // 2} applies")
            assert max(grown) < 1500
            wait_until(lambda: slots_ever_used(served.process.pid)[1] == 3)
            status = admin.status()
            assert status.listeners[0].counts["requests"] == APPLIES + 2
            assert status.data_plane.pid == pid


def test_board_places_are_used_again(tmp_path: Path) -> None:
    """50 members with new ids, 100 times."""
    port = free_port()
    with Served(tmp_path, lb_file(listener("a", port, []))) as served, served.ask() as admin:
        for turn in range(100):
            members = [member(1, name=f"member-{turn}-{number}") for number in range(50)]
            admin.apply(lb_file(listener("a", port, members)), "lb.cfg")
            if turn % 10 == 9:
                wait_until(lambda: slots_ever_used(served.process.pid)[1] == 52)

        ever, now = slots_ever_used(served.process.pid)
        assert now == 52
        assert ever <= 2 + 50 * 12
