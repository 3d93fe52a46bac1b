"""The life of a whole agent in namespaces: start, death, restart, stop, with traffic on the data plane all along."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from amphorad.cli.arguments import ExitCode
from tests.support.agent_rig import LB_ID, OUTSIDE_IP, VIP, AmphoraRig, LoopIn
from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import refuses
from tests.support.served import wait_until
from tests.support.traffic import Load, Members

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.netns, pytest.mark.timeout(60)]

HTTP, TCP = 80, 81


@pytest.fixture
def rig() -> Iterator[AmphoraRig]:
    with AmphoraRig() as found:
        yield found


@pytest.fixture
def outside(rig: AmphoraRig) -> Iterator[LoopIn]:
    with LoopIn(rig.outside.name) as found:
        yield found


def two_listeners(ports: list[int], weight: int = 1) -> str:
    members = [member(port, address=OUTSIDE_IP, weight=weight) for port in ports]
    return lb_file(
        listener("web", HTTP, members, mode="http", binds=[(VIP, HTTP)]),
        listener("raw", TCP, members, binds=[(VIP, TCP)]),
    )


def serve(rig: AmphoraRig, outside: LoopIn) -> list[int]:
    """A started agent with a VIP and two listeners that answer; gives the ports of the members."""
    ports = outside.enter(Members(3, OUTSIDE_IP)).ports
    rig.start()
    assert rig.plug_vip().status == 202
    assert rig.upload(two_listeners(ports)).status == 202
    assert rig.act("start").status == 202
    return ports


@contextmanager
def traffic(rig: AmphoraRig, outside: LoopIn) -> Iterator[Load]:
    """Clients of every kind, none of which may see a failure."""
    load = Load(HTTP, TCP, keep_alive=3, short=3, held=3, address=VIP)
    with contextlib.ExitStack() as stack:
        outside.run(load.__aenter__())
        stack.callback(lambda: outside.run(load.__aexit__(None, None, None)))
        outside.run(load.wait_answered(50))
        yield load
        outside.run(load.wait_answered(50))
    assert load.failures == []


def unreachable(port: int, address: str) -> bool:
    with socket.socket() as client:
        client.settimeout(0.5)
        try:
            client.connect((address, port))
        except OSError:
            return True
    return False


def data_plane(rig: AmphoraRig) -> int:
    return rig.status().load_balancers[0].data_plane.pid


# --- start ---


def test_first_start_on_an_empty_disk_serves_the_api_and_sends_heartbeats(rig: AmphoraRig) -> None:
    """Octavia contract section 3.2: heartbeats from first boot."""
    with rig.management.call(lambda: socket.create_server(("127.0.0.1", 0))) as unused:
        unused.close()
    listening = rig.management.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with listening:
        listening.settimeout(10)
        listening.bind(("127.0.0.1", 5555))

        rig.start()

        assert rig.call("GET", "//").json == {"api_version": "1.0"}
        message = json.loads(zlib.decompress(listening.recv(65536)[:-64]))
        assert (message["listeners"], message["pools"]) == ({}, {})
    assert rig.status().load_balancers == ()
    assert not rig.status().is_healthy


def test_load_balancer_serves_on_its_vip_after_plug_upload_and_start(rig: AmphoraRig, outside: LoopIn) -> None:
    serve(rig, outside)

    with traffic(rig, outside):
        pass

    assert rig.status().is_healthy
    assert data_plane(rig) in rig.tenant_processes()


def test_data_plane_runs_without_privileges(rig: AmphoraRig, outside: LoopIn) -> None:
    serve(rig, outside)

    lines = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{data_plane(rig)}/status").read_text().splitlines()
        if ":\t" in line
    )

    assert "0" not in lines["Uid"].split()
    assert "0" not in lines["Gid"].split()
    assert {lines[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert lines["NoNewPrivs"] == "1"


def test_second_agent_is_refused_and_harms_nobody(rig: AmphoraRig, outside: LoopIn) -> None:
    serve(rig, outside)
    first = rig.process

    with traffic(rig, outside):
        with pytest.raises(AssertionError):
            rig.start()
        assert rig.process is not None
        assert rig.process.wait(10) == ExitCode.ALREADY_RUNNING

    rig.process = first
    assert rig.call("GET", "/1.0/info").status == 200


def test_watchdog_is_told_while_the_agent_lives(rig: AmphoraRig) -> None:
    rig.start(WATCHDOG_USEC="200000")

    for _ in range(3):
        rig.wait_told("WATCHDOG=1")


# --- death and restart ---


def test_killed_agent_costs_no_request_and_the_next_one_adopts(rig: AmphoraRig, outside: LoopIn) -> None:
    ports = serve(rig, outside)
    first = data_plane(rig)

    with traffic(rig, outside) as load:
        rig.end(signal.SIGKILL)
        outside.run(load.wait_answered(100))
        rig.start()
        assert data_plane(rig) == first
        outside.run(load.wait_answered(100))
        assert rig.upload(two_listeners(ports, weight=2)).status == 202
        assert rig.act("reload").json["details"] == f"Listener {LB_ID} reloaded"

    found = rig.status().load_balancers[0]
    assert found.data_plane.pid == first
    assert found.generation == 2
    assert found.listeners[0].counts["requests"] >= load.answered // 2
    assert found.listeners[0].pools[0].members[0].weight == 2


def test_agent_killed_again_and_again_costs_nothing(rig: AmphoraRig, outside: LoopIn) -> None:
    serve(rig, outside)
    first = data_plane(rig)

    with traffic(rig, outside) as load:
        for _ in range(3):
            rig.end(signal.SIGKILL)
            rig.start()
            outside.run(load.wait_answered(20))

    assert data_plane(rig) == first


def test_sigterm_ends_the_agent_and_leaves_the_traffic(rig: AmphoraRig, outside: LoopIn) -> None:
    serve(rig, outside)
    first = data_plane(rig)

    with traffic(rig, outside) as load:
        assert rig.end(signal.SIGTERM) == ExitCode.OK
        outside.run(load.wait_answered(50))
        assert first in rig.tenant_processes()
        rig.start()
        assert data_plane(rig) == first


def test_data_plane_that_died_with_the_agent_away_is_replaced(rig: AmphoraRig, outside: LoopIn) -> None:
    serve(rig, outside)
    first = data_plane(rig)
    rig.end(signal.SIGKILL)
    os.kill(first, signal.SIGKILL)

    rig.start()

    assert data_plane(rig) not in (0, first)
    with traffic(rig, outside):
        pass


def test_sigint_ends_everything_and_the_next_start_brings_it_back(rig: AmphoraRig, outside: LoopIn) -> None:
    serve(rig, outside)

    assert rig.end(signal.SIGINT) == ExitCode.INTERRUPTED

    assert rig.tenant_processes() == {}
    assert rig.outside.call(lambda: refuses(HTTP, VIP))
    rig.start()
    with traffic(rig, outside):
        pass


def test_stop_and_delete_while_the_agent_was_dead_are_not_undone(rig: AmphoraRig, outside: LoopIn) -> None:
    """What was ordered last holds, also over a restart."""
    serve(rig, outside)
    assert rig.act("stop").status == 202
    rig.end(signal.SIGKILL)

    rig.start()

    assert rig.outside.call(lambda: refuses(HTTP, VIP))
    assert rig.act("start").status == 202
    assert rig.call("DELETE", f"/1.0/listeners/{LB_ID}").status == 200
    rig.end(signal.SIGKILL)
    rig.start()
    assert rig.outside.call(lambda: refuses(HTTP, VIP))
    assert rig.status().load_balancers == ()


# ssl.wrap_socket leaves its socket to the garbage collector when the peer is gone before the handshake
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("after_ms", [0, 2, 5, 10, 15, 20, 30])
def test_agent_killed_in_the_middle_of_a_change_serves_the_old_or_the_new(
    rig: AmphoraRig, outside: LoopIn, after_ms: int
) -> None:
    ports = serve(rig, outside)
    old, new = two_listeners(ports), two_listeners(ports, weight=2)

    with traffic(rig, outside) as load:
        for change in (lambda: rig.upload(new), lambda: rig.act("reload")):
            with rig.killing(after_s=after_ms / 1000), contextlib.suppress(OSError, ValueError):
                change()
            rig.start()
            outside.run(load.wait_answered(20))

        stored = rig.call("GET", f"/1.0/loadbalancer/{LB_ID}/haproxy").body.decode()
        assert stored in (old, new)
        weights = {
            found.weight
            for one in rig.status().load_balancers[0].listeners
            for pool in one.pools
            for found in pool.members
        }
        assert weights in ({1}, {2})
        assert weights == {1} or stored == new


def test_reboot_brings_back_interfaces_addresses_and_traffic_with_no_controller(
    rig: AmphoraRig, outside: LoopIn
) -> None:
    serve(rig, outside)

    rig.reboot()
    assert rig.outside.call(lambda: unreachable(HTTP, VIP))
    rig.start()

    with traffic(rig, outside):
        pass
    assert rig.status().problems == ()


BROKEN_HEARTBEATS = """
from amphorad.heartbeat.sender import HeartbeatSender
async def run(self):
    raise RuntimeError("heartbeats are broken")
HeartbeatSender.run = run
"""


def test_agent_without_heartbeats_makes_room_for_the_next_one(rig: AmphoraRig, outside: LoopIn) -> None:
    serve(rig, outside)
    rig.end(signal.SIGKILL)
    (rig.directory / "broken").mkdir()
    (rig.directory / "broken" / "sitecustomize.py").write_text(BROKEN_HEARTBEATS)

    with traffic(rig, outside):
        rig.start(PYTHONPATH=f"{Path(__file__).parents[3]}:{rig.directory}/broken")
        assert rig.process is not None
        assert rig.process.wait(15) == ExitCode.OK
        assert "RuntimeError: heartbeats are broken" in rig.log
        rig.start()


# --- settings ---


def test_sighup_and_put_config_take_what_may_change(rig: AmphoraRig) -> None:
    rig.start()
    text = rig.file.read_text()

    assert (
        rig.call("PUT", "/1.0/config", text.replace("heartbeat_interval = 1", "heartbeat_interval = 2")).status == 202
    )
    assert "heartbeat_interval" in wait_until(lambda: "changed=heartbeat_interval" in rig.log and rig.log)
    assert (
        rig.call("PUT", "/1.0/config", text.replace("heartbeat_interval = 1", "heartbeat_interval = x")).status == 500
    )
    assert "heartbeat_interval = 2" in rig.file.read_text()

    rig.file.write_text(text.replace("bind_port = 9443", "bind_port = 9444"))
    assert rig.process is not None
    rig.process.send_signal(signal.SIGHUP)
    rig.wait_told("READY=1")
    assert "bind_port" in rig.status().problems[0]
    rig.file.write_text("garbage")
    rig.process.send_signal(signal.SIGHUP)
    rig.wait_told("READY=1")
    wait_until(lambda: "settings refused" in rig.log)
    assert rig.call("GET", "//").status == 200


# --- figures ---


def test_calls_are_quick_and_the_agent_is_small(rig: AmphoraRig) -> None:
    """Medians, because other programs run here too."""
    rig.start()
    assert rig.plug_vip().status == 202
    texts = [
        lb_file(listener("web", HTTP, [member(20000 + n, weight=weight) for n in range(200)], mode="http"))
        for weight in range(1, 8)
    ]
    assert rig.upload(texts[0]).status == 202
    assert rig.act("start").status == 202

    changes, others = [], []
    for text in texts[1:]:
        answers = [rig.upload(text), rig.act("reload")]
        assert [answer.status for answer in answers] == [202, 202]
        changes.append(sum(answer.elapsed_s for answer in answers))
    for _ in range(3):
        for target in ("//", "/1.0/info", "/1.0/details", "/1.0/listeners", f"/1.0/interface/{VIP}"):
            answer = rig.call("GET", target)
            assert answer.status == 200
            others.append(answer.elapsed_s)
    assert rig.process is not None
    rollup = Path(f"/proc/{rig.process.pid}/smaps_rollup").read_text()
    pss_mib = int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1]) / 1024

    print(f"change {sorted(changes)} others {sorted(others)} pss {pss_mib:.1f} MiB")
    assert sorted(changes)[len(changes) // 2] < 0.150
    assert sorted(others)[len(others) // 2] < 0.050
    assert pss_mib < 60
