"""What the stock agent's own functional tests expect of each call, as one table: call, what stands behind it, status, body.

The facts are those of `octavia/tests/functional/amphorae/backend/agent/api_server`; ids are UUIDs here, as on the wire.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from amphorad.admin import Refused
from amphorad.errors import ConfigError, OperationFailed
from amphorad.network.errors import AlreadyPlugged, InvalidAddress, NoInterface, PlugFailed, UnknownInterface
from tests.support.octavia_render import make_id

if TYPE_CHECKING:
    from tests.support.api_rig import ApiRig

AMPHORA, LB, LISTENER, UNKNOWN = (make_id("call-table", number) for number in range(4))
OK = {"message": "OK"}
SUBNET = {"subnet_cidr": "203.0.113.0/24", "gateway": "203.0.113.1", "mac_address": "123"}
SUBNET_6 = {"subnet_cidr": "2001:db8::/32", "gateway": "2001:db8::1", "mac_address": "123"}
NO_INTERFACE = {"details": "No suitable network interface found"}
CERTIFICATES = f"/1.0/loadbalancer/{LB}/certificates"


@dataclass(frozen=True)
class Row:
    """One call. `raises`: which stand-in fails, and how. `body` None: only the status counts, as in the stock tests."""

    name: str
    method: str
    path: str
    status: int
    body: Any = None
    sent: Any = b""
    raises: tuple[str, Exception] | None = None


ROWS = [
    Row("version", "GET", "/", 200, {"api_version": "1.0"}),
    Row("info", "GET", "/1.0/info", 200),
    Row("details", "GET", "/1.0/details", 200),
    # haproxy.cfg
    Row("upload", "PUT", f"/1.0/loadbalancer/{AMPHORA}/{LB}/haproxy", 202, OK, b"test"),
    Row(
        "upload, disk fails",
        "PUT",
        f"/1.0/loadbalancer/{AMPHORA}/{LB}/haproxy",
        500,
        None,
        b"test",
        ("upload", OperationFailed("Error writing configuration", "no space")),
    ),
    Row(
        "upload, text refused",
        "PUT",
        f"/1.0/loadbalancer/{AMPHORA}/{LB}/haproxy",
        400,
        {"message": "Invalid request", "details": "haproxy.cfg:1: random error"},
        b"test",
        ("upload", Refused([ConfigError("random error", file="haproxy.cfg", line=1)])),
    ),
    Row("get text", "GET", f"/1.0/loadbalancer/{LB}/haproxy", 200),
    Row(
        "get unknown text",
        "GET",
        f"/1.0/loadbalancer/{UNKNOWN}/haproxy",
        404,
        {"message": "Loadbalancer Not Found", "details": f"No loadbalancer with UUID: {UNKNOWN}"},
    ),
    # actions
    Row(
        "unknown action",
        "PUT",
        f"/1.0/loadbalancer/{LB}/error",
        400,
        {"message": "Invalid Request", "details": "Unknown action: error"},
    ),
    Row(
        "start unknown",
        "PUT",
        f"/1.0/loadbalancer/{UNKNOWN}/start",
        404,
        {"message": "Loadbalancer Not Found", "details": f"No loadbalancer with UUID: {UNKNOWN}"},
    ),
    Row(
        "start",
        "PUT",
        f"/1.0/loadbalancer/{LB}/start",
        202,
        {"message": "OK", "details": f"Configuration file is valid\nhaproxy daemon for {LB} started"},
    ),
    Row(
        "start fails",
        "PUT",
        f"/1.0/loadbalancer/{LB}/start",
        500,
        {"message": "Error starting haproxy", "details": "random error"},
        raises=("start", OperationFailed("Error starting haproxy", "random error")),
    ),
    Row(
        "reload", "PUT", f"/1.0/loadbalancer/{LB}/reload", 202, {"message": "OK", "details": f"Listener {LB} reloaded"}
    ),
    Row("stop", "PUT", f"/1.0/loadbalancer/{LB}/stop", 202, {"message": "OK", "details": f"Listener {LB} stoped"}),
    # delete
    Row("delete unknown", "DELETE", f"/1.0/listeners/{UNKNOWN}", 200, OK),
    Row("delete", "DELETE", f"/1.0/listeners/{LB}", 200, OK),
    Row(
        "delete, stop fails",
        "DELETE",
        f"/1.0/listeners/{LB}",
        500,
        {"message": "Error stopping haproxy", "details": "random error"},
        raises=("delete", OperationFailed("Error stopping haproxy", "random error")),
    ),
    Row("listeners", "GET", "/1.0/listeners", 200, [{"status": "ACTIVE", "uuid": LB, "type": "HTTP"}]),
    # certificates
    Row("put certificate", "PUT", f"{CERTIFICATES}/test.pem", 200, OK, b"TestTest"),
    Row(
        "put certificate, wrong name",
        "PUT",
        f"{CERTIFICATES}/test.bla",
        400,
        {"message": "Filename has wrong format"},
        b"TestTest",
    ),
    Row("delete certificate", "DELETE", f"{CERTIFICATES}/test3.pem", 200, OK),
    Row(
        "delete certificate, wrong name",
        "DELETE",
        f"{CERTIFICATES}/test3.bla",
        400,
        {"message": "Filename has wrong format"},
    ),
    Row(
        "certificate sum, unknown",
        "GET",
        f"{CERTIFICATES}/test.pem",
        404,
        {"message": "Certificate Not Found", "details": "No certificate with filename: test.pem"},
    ),
    Row(
        "certificate sum, wrong name", "GET", f"{CERTIFICATES}/test.bla", 400, {"message": "Filename has wrong format"}
    ),
    # plug/network
    Row("plug network", "POST", "/1.0/plug/network", 202, sent={"mac_address": "123"}),
    Row("plug network, no MAC", "POST", "/1.0/plug/network", 400, sent={"fixed_ips": []}),
    Row(
        "plug network, not there",
        "POST",
        "/1.0/plug/network",
        404,
        NO_INTERFACE,
        {"mac_address": "123"},
        ("plug_network", NoInterface("x")),
    ),
    Row(
        "plug network, bad address",
        "POST",
        "/1.0/plug/network",
        400,
        {"message": "Invalid network port"},
        {"mac_address": "123"},
        ("plug_network", InvalidAddress("Invalid network port")),
    ),
    Row(
        "plug network, up fails",
        "POST",
        "/1.0/plug/network",
        500,
        {"message": "Error plugging network", "details": "random error"},
        {"mac_address": "123"},
        ("plug_network", PlugFailed("Error plugging network", "random error")),
    ),
    # plug/vip
    Row("plug VIP, no body", "POST", "/1.0/plug/vip/203.0.113.2", 400, sent=b""),
    Row("plug VIP, half a body", "POST", "/1.0/plug/vip/203.0.113.2", 400, sent={"subnet_cidr": "a", "gateway": "b"}),
    Row(
        "plug VIP, bad VIP",
        "POST",
        "/1.0/plug/vip/error",
        400,
        {"message": "Invalid VIP: x"},
        SUBNET,
        ("plug_vip", InvalidAddress("Invalid VIP: x")),
    ),
    Row(
        "plug VIP, bad VRRP address",
        "POST",
        "/1.0/plug/vip/203.0.113.2",
        400,
        {"message": "Invalid VRRP Address: x"},
        SUBNET | {"vrrp_ip": "x"},
        ("plug_vip", InvalidAddress("Invalid VRRP Address: x")),
    ),
    Row(
        "plug VIP, not there",
        "POST",
        "/1.0/plug/vip/203.0.113.2",
        404,
        NO_INTERFACE,
        SUBNET,
        ("plug_vip", NoInterface("x")),
    ),
    Row(
        "plug VIP",
        "POST",
        "/1.0/plug/vip/203.0.113.2",
        202,
        {"message": "OK", "details": "VIPs plugged on interface eth1: 203.0.113.2"},
        SUBNET | {"mtu": 1450, "vrrp_ip": "203.0.113.4", "host_routes": [], "additional_vips": []},
    ),
    Row("plug VIP of IPv6", "POST", "/1.0/plug/vip/2001:db8::2", 202, sent=SUBNET_6),
    Row(
        "plug VIP again",
        "POST",
        "/1.0/plug/vip/203.0.113.2",
        409,
        {"message": "Interface already exists"},
        SUBNET,
        ("plug_vip", AlreadyPlugged("x")),
    ),
    Row(
        "plug VIP, up fails",
        "POST",
        "/1.0/plug/vip/203.0.113.2",
        500,
        {"message": "Error plugging VIP", "details": "random error"},
        SUBNET,
        ("plug_vip", PlugFailed("Error plugging VIP", "random error")),
    ),
    # interface
    Row("interface", "GET", "/1.0/interface/203.0.113.2", 200, {"message": "OK", "interface": "eth1"}),
    Row("interface of IPv6", "GET", "/1.0/interface/::1", 200, {"message": "OK", "interface": "eth1"}),
    Row(
        "interface, unknown",
        "GET",
        "/1.0/interface/10.0.0.1",
        404,
        {"message": "Error interface not found for IP address"},
        raises=("interface_of", UnknownInterface("x")),
    ),
    Row(
        "interface, no address",
        "GET",
        "/1.0/interface/00:00:00:00:00:00",
        400,
        {"message": "Invalid IP address"},
        raises=("interface_of", InvalidAddress("x")),
    ),
    Row("rules, no JSON", "PUT", "/1.0/interface/192.0.2.10/rules", 400, sent=b"fake"),
    Row(
        "rules",
        "PUT",
        "/1.0/interface/192.0.2.10/rules",
        200,
        OK,
        [{"protocol": "TCP", "cidr": "192.0.2.0/24", "port": 8080}, {"protocol": "UDP", "cidr": None, "port": 80}],
    ),
    # VRRP
    Row("VRRP upload", "PUT", "/1.0/vrrp/upload", 200, OK, b"test"),
    Row("VRRP start", "PUT", "/1.0/vrrp/start", 202, {"message": "OK", "details": "keepalived started"}),
    Row(
        "VRRP unknown action",
        "PUT",
        "/1.0/vrrp/restart",
        400,
        {"message": "Invalid Request", "details": "Unknown action: restart"},
    ),
    Row(
        "VRRP start fails",
        "PUT",
        "/1.0/vrrp/start",
        500,
        {"message": "Failed to start octavia-keepalived service", "details": "blah!"},
        raises=("vrrp_start", OperationFailed("Failed to start octavia-keepalived service", "blah!")),
    ),
    # UDP and SCTP listeners
    Row("LVS upload", "PUT", f"/1.0/listeners/{AMPHORA}/{LISTENER}/udp_listener", 200, OK, b"test"),
    Row(
        "LVS get unknown",
        "GET",
        f"/1.0/listeners/{UNKNOWN}/udp_listener",
        404,
        {"message": "UDP Listener Not Found", "details": f"No UDP listener with UUID: {UNKNOWN}"},
    ),
    # the agent
    Row(
        "configuration fails",
        "PUT",
        "/1.0/config",
        500,
        {"message": "Unable to update amphora-agent configuration.", "details": "<text>: boom"},
        b"[DEFAULT]\n",
        ("reread_settings", ConfigError("boom")),
    ),
    Row("configuration", "PUT", "/1.0/config", 202, OK, b"[DEFAULT]\n"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_call_is_answered_as_the_stock_agent_answers_it(rig: ApiRig, row: Row) -> None:
    rig.on_loop(lambda: rig.services.load_balancers.texts.update({LB: b"listen some testing\n"}))
    if row.raises is not None:
        name, error = row.raises
        rig.on_loop(lambda: rig.recorder.raises.update({name: error}))
    sent = row.sent if isinstance(row.sent, bytes) else json.dumps(row.sent).encode()

    reply = rig.call(row.method, row.path, sent)

    assert reply.status == row.status, reply.body
    if row.body is not None:
        assert reply.json() == row.body
