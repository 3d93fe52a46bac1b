"""Out of descriptors: accepting pauses, an alarm tells, what runs goes on, and all is well afterwards."""

from __future__ import annotations

import resource
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.lb_file import lb_file, listener, member
from tests.support.process_figures import descriptor_count
from tests.support.scripted_member import ScriptedMember, connect, echo, echoes
from tests.support.served import Served, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from amphorad.admin import Client

ROOM = 20


class Exhausted:
    """A data plane that has room for ROOM more descriptors, and 40 clients that want two each."""

    def __init__(self, served: Served, admin: Client, port: int, text: str, stack: ExitStack) -> None:
        self.served, self.admin, self.port, self.text = served, admin, port, text
        self.pid = admin.status().data_plane.pid
        self.first = stack.enter_context(connect(port))
        assert echoes(self.first)
        self.limit = descriptor_count(self.pid) + ROOM
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (self.limit, self.limit))
        self.clients = [stack.enter_context(connect(port)) for _number in range(40)]
        wait_until(lambda: any("out of descriptors" in alarm for alarm in admin.status().alarms))


@pytest.fixture
def exhausted(tmp_path: Path) -> Iterator[Exhausted]:
    port = free_port()
    with ScriptedMember(echo) as target, ExitStack() as stack:
        text = lb_file(listener("a", port, [member(target.port)], connect_ms=200))
        served = stack.enter_context(Served(tmp_path, text))
        admin = stack.enter_context(served.ask())
        yield Exhausted(served, admin, port, text, stack)


def test_out_of_descriptors_sessions_go_on_and_new_ones_are_served_later(exhausted: Exhausted) -> None:
    assert echoes(exhausted.first)

    for client in exhausted.clients:
        client.close()

    wait_until(lambda: descriptor_count(exhausted.pid) < exhausted.limit - ROOM // 2)
    with connect(exhausted.port) as client:
        assert echoes(client)
    assert echoes(exhausted.first)
    status = exhausted.admin.status()
    assert status.data_plane.restarts == 0
    assert status.data_plane.pid == exhausted.pid
    assert "out of descriptors" in exhausted.served.log


def test_out_of_descriptors_an_apply_of_members_works(exhausted: Exhausted) -> None:
    exhausted.admin.apply(exhausted.text.replace("weight 1", "weight 3"), "lb.cfg")

    assert echoes(exhausted.first)
    assert exhausted.admin.status().data_plane.restarts == 0


def test_out_of_descriptors_a_new_listener_is_refused_and_nothing_dies(exhausted: Exhausted) -> None:
    more = listener("b", free_port(), [])

    result = exhausted.served.apply(exhausted.text + more)

    assert result.returncode == 1
    assert "out of descriptors" in result.stderr
    assert echoes(exhausted.first)
    for client in exhausted.clients:
        client.close()
    wait_until(lambda: descriptor_count(exhausted.pid) < exhausted.limit - ROOM // 2)
    assert exhausted.served.apply(exhausted.text + more).returncode == 0
    assert echoes(exhausted.first)
    assert exhausted.admin.status().data_plane.restarts == 0
