"""Bad input of every kind, to every route: a contract answer or a refused handshake, and nothing changed on the disk or behind the API."""

from __future__ import annotations

import contextlib
import json
import ssl
from typing import TYPE_CHECKING

import pytest

from amphorad.agent_api.request_body import (
    CERTIFICATE_LIMIT,
    CONFIGURATION_LIMIT,
    JSON_LIMIT,
    SERVER_CERTIFICATE_LIMIT,
    SETTINGS_LIMIT,
    VRRP_LIMIT,
)
from tests.support.api_rig import read_reply
from tests.support.octavia_render import make_id

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.api_rig import ApiRig

AMPHORA, LB, LISTENER = (make_id("bad-input", number) for number in range(3))
VIP = {"subnet_cidr": "203.0.113.0/24", "gateway": "203.0.113.1", "mac_address": "fa:16:3e:00:00:01"}

# route -> how long a body may be
WITH_BODY = {
    ("PUT", "/1.0/interface/203.0.113.7/rules"): JSON_LIMIT,
    ("PUT", f"/1.0/loadbalancer/{AMPHORA}/{LB}/haproxy"): CONFIGURATION_LIMIT,
    ("PUT", f"/1.0/listeners/{AMPHORA}/{LISTENER}/udp_listener"): CONFIGURATION_LIMIT,
    ("PUT", f"/1.0/loadbalancer/{LB}/certificates/a.pem"): CERTIFICATE_LIMIT,
    ("POST", "/1.0/plug/vip/203.0.113.7"): JSON_LIMIT,
    ("POST", "/1.0/plug/network"): JSON_LIMIT,
    ("PUT", "/1.0/certificate"): SERVER_CERTIFICATE_LIMIT,
    ("PUT", "/1.0/config"): SETTINGS_LIMIT,
    ("PUT", "/1.0/vrrp/upload"): VRRP_LIMIT,
}
WITH_NAMES = [
    ("PUT", "/1.0/loadbalancer/{}/" + LB + "/haproxy"),
    ("PUT", "/1.0/loadbalancer/" + AMPHORA + "/{}/haproxy"),
    ("GET", "/1.0/loadbalancer/{}/haproxy"),
    ("PUT", "/1.0/loadbalancer/{}/start"),
    ("PUT", "/1.0/loadbalancer/{}/stop"),
    ("PUT", "/1.0/loadbalancer/{}/reload"),
    ("PUT", "/1.0/loadbalancer/" + LB + "/{}"),
    ("DELETE", "/1.0/listeners/{}"),
    ("PUT", "/1.0/listeners/{}/" + LISTENER + "/udp_listener"),
    ("PUT", "/1.0/listeners/" + AMPHORA + "/{}/udp_listener"),
    ("GET", "/1.0/listeners/{}/udp_listener"),
    ("PUT", "/1.0/loadbalancer/{}/certificates/a.pem"),
    ("GET", "/1.0/loadbalancer/{}/certificates/a.pem"),
    ("DELETE", "/1.0/loadbalancer/{}/certificates/a.pem"),
    ("PUT", "/1.0/loadbalancer/" + LB + "/certificates/{}"),
    ("DELETE", "/1.0/loadbalancer/" + LB + "/certificates/{}"),
    ("PUT", "/1.0/vrrp/{}"),
]
BAD_NAMES = [
    "..",
    "%2e%2e",
    "..%2f..%2fetc",
    "%2Fetc%2Fpasswd",
    "certs",
    "vrrp",
    "lvs",
    "%00",
    LB + "%00",
    LB + "%0a",
    LB.upper(),
    "%ff%fe",
    "%c0%ae%c0%ae",
    "%25s",
    "{}",
    "-",
    "x" * 1500,
]


def tree(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a directory: path -> mode and content."""
    return {
        str(path.relative_to(directory)): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(directory.rglob("*"))
    }


@contextlib.contextmanager
def unchanged(rig: ApiRig):  # type: ignore[no-untyped-def]
    before = tree(rig.directory)
    yield
    assert tree(rig.directory) == before
    assert [call for call in rig.recorder.calls if call[0] != "delete"] == []


@pytest.mark.parametrize(("method", "pattern"), WITH_NAMES)
def test_names_that_are_none_change_nothing(rig: ApiRig, method: str, pattern: str) -> None:
    with unchanged(rig):
        for name in BAD_NAMES:
            reply = rig.call(method, pattern.replace("{}", name), b"text" if method == "PUT" else None)

            # what is not there has been deleted; everything else is refused or not found
            expected = {200, 400, 404} if method == "DELETE" else {400, 404}
            assert reply.status in expected, name
            assert isinstance(reply.json(), dict)
    assert rig.recorder.calls == []


@pytest.mark.parametrize(("route", "limit"), WITH_BODY.items(), ids=lambda value: str(value))
def test_bodies_that_are_too_long_change_nothing(rig: ApiRig, route: tuple[str, str], limit: int) -> None:
    method, path = route
    with unchanged(rig):
        announced = rig.call(method, path, b"x" * (limit + 1))
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{limit + 1:x}\r\n"
        chunked = rig.say(head.encode() + b"x" * (limit + 1) + b"\r\n0\r\n\r\n")

        assert (announced.status, chunked.status) == (400, 400)
        assert "longer" in chunked.json()["error"]


def half(route: tuple[str, str]) -> bytes:
    method, path = route
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf".encode()


def test_bodies_that_end_half_way_change_nothing(rig: ApiRig) -> None:
    with unchanged(rig):
        for route in WITH_BODY:
            with rig.connected() as connection:
                connection.sendall(half(route))

        assert rig.call("GET", "//").status == 200


def test_bodies_that_stay_half_are_refused_in_the_end_and_change_nothing(rig: ApiRig) -> None:
    with unchanged(rig), contextlib.ExitStack() as stack:
        connections = [stack.enter_context(rig.connected()) for _ in WITH_BODY]
        for connection, route in zip(connections, WITH_BODY, strict=True):
            connection.sendall(half(route))

        replies = [read_reply(connection) for connection in connections]

        assert [reply.status for reply in replies] == [400] * len(WITH_BODY)
        assert all("was not complete after" in reply.json()["error"] for reply in replies)


@pytest.mark.parametrize("path", ["/1.0/plug/vip/203.0.113.7", "/1.0/plug/network", "/1.0/interface/203.0.113.7/rules"])
def test_json_of_wrong_types_changes_nothing(rig: ApiRig, path: str) -> None:
    wrong: list[object] = [None, True, 1, 1.5, "x", [1], {"a": 1}]
    keys = [*VIP, "mtu", "vrrp_ip", "host_routes", "additional_vips", "is_sriov", "fixed_ips", "vip_net_info"]
    allowed_null = {"gateway", "mtu", "vrrp_ip", "fixed_ips", "vip_net_info", "is_sriov"}
    method = "PUT" if path.endswith("rules") else "POST"
    with unchanged(rig):
        for value in wrong:
            assert rig.call(method, path, json.dumps(value).encode()).status == 400, value
        for value in (b"{'a': 1}", b'{"mac_address":', b"\x00", b'{"mac_address": NaN}', b"\xef\xbb\xbf{}"):
            assert rig.call(method, path, value).status == 400, value
    if path.endswith("rules"):
        return
    for key in keys:
        for value in wrong:
            takes = value is None and key in allowed_null
            if takes or _fits(key, value, path):
                continue
            with unchanged(rig):
                assert rig.call_json("POST", path, VIP | {key: value}).status == 400, (key, value)


def _fits(key: str, value: object, path: str) -> bool:
    """Whether a value has the type of the key, or the key means nothing in this call."""
    vip_keys = {"subnet_cidr", "gateway", "mac_address", "mtu", "vrrp_ip", "host_routes", "additional_vips", "is_sriov"}
    network_keys = {"mac_address", "mtu", "is_sriov", "fixed_ips", "vip_net_info"}
    if key not in (vip_keys if "vip" in path else network_keys):
        return True
    kinds: dict[str, tuple[type, ...]] = {"mtu": (int,), "is_sriov": (bool,)}
    return type(value) in kinds.get(
        key, (str,) if key not in ("host_routes", "additional_vips", "fixed_ips", "vip_net_info") else ()
    )


def test_strangers_change_nothing(rig: ApiRig) -> None:
    contexts = [rig.client_context(), rig.client_context(rig.identities.strangers_client)]
    with unchanged(rig):
        for context in contexts:
            for path in ("/1.0/config", "/1.0/certificate", "/1.0/vrrp/upload"):
                received = b""
                with contextlib.suppress(ssl.SSLError, ConnectionError), rig.connected(context) as connection:
                    connection.sendall(f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ntext".encode())
                    received = connection.recv(1)
                assert received == b""
