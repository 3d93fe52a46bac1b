"""An agent of an ACTIVE_STANDBY pair with real keepalived, from the controller's calls to its death; its peer is silent."""

from __future__ import annotations

import contextlib
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from amphorad.cli.arguments import ExitCode
from tests.support.agent_rig import OUTSIDE_IP, OWN_IP, SUBNET, VIP, AmphoraRig, LoopIn
from tests.support.keepalived_render import render_vrrp, subnet
from tests.support.lb_file import lb_file, listener, member
from tests.support.octavia_render import require_octavia
from tests.support.served import wait_until
from tests.support.traffic import Load, Members

if TYPE_CHECKING:
    from collections.abc import Iterator

require_octavia()
pytestmark = [
    pytest.mark.netns,
    pytest.mark.timeout(90),
    pytest.mark.skipif(
        shutil.which("keepalived", path="/usr/sbin:/usr/bin") is None, reason="keepalived is not installed"
    ),
]


@pytest.fixture
def rig() -> Iterator[AmphoraRig]:
    with AmphoraRig("ACTIVE_STANDBY") as found:
        yield found


@pytest.fixture
def outside(rig: AmphoraRig) -> Iterator[LoopIn]:
    with LoopIn(rig.outside.name) as found:
        yield found


def bring_up_vrrp(rig: AmphoraRig) -> None:
    """The controller's calls before any listener exists (Octavia contract section 1.6)."""
    rig.start()
    assert rig.plug_vip().status == 202
    assert rig.call("GET", f"/1.0/interface/{OWN_IP}").json["interface"] == "eth1"
    vips = [(VIP, subnet(SUBNET, OUTSIDE_IP))]
    text = render_vrrp(own=OWN_IP, peers=["203.0.113.21"], vips=vips, base_path=f"{rig.directory}/lib")
    assert rig.call("PUT", "/1.0/vrrp/upload", text).status == 200
    assert rig.call("PUT", "/1.0/vrrp/start").json == {"message": "OK", "details": "keepalived started"}


def serve(rig: AmphoraRig, outside: LoopIn) -> None:
    bring_up_vrrp(rig)
    ports = outside.enter(Members(2, OUTSIDE_IP)).ports
    members = [member(port, address=OUTSIDE_IP) for port in ports]
    text = lb_file(
        listener("web", 80, members, mode="http", binds=[(VIP, 80)]), listener("raw", 81, members, binds=[(VIP, 81)])
    )
    assert rig.upload(text).status == 202
    assert rig.act("reload").status == 202
    wait_until(lambda: has_vip(rig))


def has_vip(rig: AmphoraRig) -> bool:
    """As the controller asks who is MASTER."""
    return rig.call("GET", f"/1.0/interface/{VIP}").status == 200


@contextlib.contextmanager
def traffic(outside: LoopIn) -> Iterator[Load]:
    """Clients of every kind, none of which may see a failure."""
    load = Load(80, 81, keep_alive=2, short=2, held=2, address=VIP)
    with contextlib.ExitStack() as stack:
        outside.run(load.__aenter__())
        stack.callback(lambda: outside.run(load.__aexit__(None, None, None)))
        outside.run(load.wait_answered(20))
        yield load
        outside.run(load.wait_answered(20))
    assert load.failures == []


def test_vip_comes_with_the_first_listener_and_goes_with_the_last(rig: AmphoraRig, outside: LoopIn) -> None:
    """Octavia contract section 5.3: without a load balancer both are in FAULT, and that is normal."""
    bring_up_vrrp(rig)
    assert rig.status().vrrp in ("FAULT", "starting")
    assert not has_vip(rig)
    ports = outside.enter(Members(1, OUTSIDE_IP)).ports
    text = lb_file(listener("web", 80, [member(ports[0], address=OUTSIDE_IP)], mode="http", binds=[(VIP, 80)]))

    assert rig.upload(text).status == 202
    assert rig.act("reload").status == 202

    wait_until(lambda: has_vip(rig))
    assert wait_until(lambda: rig.status().vrrp == "MASTER")
    assert rig.act("stop").status == 202
    wait_until(lambda: not has_vip(rig))


def test_agent_that_is_killed_or_restarted_keeps_the_vip_and_the_traffic(rig: AmphoraRig, outside: LoopIn) -> None:
    serve(rig, outside)

    with traffic(outside) as load:
        for number in (signal.SIGKILL, signal.SIGTERM):
            rig.end(number)
            outside.run(load.wait_answered(20))
            rig.start()
            assert has_vip(rig)
            assert rig.status().vrrp == "MASTER"
            outside.run(load.wait_answered(20))


def test_interrupted_agent_gives_the_vip_away_and_the_next_one_takes_it(rig: AmphoraRig, outside: LoopIn) -> None:
    serve(rig, outside)

    assert rig.end(signal.SIGINT) == ExitCode.INTERRUPTED

    assert VIP not in rig.tenant_addresses()
    assert rig.tenant_processes() == {}
    rig.start()
    wait_until(lambda: has_vip(rig))
    with traffic(outside):
        pass


def test_reboot_brings_vrrp_and_the_vip_back_with_no_controller(rig: AmphoraRig, outside: LoopIn) -> None:
    serve(rig, outside)

    rig.reboot()
    rig.start()

    wait_until(lambda: has_vip(rig))
    with traffic(outside):
        pass
