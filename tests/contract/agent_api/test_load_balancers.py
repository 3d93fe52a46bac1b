"""The real driver, the real API, real load balancers with their data planes, and traffic through them, on loopback.

Source: Octavia contract section 1.6, "any change of listener/pool/member/monitor/policy/rule".
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.api_rig import TIMEOUT_S, ApiRig, served_api
from tests.support.controller import Controller, modules
from tests.support.naming_members import NamingMembers
from tests.support.octavia_render import make_id, make_listener, make_member, make_pool, require_octavia
from tests.support.served import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.api_certificates import Identities

require_octavia()

LB = make_id("load-balancer", 950)


@pytest.fixture
def rig(tmp_path: Path, identities: Identities) -> Iterator[ApiRig]:
    with served_api(tmp_path, identities, with_load_balancers=True) as served:
        yield served


@pytest.fixture
def controller(rig: ApiRig, identities: Identities, tmp_path: Path) -> Iterator[Controller]:
    with Controller.configured(identities, port=rig.port, cert_dir=tmp_path / "certs", base_path=tmp_path) as found:
        yield found


@pytest.fixture
def members() -> Iterator[NamingMembers]:
    with NamingMembers(["one", "two", "three"]) as found:
        yield found


def load_balancer(controller: Controller, *listeners: Any) -> Any:
    models = modules().data_models
    found = models.LoadBalancer(
        id=LB,
        project_id="e2c1d7a2b3f84d5f9a0b1c2d3e4f5a6b",
        enabled=True,
        topology="SINGLE",
        vip=models.Vip(ip_address="127.0.0.1"),
        additional_vips=[],
        listeners=list(listeners),
        amphorae=[controller.amphora],
    )
    for listener in listeners:
        listener.load_balancer = found
    return found


def http_listener(port: int, members: NamingMembers, *names: str) -> Any:
    found = [make_member("127.0.0.1", members.ports[name]) for name in names]
    return make_listener("HTTP", port, default_pool=make_pool("HTTP", members=found), project_id="p")


def get(port: int) -> bytes:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)) as connection:
        connection.request("GET", "/")
        return connection.getresponse().read()


def test_update_serves_and_the_next_one_changes_what_is_served(controller: Controller, members: NamingMembers) -> None:
    first, second = free_port(), free_port()
    listener = http_listener(first, members, "one")
    controller.driver.update_amphora_listeners(load_balancer(controller, listener), controller.amphora)
    assert get(first) == b"one"

    changed = http_listener(first, members, "two", "three")
    added = http_listener(second, members, "three")
    changed.id = listener.id
    controller.driver.update_amphora_listeners(load_balancer(controller, changed, added), controller.amphora)

    assert {get(first) for _ in range(6)} == {b"two", b"three"}
    assert get(second) == b"three"
    details = controller.client.get_details(controller.amphora)
    assert (details["haproxy_count"], details["listeners"]) == (1, sorted([listener.id, added.id]))


def test_listeners_deleted_one_by_one_leave_nothing(
    rig: ApiRig, controller: Controller, members: NamingMembers
) -> None:
    ports = [free_port(), free_port()]
    balancer = load_balancer(controller, *(http_listener(port, members, "one") for port in ports))
    controller.driver.update_amphora_listeners(balancer, controller.amphora)
    first, second = balancer.listeners

    controller.driver.delete(first)
    with pytest.raises(ConnectionRefusedError):
        get(ports[0])
    assert get(ports[1]) == b"one"
    controller.driver.delete(second)
    controller.driver.delete(second)

    with pytest.raises(ConnectionRefusedError):
        get(ports[1])
    assert controller.client.get_all_listeners(controller.amphora) == []
    assert not (rig.directory / LB).exists()


def test_configuration_that_is_refused_leaves_the_old_one_serving(
    rig: ApiRig, controller: Controller, members: NamingMembers
) -> None:
    port = free_port()
    listener = http_listener(port, members, "one")
    controller.driver.update_amphora_listeners(load_balancer(controller, listener), controller.amphora)
    text = rig.call("GET", f"/1.0/loadbalancer/{LB}/haproxy").body

    wrong = text.replace(b"balance roundrobin", b"balance astrology")
    with pytest.raises(modules().errors.InvalidRequest):
        controller.client.upload_config(controller.amphora, LB, wrong)
    reply = rig.call("PUT", f"/1.0/loadbalancer/{controller.amphora.id}/{LB}/haproxy", wrong)
    controller.client.reload_listener(controller.amphora, LB)

    assert reply.status == 400
    assert "astrology" in reply.json()["details"]
    assert rig.call("GET", f"/1.0/loadbalancer/{LB}/haproxy").body == text
    assert get(port) == b"one"


def test_text_is_given_back_byte_for_byte_with_its_sum(
    rig: ApiRig, controller: Controller, members: NamingMembers
) -> None:
    listener = http_listener(free_port(), members, "one")
    controller.driver.update_amphora_listeners(load_balancer(controller, listener), controller.amphora)
    text = rig.call("GET", f"/1.0/loadbalancer/{LB}/haproxy").body

    put = rig.call("PUT", f"/1.0/loadbalancer/{controller.amphora.id}/{LB}/haproxy", text)
    got = rig.call("GET", f"/1.0/loadbalancer/{LB}/haproxy")

    assert put.status == 202
    assert put.headers["etag"] == got.headers["etag"] == hashlib.md5(text, usedforsecurity=False).hexdigest()


def test_start_stop_and_reload_say_what_the_stock_agent_says(
    rig: ApiRig, controller: Controller, members: NamingMembers
) -> None:
    port = free_port()
    listener = http_listener(port, members, "one")
    controller.driver.update_amphora_listeners(load_balancer(controller, listener), controller.amphora)
    started = {"message": "OK", "details": f"Configuration file is valid\nhaproxy daemon for {LB} started"}

    def act(action: str) -> Any:
        reply = rig.call("PUT", f"/1.0/loadbalancer/{LB}/{action}")
        assert reply.status == 202
        return reply.json()

    assert act("reload") == {"message": "OK", "details": f"Listener {LB} reloaded"}
    assert act("stop") == {"message": "OK", "details": f"Listener {LB} stoped"}
    assert act("reload") == started
    assert get(port) == b"one"
    assert act("stop")["details"] == f"Listener {LB} stoped"
    assert act("start") == started
    assert get(port) == b"one"


def test_two_hundred_members_are_uploaded_and_in_force_quickly(
    rig: ApiRig, controller: Controller, caplog: pytest.LogCaptureFixture
) -> None:
    """150 ms on an idle machine; a machine of a test run does other things too."""
    caplog.set_level("INFO")
    members = [make_member("127.0.0.1", 10000 + number) for number in range(200)]
    listener = make_listener("HTTP", free_port(), default_pool=make_pool("HTTP", members=members), project_id="p")
    balancer = load_balancer(controller, listener)
    controller.driver.update_amphora_listeners(balancer, controller.amphora)
    members[0].weight = 17
    caplog.clear()

    controller.driver.update_amphora_listeners(balancer, controller.amphora)

    took = [float(found) for found in re.findall(r"call method=PUT .* status=202 ms=(\S+)", caplog.text)]
    assert len(took) == 2
    assert sum(took) < 150 * 4
