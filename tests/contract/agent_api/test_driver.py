"""The real controller's driver against the served API: what it sends is understood, what it gets makes it do the right thing.

The parts behind the API are stand-ins here, so that each answer can be provoked; `tests/e2e/agent` has all real parts.

Source: Octavia contract sections 1.2 and 1.6.
"""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from amphorad.agent.settings import parse_settings
from amphorad.errors import ConfigError, OperationFailed
from amphorad.network.errors import AlreadyPlugged, InvalidAddress, NoInterface, UnknownInterface
from tests.support.api_rig import settings_text
from tests.support.controller import RETRIES, Controller, modules
from tests.support.octavia_render import make_id, make_listener, make_member, make_pool, require_octavia

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.api_certificates import Identities
    from tests.support.api_rig import ApiRig

require_octavia()

LB = make_id("load-balancer", 900)
ROUTE = {"destination": "198.51.100.0/24", "nexthop": "203.0.113.9"}


def load_balancer(listeners: list[Any], **fields: Any) -> Any:
    models = modules().data_models
    found = models.LoadBalancer(
        id=LB,
        project_id="e2c1d7a2b3f84d5f9a0b1c2d3e4f5a6b",
        enabled=True,
        topology="SINGLE",
        vip=models.Vip(ip_address="203.0.113.7", vnic_type="normal"),
        additional_vips=[],
        listeners=listeners,
        **fields,
    )
    for listener in listeners:
        listener.load_balancer = found
    return found


def http_listener(**fields: Any) -> Any:
    pool = make_pool("HTTP", members=[make_member("192.0.2.10", 8080)])
    return make_listener("HTTP", 80, default_pool=pool, project_id="p", **fields)


def names(rig: ApiRig) -> list[str]:
    return [call[0] for call in rig.recorder.calls]


def log_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Method and path of each call, from the API's own log."""
    found = []
    for record in caplog.records:
        if record.name == "amphorad.agent_api.dispatcher" and record.getMessage().startswith("call method="):
            words = record.getMessage().split()
            found.append(f"{words[1].partition('=')[2]} {words[2].partition('=')[2]}")
    return found


# --- first contact ---


def test_driver_discovers_the_version(controller: Controller, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    controller.driver.check(controller.amphora)

    assert controller.amphora.api_version == "1.0"
    assert log_lines(caplog)[0] == "GET //"


def test_driver_reads_info_and_the_version_of_the_dialect(controller: Controller) -> None:
    info = controller.driver.get_info(controller.amphora)

    assert info["api_version"] == "1.0"
    versions = controller.driver._get_haproxy_versions(controller.amphora)
    assert [int(part) for part in versions] >= [2, 2]


def test_driver_with_a_wrong_amphora_id_does_not_trust_the_server(controller: Controller) -> None:
    controller.amphora.id = make_id("amphora", 901)

    with pytest.raises(modules().driver_errors.TimeOutException):
        controller.driver.check(controller.amphora)


# --- update of listeners ---


def test_driver_update_sends_the_configuration_and_reloads(
    rig: ApiRig, controller: Controller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    balancer = load_balancer([http_listener()], amphorae=[controller.amphora])

    controller.driver.update_amphora_listeners(balancer, controller.amphora)

    assert log_lines(caplog) == [
        "GET //",
        "GET /1.0/info",
        "GET /1.0/details",
        f"PUT /1.0/loadbalancer/{controller.amphora.id}/{LB}/haproxy",
        f"PUT /1.0/loadbalancer/{LB}/reload",
    ]
    upload, reload = rig.recorder.calls
    assert upload[:3] == ("upload", controller.amphora.id, LB)
    assert b"nbthread" not in upload[3]
    assert reload == ("reload", LB)


@pytest.fixture
def tls_listener(controller: Controller, identities: Identities) -> Any:
    pem = identities.server_authority.issue("www.example.com").decode()
    at = pem.index("-----BEGIN RSA")
    reference = controller.driver.cert_manager.store_cert(None, pem[:at], pem[at:])
    return http_listener(
        tls_certificate_id=reference,
        sni_containers=[],
        tls_ciphers="ECDHE-RSA-AES128-GCM-SHA256:TLS_AES_128_GCM_SHA256",
        tls_versions=["TLSv1.2"],
        alpn_protocols=["http/1.1"],
    )


def test_driver_sends_each_certificate_once_and_again_only_when_it_differs(
    rig: ApiRig, controller: Controller, tls_listener: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    tls_listener.protocol = "TERMINATED_HTTPS"
    balancer = load_balancer([tls_listener], amphorae=[controller.amphora])

    controller.driver.update_amphora_listeners(balancer, controller.amphora)
    first = [line for line in log_lines(caplog) if "/certificates/" in line]
    caplog.clear()
    controller.driver.update_amphora_listeners(balancer, controller.amphora)
    second = [line for line in log_lines(caplog) if "/certificates/" in line]
    caplog.clear()
    stored = sorted((rig.certificate_dir / LB).iterdir())
    stored[0].write_bytes(b"damaged")
    controller.driver.update_amphora_listeners(balancer, controller.amphora)
    third = [line for line in log_lines(caplog) if "/certificates/" in line]

    assert [line.split()[0] for line in first] == ["GET", "PUT", "GET", "PUT"]
    assert [line.split()[0] for line in second] == ["GET", "GET"]
    assert [line.split()[0] for line in third].count("PUT") == 1
    crt_list = (rig.certificate_dir / LB / f"{tls_listener.id}.pem").read_text().split()
    assert len(crt_list) == 1
    assert crt_list[0].startswith(f"{rig.certificate_dir}/{LB}/")
    assert "-----BEGIN CERTIFICATE" in (rig.certificate_dir / LB / crt_list[0].rpartition("/")[2]).read_text()


def test_driver_deletes_certificates_and_the_load_balancer_with_its_last_listener(
    rig: ApiRig, controller: Controller, tls_listener: Any
) -> None:
    tls_listener.protocol = "TERMINATED_HTTPS"
    balancer = load_balancer([tls_listener], amphorae=[controller.amphora])
    controller.driver.update_amphora_listeners(balancer, controller.amphora)

    controller.driver.delete(tls_listener)
    left = [path.name for path in (rig.certificate_dir / LB).iterdir()]
    controller.driver.delete(tls_listener)  # a repeated flow: nothing is there any more

    assert left == [f"{tls_listener.id}.pem"]
    assert names(rig).count("delete") == 2


def test_driver_certificate_of_binary_bytes_has_the_sum_that_the_controller_has(controller: Controller) -> None:
    """A DER revocation list makes the stock agent fail. Octavia contract section 1.5, routes 13 to 15."""
    controller.driver.check(controller.amphora)
    content = bytes(range(256)) + b"\r\n"

    controller.client.upload_cert_pem(controller.amphora, LB, "crl.pem", content)

    assert (
        controller.client.get_cert_md5sum(controller.amphora, LB, "crl.pem")
        == hashlib.md5(content, usedforsecurity=False).hexdigest()
    )


def test_driver_takes_absent_certificates_and_listeners_for_fine(controller: Controller) -> None:
    controller.driver.check(controller.amphora)

    assert controller.client.get_cert_md5sum(controller.amphora, LB, "a.pem", ignore=(404,)) is None
    controller.client.delete_cert_pem(controller.amphora, LB, "a.pem")
    controller.client.delete_listener(controller.amphora, LB)


def test_driver_refused_configuration_is_an_invalid_request(rig: ApiRig, controller: Controller) -> None:
    rig.on_loop(lambda: rig.recorder.raises.update(upload=ConfigError("no such word", file="haproxy.cfg", line=3)))
    balancer = load_balancer([http_listener()], amphorae=[controller.amphora])

    with pytest.raises(modules().errors.InvalidRequest):
        controller.driver.update_amphora_listeners(balancer, controller.amphora)

    assert names(rig) == []


def test_driver_failed_reload_is_a_server_error(rig: ApiRig, controller: Controller) -> None:
    rig.on_loop(lambda: rig.recorder.raises.update(reload=OperationFailed("Error reloading haproxy", "why")))
    balancer = load_balancer([http_listener()], amphorae=[controller.amphora])

    with pytest.raises(modules().errors.InternalServerError):
        controller.driver.update_amphora_listeners(balancer, controller.amphora)


def test_driver_udp_listener_is_uploaded_reloaded_and_deleted(
    rig: ApiRig, controller: Controller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    pool = make_pool("UDP", members=[make_member("192.0.2.10", 53)])
    listener = make_listener("UDP", 53, default_pool=pool)
    balancer = load_balancer([listener], amphorae=[controller.amphora])

    controller.driver.update_amphora_listeners(balancer, controller.amphora)
    controller.driver.delete(listener)

    assert log_lines(caplog)[2:] == [
        f"PUT /1.0/listeners/{controller.amphora.id}/{listener.id}/udp_listener",
        f"PUT /1.0/loadbalancer/{listener.id}/reload",
        f"DELETE /1.0/listeners/{listener.id}",
    ]
    assert rig.recorder.calls[0][3].startswith(b"# Configuration for Loadbalancer")


def test_driver_reads_listeners_and_details(rig: ApiRig, controller: Controller) -> None:
    controller.driver.update_amphora_listeners(
        load_balancer([http_listener()], amphorae=[controller.amphora]), controller.amphora
    )

    assert controller.client.get_all_listeners(controller.amphora) == [{"status": "ACTIVE", "uuid": LB, "type": "HTTP"}]
    assert controller.client.get_details(controller.amphora)["cpu_count"] > 0


# --- plugging ---


def vip_port() -> Any:
    models = modules().network_models
    return models.Port(
        id="port-1",
        mac_address="fa:16:3e:00:00:01",
        network=models.Network(id="network-1", mtu=1450),
        fixed_ips=[],
        vnic_type="normal",
    )


def subnet(cidr: str, gateway: str) -> Any:
    models = modules().network_models
    return models.Subnet(cidr=cidr, gateway_ip=gateway, host_routes=[models.HostRoute(**ROUTE)])


def plug_vip(controller: Controller) -> None:
    extra = SimpleNamespace(ip_address="2001:db8::7", subnet=subnet("2001:db8::/64", "2001:db8::1"))
    controller.driver.post_vip_plug(
        controller.amphora,
        load_balancer([]),
        {},
        vip_port(),
        subnet("203.0.113.0/24", "203.0.113.1"),
        additional_vip_data=[extra],
    )


def test_driver_vip_plug_is_understood_to_the_last_field(rig: ApiRig, controller: Controller) -> None:
    plug_vip(controller)

    ((name, vip, body),) = rig.recorder.calls
    assert (name, vip) == ("plug_vip", "203.0.113.7")
    assert (body.subnet_cidr, body.gateway, body.mac_address) == ("203.0.113.0/24", "203.0.113.1", "fa:16:3e:00:00:01")
    assert (body.mtu, body.vrrp_ip, body.is_sriov) == (1450, "203.0.113.20", False)
    assert [(route.destination, route.nexthop) for route in body.host_routes] == [("198.51.100.0/24", "203.0.113.9")]
    (extra,) = body.additional_vips
    assert (extra.ip_address, extra.subnet_cidr, extra.gateway) == ("2001:db8::7", "2001:db8::/64", "2001:db8::1")


def test_driver_repeats_a_plug_until_the_interface_is_there(
    rig: ApiRig, controller: Controller, caplog: pytest.LogCaptureFixture
) -> None:
    """The retry protocol: a 404 with exactly this sentence. Octavia contract section 1.2."""
    caplog.set_level("INFO")
    rig.on_loop(lambda: rig.recorder.raises.update(plug_vip=NoInterface("x")))

    with pytest.raises(modules().driver_errors.TimeOutException):
        plug_vip(controller)

    assert log_lines(caplog).count("POST /1.0/plug/vip/203.0.113.7") == RETRIES
    rig.on_loop(rig.recorder.raises.clear)
    plug_vip(controller)
    assert names(rig) == ["plug_vip"]


def test_driver_takes_a_vip_that_is_plugged_already_for_fine(
    rig: ApiRig, controller: Controller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rig.on_loop(lambda: rig.recorder.raises.update(plug_vip=AlreadyPlugged("x")))

    plug_vip(controller)

    assert log_lines(caplog).count("POST /1.0/plug/vip/203.0.113.7") == 1


def test_driver_network_plug_is_understood_to_the_last_field(rig: ApiRig, controller: Controller) -> None:
    models = modules().network_models
    port = models.Port(
        id="port-2",
        mac_address="fa:16:3e:00:00:02",
        network=models.Network(id="network-2", mtu=1400),
        fixed_ips=[models.FixedIP(ip_address="192.0.2.5", subnet=subnet("192.0.2.0/24", "192.0.2.1"))],
        vnic_type="normal",
    )

    controller.driver.post_network_plug(controller.amphora, port, {})

    ((name, body),) = rig.recorder.calls
    assert (name, body.mac_address, body.mtu, body.vip_net_info) == ("plug_network", "fa:16:3e:00:00:02", 1400, None)
    (fixed,) = body.fixed_ips
    assert (fixed.ip_address, fixed.subnet_cidr, fixed.gateway) == ("192.0.2.5", "192.0.2.0/24", "192.0.2.1")


def test_driver_network_plug_on_the_vip_port_carries_the_vip(rig: ApiRig, controller: Controller) -> None:
    models = modules().network_models
    port = vip_port()
    port.fixed_ips = [models.FixedIP(ip_address="192.0.2.5", subnet=subnet("192.0.2.0/24", "192.0.2.1"))]
    vip_subnet = subnet("203.0.113.0/24", "203.0.113.1").to_dict(recurse=True)

    controller.driver.post_network_plug(controller.amphora, port, {"vip_subnet": vip_subnet})

    ((_name, body),) = rig.recorder.calls
    assert (body.vip_net_info.vip, body.vip_net_info.vrrp_ip) == ("203.0.113.7", "203.0.113.20")


@pytest.mark.parametrize("error", [UnknownInterface("x"), InvalidAddress("x")])
def test_driver_unknown_address_is_told_at_once(
    rig: ApiRig, controller: Controller, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """So it finds out, without a single retry, which amphora is not MASTER."""
    caplog.set_level("INFO")
    errors = modules().errors
    expected = errors.NotFound if isinstance(error, UnknownInterface) else errors.InvalidRequest
    rig.on_loop(lambda: rig.recorder.raises.update(interface_of=error))

    with pytest.raises(expected):
        controller.driver.get_interface_from_ip(controller.amphora, "203.0.113.7")

    assert log_lines(caplog).count("GET /1.0/interface/203.0.113.7") == 1


def test_driver_learns_the_interface_of_an_address(controller: Controller) -> None:
    assert controller.driver.get_interface_from_ip(controller.amphora, "203.0.113.20") == "eth1"
    assert controller.driver.get_interface_from_ip(controller.amphora, "2001:db8::7") == "eth1"


def test_driver_sets_firewall_rules(rig: ApiRig, controller: Controller) -> None:
    rules = [
        {"protocol": "TCP", "cidr": "192.0.2.0/24", "port": 80},
        {"protocol": "vrrp", "cidr": "203.0.113.21/32", "port": 112},
    ]

    controller.driver.set_interface_rules(controller.amphora, "203.0.113.20", rules)

    ((name, ip, passed),) = rig.recorder.calls
    assert (name, ip, len(passed)) == ("set_rules", "203.0.113.20", 2)


# --- VRRP, the agent itself ---


def test_driver_brings_vrrp_up_and_down(rig: ApiRig, controller: Controller, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    balancer = load_balancer([], amphorae=[controller.amphora])
    controller.driver.check(controller.amphora)

    controller.client.upload_vrrp_config(controller.amphora, "vrrp_instance x {\n}\n")
    controller.driver.start_vrrp_service(controller.amphora)
    controller.driver.reload_vrrp_service(balancer)
    controller.driver.stop_vrrp_service(balancer)

    assert names(rig) == ["vrrp_upload", "vrrp_start", "vrrp_reload", "vrrp_stop"]


def test_driver_rotates_the_certificate_and_goes_on_calling(
    rig: ApiRig, controller: Controller, identities: Identities
) -> None:
    fresh = identities.server_authority.issue(identities.amphora_id)

    controller.driver.upload_cert_amp(controller.amphora, fresh)

    with rig.connected() as connection:
        served = connection.getpeercert(binary_form=True)
    assert served == _der(fresh)
    assert controller.driver.get_info(controller.amphora)["api_version"] == "1.0"


def _der(pem: bytes) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def test_driver_replaces_the_agents_configuration(
    rig: ApiRig, controller: Controller, identities: Identities, tmp_path: Path
) -> None:
    text = settings_text(tmp_path, identities, heartbeat_key="another")

    controller.driver.update_amphora_agent_config(controller.amphora, text)

    assert parse_settings([(rig.config_file, rig.config_file.read_text())]).heartbeat_key == "another"
    assert names(rig) == ["reread_settings"]


def test_driver_of_an_agent_that_is_not_there_gives_up_after_its_retries(
    controller: Controller, identities: Identities, tmp_path: Path
) -> None:
    from tests.support.served import free_port

    with Controller.configured(identities, port=free_port(), cert_dir=tmp_path / "certs") as lost:
        with pytest.raises(modules().driver_errors.TimeOutException):
            lost.driver.check(lost.amphora)
