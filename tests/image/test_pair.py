"""A pair of whole amphorae with the real units, driven by the real Octavia driver: failover, crashes of every unit, upgrade in place.

The system is the image's when there is one, else this machine's (see `host_tree`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.image.conftest import HAS_FAILED, needs_containers
from tests.support.api_certificates import make_identities
from tests.support.boot_files import HEARTBEAT_KEY
from tests.support.container_pair import VIP, ContainerPair, SharedPair, wait_for
from tests.support.controller import modules
from tests.support.octavia_render import require_octavia
from tests.support.package_wheel import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.nspawn import Root
    from tests.support.vrrp_rig import Answers, VipClient

require_octavia()

pytestmark = [
    pytest.mark.nspawn,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.may_leak,  # the controller's session pool lives longer than one test
    *needs_containers,
]


@pytest.fixture(scope="module")
def shared(tree: Root, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedPair]:
    identities = make_identities(tmp_path_factory.mktemp("pki"), "33333333-39b2-4a36-8f0a-0e6c3c1a1a11")
    with SharedPair(lambda: ContainerPair(tree, tmp_path_factory.mktemp("pair"), identities)) as found:
        yield found


@pytest.fixture
def settled(shared: SharedPair, request: pytest.FixtureRequest) -> Iterator[ContainerPair]:
    try:
        yield shared.settled()
    finally:
        if request.node.stash.get(HAS_FAILED, True):
            shared.give_up()


def seen_by(client: VipClient, pair: ContainerPair) -> Answers:
    """Up to good answers from the node that has the VIP now."""
    with pair.client():
        time.sleep(0.1)
    return client.end()


def gap(answers: Answers, what: str) -> float:
    print(
        f"{what}: longest gap {answers.longest_gap_s:.2f} s, {answers.failed} of {len(answers.results)} requests failed"
    )
    return answers.longest_gap_s


# --- service ---


def test_driver_takes_the_pair_to_service_and_the_controller_sees_both(settled: ContainerPair) -> None:
    decode = pytest.importorskip("octavia.amphorae.backends.health_daemon.status_message").unwrap_envelope
    master, backup = settled.master, settled.backup

    with settled.traffic():
        pass

    assert settled.drive(lambda driver: driver.get_interface_from_ip(master.record, VIP)) == "eth1"
    with pytest.raises(modules().errors.NotFound):
        settled.drive(lambda driver: driver.get_interface_from_ip(backup.record, VIP))
    for node in settled.nodes:
        found = settled.wait_heartbeat(
            node, lambda data: decode(data, HEARTBEAT_KEY), lambda message: len(message["listeners"]) == 2
        )
        assert {listener["status"] for listener in found["listeners"].values()} == {"OPEN"}
        assert node.container.run("systemctl", "is-active", "amphora-agent", "var-lib-octavia-certs.mount").split() == [
            "active",
            "active",
        ]


# --- confinement ---


def test_agent_and_data_plane_are_confined_and_only_the_api_listens(settled: ContainerPair) -> None:
    node = settled.master
    container = node.container

    listening = [line.split()[3] for line in container.run("ss", "-Hltn").splitlines()]
    # 10 is no confinement at all; what the agent needs (namespaces, interfaces, files of others) costs the rest.
    container.run("systemd-analyze", "security", "--no-pager", "--threshold=75", "amphora-agent.service")
    processes = container.processes_root / "proc"
    data_plane, agent = node.data_plane(), container.main_pid("amphora-agent")
    status = dict(
        line.split(":", 1) for line in (processes / str(data_plane) / "status").read_text().splitlines() if ":" in line
    )
    mounts = (processes / str(data_plane) / "mountinfo").read_text().splitlines()

    assert listening == ["*:9443"]
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"  # a filter
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert "0" not in status["Uid"].split()
    assert all("ro" in line.split()[5].split(",") for line in mounts)
    own = dict(
        line.split(":", 1) for line in (processes / str(agent) / "status").read_text().splitlines() if ":" in line
    )
    assert (own["NoNewPrivs"].strip(), own["Seccomp"].strip()) == ("1", "2")


# --- failover ---


def test_active_node_that_is_ended_in_order_hands_over(settled: ContainerPair) -> None:
    first, second = settled.master, settled.backup

    with settled.client() as client:
        first.container.run("systemctl", "kill", "--kill-whom=main", "--signal=SIGINT", "amphora-agent")
        wait_for(second.has_vip, "the VIP on the other node")
        wait_for(lambda: first.container.main_pid("amphora-agent") == 0, "the end of the agent")
        answers = seen_by(client, settled)

    assert gap(answers, "ended in order") < 5
    assert not first.has_vip()
    assert first.keepalived() == []
    with settled.traffic():
        pass


def test_active_node_whose_link_is_cut_is_replaced_and_does_not_disturb_when_it_is_back(settled: ContainerPair) -> None:
    first, second = settled.master, settled.backup

    with settled.client() as client:
        first.cut_link()
        wait_for(second.has_vip, "the VIP on the other node")
        wait_for(lambda: first.vrrp() == "FAULT", "the node without link to notice")
        answers = seen_by(client, settled)
    with settled.client() as client:
        first.mend_link()
        settled.settle()
        calm = client.end()

    assert gap(answers, "link cut") < 15
    assert second.vrrp() == "MASTER"
    assert gap(calm, "link back") < 2


def test_active_node_without_power_is_replaced_and_comes_back_without_a_controller(settled: ContainerPair) -> None:
    first, second = settled.master, settled.backup

    with settled.client() as client:
        first.lose_power()
        wait_for(second.has_vip, "the VIP on the other node")
        answers = seen_by(client, settled)
    took = first.power_on()
    settled.settle()

    assert gap(answers, "power cut") < 15
    print(f"booted again in {took:.1f} s")
    assert second.vrrp() == "MASTER"
    with settled.traffic():
        first_data_plane = first.data_plane()
    assert first_data_plane


# --- crashes ---


@pytest.mark.parametrize("role", ["master", "backup"])
def test_killed_agent_is_started_again_and_costs_nothing(settled: ContainerPair, role: str) -> None:
    node = getattr(settled, role)
    agent, data_plane, state = node.container.main_pid("amphora-agent"), node.data_plane(), node.vrrp()

    with settled.traffic() as load:
        node.container.run("kill", "-9", str(agent))
        wait_for(lambda: node.container.main_pid("amphora-agent") not in (0, agent), "another agent")
        wait_for(lambda: node.vrrp() == state, "its state")
        settled.loop.run(load.wait_answered(50))

    assert node.data_plane() == data_plane
    settled.settle()


def test_killed_data_plane_of_the_active_node_is_replaced_and_serves_on(settled: ContainerPair) -> None:
    node = settled.master
    data_plane = node.data_plane()

    with settled.client() as client:
        node.container.run("kill", "-9", str(data_plane))
        wait_for(lambda: node.data_plane() not in (0, data_plane), "another data plane")
        settled.settle()
        answers = client.end()

    assert gap(answers, "data plane killed") < 10
    with settled.traffic():
        pass


def test_killed_keepalived_of_the_active_node_is_started_again_and_keeps_the_vip(settled: ContainerPair) -> None:
    node = settled.master
    before = node.keepalived()

    with settled.client() as client:
        node.container.run("kill", "-9", *map(str, before))
        wait_for(lambda: len(node.keepalived()) == 2 and not set(node.keepalived()) & set(before), "another keepalived")
        settled.settle()
        answers = client.end()

    assert gap(answers, "keepalived killed") < 5
    assert settled.master is node
    with settled.traffic():
        pass


@pytest.mark.parametrize("unit", ["systemd-journald", "rsyslog"])
def test_killed_log_service_costs_no_request(settled: ContainerPair, unit: str) -> None:
    container = settled.master.container
    process = container.main_pid(unit)
    if not process:
        pytest.skip(f"{unit} is not in this tree")

    with settled.traffic() as load:
        container.run("kill", "-9", str(process))
        settled.loop.run(load.wait_answered(50))
        wait_for(lambda: container.main_pid(unit) not in (0, process), f"another {unit}")
        settled.loop.run(load.wait_answered(50))

    assert container.run("systemctl", "is-active", "amphora-agent").strip() == "active"


# --- upgrade ---


def test_upgrade_in_place_loses_no_request_and_moves_nothing(settled: ContainerPair, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "9.9.9")
    master = settled.master
    before = {node.name: node.data_plane() for node in settled.nodes}

    with settled.traffic() as load:
        for node in (settled.backup, master):
            node.install(wheel)
            settled.loop.run(load.wait_answered(20))
            assert node.status().version != "9.9.9"
            node.container.run("systemctl", "restart", "amphora-agent")
            assert node.status().version == "9.9.9"
            settled.loop.run(load.wait_answered(50))

    assert settled.master is master
    for node in settled.nodes:  # one of the new version has succeeded, and the old one ends with its last session
        assert node.data_plane() not in (0, before[node.name])
        wait_for(lambda of=node: not of.runs(before[of.name]), "the end of the old data plane")
    settled.upload(weight=2)
    with settled.traffic():
        pass
