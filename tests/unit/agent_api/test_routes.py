"""Statuses, bodies, headers and effects of the 21 routes, and what each error of a service becomes.

Source: Octavia contract sections 1.3 to 1.5.
"""

from __future__ import annotations

import hashlib
import stat
from typing import TYPE_CHECKING, Any

import pytest

from amphorad.admin import Refused
from amphorad.errors import AmphoradError, ConfigError, NotFound, OperationFailed
from amphorad.network.errors import AlreadyPlugged, InvalidAddress, NoInterface, PlugFailed, UnknownInterface

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.api_rig import ApiRig

AMPHORA = "5f1a9f6c-0f0e-4c52-9a6e-3d1a52a2a001"
LB = "5f1a9f6c-0f0e-4c52-9a6e-3d1a52a2a002"
LISTENER = "5f1a9f6c-0f0e-4c52-9a6e-3d1a52a2a003"
UNKNOWN = "5f1a9f6c-0f0e-4c52-9a6e-3d1a52a2a0ff"
TEXT = "# a text with ü\n".encode()
VIP = {"subnet_cidr": "203.0.113.0/24", "gateway": "203.0.113.1", "mac_address": "fa:16:3e:00:00:01"}
OK = {"message": "OK"}
UPLOAD = f"/1.0/loadbalancer/{AMPHORA}/{LB}/haproxy"


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


# --- 1 to 3: discovery ---


@pytest.mark.parametrize("target", ["/", "//"])
def test_version_discovery_answers_the_one_version(rig: ApiRig, target: str) -> None:
    reply = rig.call("GET", target)

    assert (reply.status, reply.json()) == (200, {"api_version": "1.0"})


def test_info_has_every_key_as_text(rig: ApiRig) -> None:
    body = rig.call("GET", "/1.0/info").json()

    assert set(body) == {"hostname", "haproxy_version", "api_version", "keepalived_version", "ipvsadm_version"}
    assert body["api_version"] == "1.0"
    assert all(isinstance(value, str) and value for value in body.values())


def test_details_has_every_key_in_the_types_on_the_wire(rig: ApiRig) -> None:
    rig.call("PUT", UPLOAD, TEXT)

    body = rig.call("GET", "/1.0/details").json()

    assert body["networks"] == {
        "eth1": {"network_tx": 10, "network_rx": 20},
        "eth2": {"network_tx": 30, "network_rx": 40},
    }
    assert body["listeners"] == [LB]
    shapes: dict[str, Any] = {
        "hostname": str,
        "haproxy_version": str,
        "api_version": str,
        "keepalived_version": str,
        "ipvsadm_version": str,
        "networks": dict,
        "active": bool,
        "haproxy_count": int,
        "cpu_count": int,
        "cpu": {"total": int, "user": str, "system": str, "soft_irq": str},
        "memory": dict.fromkeys(("total", "free", "buffers", "cached", "swap_used", "shared", "slab"), int),
        "disk": {"used": int, "available": int},
        "load": list,
        "active_tuned_profiles": str,
        "topology": str,
        "topology_status": str,
        "listeners": list,
        "packages": dict,
        "lvs_listener_process_count": int,
    }
    assert set(body) == set(shapes)
    for key, shape in shapes.items():
        if isinstance(shape, dict):
            assert {name: type(value) for name, value in body[key].items()} == shape, key
        else:
            assert type(body[key]) is shape, key


# --- 4, 7 to 12: load balancers ---


def test_upload_answers_202_with_the_sum_of_the_bytes(rig: ApiRig) -> None:
    reply = rig.call("PUT", UPLOAD, TEXT)

    assert (reply.status, reply.json(), reply.headers["etag"]) == (202, OK, md5(TEXT))
    assert rig.recorder.calls == [("upload", AMPHORA, LB, TEXT)]


def test_configuration_is_given_back_as_text_with_its_sum(rig: ApiRig) -> None:
    rig.call("PUT", UPLOAD, TEXT)

    reply = rig.call("GET", f"/1.0/loadbalancer/{LB}/haproxy")

    assert (reply.status, reply.body, reply.headers["etag"]) == (200, TEXT, md5(TEXT))
    assert reply.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("action", ["start", "stop", "reload", "RELOAD", "Start"])
def test_action_answers_202_with_what_was_done(rig: ApiRig, action: str) -> None:
    rig.call("PUT", UPLOAD, TEXT)

    reply = rig.call("PUT", f"/1.0/loadbalancer/{LB}/{action}", b"")

    assert reply.status == 202
    assert reply.json()["message"] == "OK"
    assert LB in reply.json()["details"]
    assert rig.recorder.calls[-1] == (action.lower(), LB)


@pytest.mark.parametrize("object_id", [UNKNOWN, "123", "..%2f..%2fetc", "%00"])
def test_action_of_an_unknown_object_is_404(rig: ApiRig, object_id: str) -> None:
    reply = rig.call("PUT", f"/1.0/loadbalancer/{object_id}/start")

    assert reply.status == 404
    assert reply.json()["message"] == "Loadbalancer Not Found"
    assert reply.json()["details"].startswith("No loadbalancer with UUID: ")


@pytest.mark.parametrize(
    "path", [f"/1.0/loadbalancer/{UNKNOWN}/error", "/1.0/loadbalancer/123/error", "/1.0/vrrp/error"]
)
def test_action_unknown_comes_before_the_object(rig: ApiRig, path: str) -> None:
    reply = rig.call("PUT", path)

    assert (reply.status, reply.json()) == (400, {"message": "Invalid Request", "details": "Unknown action: error"})


@pytest.mark.parametrize("lb_id", [UNKNOWN, "123"])
def test_configuration_of_an_unknown_load_balancer_is_404(rig: ApiRig, lb_id: str) -> None:
    reply = rig.call("GET", f"/1.0/loadbalancer/{lb_id}/haproxy")

    assert reply.status == 404
    assert reply.json() == {"message": "Loadbalancer Not Found", "details": f"No loadbalancer with UUID: {lb_id}"}


@pytest.mark.parametrize("object_id", [UNKNOWN, "123", "%2e%2e"])
def test_delete_of_what_is_not_there_is_fine(rig: ApiRig, object_id: str) -> None:
    reply = rig.call("DELETE", f"/1.0/listeners/{object_id}")

    assert (reply.status, reply.json()) == (200, OK)


@pytest.mark.parametrize(
    "path", [f"/1.0/loadbalancer/{AMPHORA}/certs/haproxy", f"/1.0/listeners/vrrp/{LB}/udp_listener"]
)
def test_upload_under_a_name_that_is_no_id_is_refused(rig: ApiRig, path: str) -> None:
    reply = rig.call("PUT", path, TEXT)

    assert reply.status == 400
    assert reply.json()["message"] == "Invalid request"
    assert rig.recorder.calls == []


def test_lvs_upload_answers_200_and_is_given_back_without_a_sum(rig: ApiRig) -> None:
    uploaded = rig.call("PUT", f"/1.0/listeners/{AMPHORA}/{LISTENER}/udp_listener", TEXT)
    given = rig.call("GET", f"/1.0/listeners/{LISTENER}/udp_listener")

    assert (uploaded.status, uploaded.json(), uploaded.headers["etag"]) == (200, OK, md5(TEXT))
    assert (given.status, given.body) == (200, TEXT)
    assert "etag" not in given.headers
    assert rig.recorder.calls == [("upload_lvs", AMPHORA, LISTENER, TEXT)]


@pytest.mark.parametrize("listener_id", [UNKNOWN, "123"])
def test_lvs_configuration_unknown_is_404(rig: ApiRig, listener_id: str) -> None:
    reply = rig.call("GET", f"/1.0/listeners/{listener_id}/udp_listener")

    assert reply.status == 404
    assert reply.json() == {"message": "UDP Listener Not Found", "details": f"No UDP listener with UUID: {listener_id}"}


def test_listeners_are_all_listed(rig: ApiRig) -> None:
    rig.call("PUT", UPLOAD, TEXT)
    rig.call("PUT", f"/1.0/listeners/{AMPHORA}/{LISTENER}/udp_listener", TEXT)

    reply = rig.call("GET", "/1.0/listeners")

    assert reply.json() == [
        {"status": "ACTIVE", "uuid": LB, "type": "HTTP"},
        {"status": "OFFLINE", "uuid": LISTENER, "type": "UDP"},
    ]


# --- 13 to 15: certificates ---


@pytest.mark.parametrize("content", [b"", b"-----BEGIN\r\nx\r\n", bytes(range(256))])
def test_certificate_sum_is_that_of_the_raw_bytes(rig: ApiRig, content: bytes) -> None:
    path = f"/1.0/loadbalancer/{LB}/certificates/{LISTENER}.pem"

    put = rig.call("PUT", path, content)
    got = rig.call("GET", path)

    assert (put.status, put.json(), put.headers["etag"]) == (200, OK, md5(content))
    assert (got.status, got.json(), got.headers["etag"]) == (200, {"md5sum": md5(content)}, md5(content))
    stored = rig.certificate_dir / LB / f"{LISTENER}.pem"
    assert stored.read_bytes() == content
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600


def test_certificate_deleted_is_gone_and_deleting_again_is_fine(rig: ApiRig) -> None:
    path = f"/1.0/loadbalancer/{LB}/certificates/a.pem"
    rig.call("PUT", path, b"x")

    replies = [rig.call("DELETE", path) for _ in range(2)]

    assert [(reply.status, reply.json()) for reply in replies] == [(200, OK), (200, OK)]
    reply = rig.call("GET", path)
    assert reply.status == 404
    assert reply.json() == {"message": "Certificate Not Found", "details": "No certificate with filename: a.pem"}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "name", ["a.txt", "..%2f..%2fa.pem", "%00.pem", ".pem", "a.pem%0a", "%ff.pem", "x" * 300 + ".pem"]
)
def test_certificate_name_of_wrong_format_is_400(rig: ApiRig, method: str, name: str) -> None:
    reply = rig.call(method, f"/1.0/loadbalancer/{LB}/certificates/{name}", b"x" if method == "PUT" else None)

    assert (reply.status, reply.json()) == (400, {"message": "Filename has wrong format"})
    assert not rig.certificate_dir.exists()


def test_certificate_of_a_name_that_is_no_id_is_not_stored(rig: ApiRig) -> None:
    path = "/1.0/loadbalancer/%2e%2e/certificates/a.pem"

    assert rig.call("PUT", path, b"x").status == 400
    assert rig.call("GET", path).status == 404
    assert rig.call("DELETE", path).status == 200
    assert not (rig.directory / "a.pem").exists()


# --- 5, 6, 16, 17: interfaces ---


def test_interface_of_an_address_is_told(rig: ApiRig) -> None:
    reply = rig.call("GET", "/1.0/interface/203.0.113.20")

    assert (reply.status, reply.json()) == (200, {"message": "OK", "interface": "eth1"})


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (InvalidAddress("203.0.113 is no address"), 400, {"message": "Invalid IP address"}),
        (UnknownInterface("x"), 404, {"message": "Error interface not found for IP address"}),
    ],
)
@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("PUT", "/rules")])
def test_interface_lookup_fails_the_same_way_for_both_routes(
    rig: ApiRig, error: Exception, status: int, body: object, method: str, suffix: str
) -> None:
    rig.on_loop(lambda: rig.recorder.raises.update(interface_of=error))

    reply = rig.call(method, f"/1.0/interface/203.0.113.20{suffix}", b"not even JSON")

    assert (reply.status, reply.json()) == (status, body)


def test_rules_are_passed_on(rig: ApiRig) -> None:
    rules = [{"protocol": "TCP", "cidr": "192.0.2.0/24", "port": 80}, {"protocol": "vrrp", "cidr": None, "port": 112}]

    reply = rig.call_json("PUT", "/1.0/interface/203.0.113.20/rules", rules)

    assert (reply.status, reply.json()) == (200, OK)
    ((name, ip, passed),) = rig.recorder.calls
    assert (name, ip) == ("set_rules", "203.0.113.20")
    assert [(rule.protocol, rule.cidr, rule.port) for rule in passed] == [
        ("TCP", "192.0.2.0/24", 80),
        ("vrrp", None, 112),
    ]


@pytest.mark.parametrize(
    "rules",
    [
        {},
        None,
        ["x"],
        [{"protocol": "TCP", "cidr": None}],
        [{"protocol": "VRRP", "cidr": None, "port": 112}],
        [{"protocol": "tcp", "cidr": None, "port": 80}],
        [{"protocol": "TCP", "cidr": None, "port": 0}],
        [{"protocol": "TCP", "cidr": None, "port": 65536}],
        [{"protocol": "TCP", "cidr": None, "port": "80"}],
        [{"protocol": "TCP", "cidr": 1, "port": 80}],
        [{"protocol": "TCP", "cidr": None, "port": 80, "more": 1}],
    ],
)
def test_rules_of_a_wrong_shape_are_400(rig: ApiRig, rules: object) -> None:
    reply = rig.call_json("PUT", "/1.0/interface/203.0.113.20/rules", rules)

    assert reply.status == 400
    assert reply.json() == {"error": "400 Bad Request: Invalid rules information", "http_code": 400}
    assert rig.recorder.calls == []


def test_plug_vip_passes_the_body_on(rig: ApiRig) -> None:
    reply = rig.call_json("POST", "/1.0/plug/vip/203.0.113.7", VIP | {"mtu": 1450, "unknown": [1]})

    assert reply.status == 202
    assert reply.json() == {"message": "OK", "details": "VIPs plugged on interface eth1: 203.0.113.7"}
    ((name, vip, body),) = rig.recorder.calls
    assert (name, vip, body.subnet_cidr, body.mtu) == ("plug_vip", "203.0.113.7", "203.0.113.0/24", 1450)


def test_plug_network_passes_the_body_on(rig: ApiRig) -> None:
    reply = rig.call_json("POST", "/1.0/plug/network", {"mac_address": "fa:16:3e:00:00:02"})

    assert (reply.status, reply.json()) == (202, {"message": "OK", "details": "Plugged on interface eth2"})
    ((name, body),) = rig.recorder.calls
    assert (name, body.mac_address) == ("plug_network", "fa:16:3e:00:00:02")


@pytest.mark.parametrize(
    ("path", "complaint"),
    [("/1.0/plug/vip/203.0.113.7", "Invalid subnet information"), ("/1.0/plug/network", "Invalid port information")],
)
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"1", b'"x"', b"{}", b'{"mac_address": 1}', b"\xff\xfe", b"[" * 100000]
)
def test_plug_of_a_wrong_shape_is_400(rig: ApiRig, path: str, complaint: str, body: bytes) -> None:
    reply = rig.call("POST", path, body)

    assert reply.status == 400
    assert reply.json() == {"error": f"400 Bad Request: {complaint}", "http_code": 400}
    assert rig.recorder.calls == []


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (InvalidAddress("Invalid VIP: x"), 400, {"message": "Invalid VIP: x"}),
        (AlreadyPlugged("x"), 409, {"message": "Interface already exists"}),
        (NoInterface("x"), 404, {"details": "No suitable network interface found"}),
        (PlugFailed("Error plugging VIP", "why"), 500, {"message": "Error plugging VIP", "details": "why"}),
    ],
)
def test_plug_vip_errors_have_their_answers(rig: ApiRig, error: Exception, status: int, body: object) -> None:
    rig.on_loop(lambda: rig.recorder.raises.update(plug_vip=error))

    reply = rig.call_json("POST", "/1.0/plug/vip/203.0.113.7", VIP)

    assert (reply.status, reply.json()) == (status, body)


# --- 18, 19: the agent ---


def test_agent_certificate_is_served_from_the_next_connection_on(rig: ApiRig) -> None:
    with rig.connected() as connection:
        before = connection.getpeercert(binary_form=True)
    fresh = rig.identities.server_authority.issue(AMPHORA)

    reply = rig.call("PUT", "/1.0/certificate", fresh)

    assert (reply.status, reply.json()) == (202, OK)
    assert rig.server_certificate.read_bytes() == fresh
    assert stat.S_IMODE(rig.server_certificate.stat().st_mode) == 0o600
    with rig.connected() as connection:
        assert connection.getpeercert(binary_form=True) != before
    assert rig.call("GET", "//").status == 200


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_agent_certificate_that_cannot_be_served_is_refused(rig: ApiRig, content: bytes) -> None:
    before = rig.server_certificate.read_bytes()

    reply = rig.call("PUT", "/1.0/certificate", content)

    assert reply.status == 400
    assert reply.json()["message"] == "Invalid request"
    assert rig.server_certificate.read_bytes() == before
    assert rig.call("GET", "//").status == 200


def test_agent_configuration_is_replaced_and_read_again(rig: ApiRig) -> None:
    text = rig.config_file.read_bytes() + b"\n# changed\n"

    reply = rig.call("PUT", "/1.0/config", text)

    assert (reply.status, reply.json()) == (202, OK)
    assert rig.config_file.read_bytes() == text
    assert stat.S_IMODE(rig.config_file.stat().st_mode) == 0o600
    assert rig.recorder.calls == [("reread_settings",)]


@pytest.mark.parametrize("text", [b"no section\n", b"[health_manager]\nheartbeat_interval = often\n", b"\xff\xfe"])
def test_agent_configuration_that_cannot_be_read_is_refused(rig: ApiRig, text: bytes) -> None:
    before = rig.config_file.read_bytes()

    reply = rig.call("PUT", "/1.0/config", text)

    assert reply.status == 500
    assert reply.json()["message"] == "Unable to update amphora-agent configuration."
    assert reply.json()["details"]
    assert rig.config_file.read_bytes() == before
    assert rig.recorder.calls == []


def test_agent_configuration_that_cannot_take_effect_is_500_and_the_old_one_is_back(rig: ApiRig) -> None:
    before = rig.config_file.read_bytes()
    rig.on_loop(lambda: rig.recorder.raises.update(reread_settings=ConfigError("too late")))

    reply = rig.call("PUT", "/1.0/config", before + b"# changed\n")

    assert reply.status == 500
    assert reply.json()["message"] == "Unable to update amphora-agent configuration."
    assert rig.config_file.read_bytes() == before


def test_agent_configuration_that_somebody_deleted_is_made_again(rig: ApiRig) -> None:
    text = rig.config_file.read_bytes()
    rig.config_file.unlink()

    assert rig.call("PUT", "/1.0/config", text).status == 202
    assert rig.config_file.read_bytes() == text


# --- 20, 21: VRRP ---


def test_vrrp_upload_answers_200_with_the_sum(rig: ApiRig) -> None:
    reply = rig.call("PUT", "/1.0/vrrp/upload", TEXT)

    assert (reply.status, reply.json(), reply.headers["etag"]) == (200, OK, md5(TEXT))
    assert rig.recorder.calls == [("vrrp_upload", TEXT)]


@pytest.mark.parametrize("action", ["start", "stop", "RELOAD"])
def test_vrrp_action_answers_202_with_what_was_done(rig: ApiRig, action: str) -> None:
    reply = rig.call("PUT", f"/1.0/vrrp/{action}")

    assert reply.status == 202
    assert reply.json()["message"] == "OK"
    assert reply.json()["details"].startswith("keepalived ")
    assert rig.recorder.calls == [(f"vrrp_{action.lower()}",)]


# --- errors of services, wherever they come from ---


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (
            Refused([ConfigError("no", file="a", line=3, word="x"), ConfigError("nor this", file="a")]),
            400,
            {"message": "Invalid request", "details": "a:3: no: 'x'\na: nor this"},
        ),
        (ConfigError("no", file="a", line=3), 400, {"message": "Invalid request", "details": "a:3: no"}),
        (NotFound("Not Found", "why"), 404, {"message": "Not Found", "details": "why"}),
        (
            OperationFailed("Error reloading haproxy", "why"),
            500,
            {"message": "Error reloading haproxy", "details": "why"},
        ),
        (AmphoradError("odd"), 500, {"error": "500 Internal Server Error: odd", "http_code": 500}),
    ],
)
def test_service_errors_have_their_answers(rig: ApiRig, error: Exception, status: int, body: object) -> None:
    rig.on_loop(lambda: rig.recorder.raises.update(upload=error))

    reply = rig.call("PUT", UPLOAD, TEXT)

    assert (reply.status, reply.json()) == (status, body)


@pytest.mark.parametrize(
    "error", [RuntimeError("secret"), TimeoutError("secret"), OSError(28, "secret"), KeyError("secret")]
)
def test_service_bug_is_500_with_the_trace_in_the_log_only(
    rig: ApiRig, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    rig.on_loop(lambda: rig.recorder.raises.update(upload=error))

    reply = rig.call("PUT", UPLOAD, TEXT)

    assert reply.status == 500
    assert set(reply.json()) == {"error", "http_code"}
    assert b"secret" not in reply.body
    assert "Traceback" in caplog.text
    assert "secret" in caplog.text


def test_files_of_a_failed_write_are_500_and_unchanged(rig: ApiRig, tmp_path: Path) -> None:
    (tmp_path / "certs").write_text("a file where a directory should be")

    reply = rig.call("PUT", f"/1.0/loadbalancer/{LB}/certificates/a.pem", b"x")

    assert reply.status == 500
    assert (tmp_path / "certs").read_text() == "a file where a directory should be"
