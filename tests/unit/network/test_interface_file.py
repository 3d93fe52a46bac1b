"""Interface files are the stock agent's, for any body that a controller can send."""

from __future__ import annotations

import ipaddress
import json
import warnings
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.network import interface_file
from amphorad.network.bodies import AdditionalVip, FixedIp, HostRoute, NetworkPlug, VipPlug
from amphorad.network.errors import InvalidAddress

MAC = "fa:16:3e:00:00:01"


def stock() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("octavia.amphorae.backends.utils.interface_file")


@st.composite
def subnets(draw: st.DrawFn) -> tuple[str, str, str | None, tuple[HostRoute, ...]]:
    """An address, its network, perhaps a gateway, and host routes."""
    version = draw(st.sampled_from((4, 6)))
    prefixlen = draw(st.integers(8, 30) if version == 4 else st.integers(32, 126))
    address = draw(st.ip_addresses(v=version))
    network = ipaddress.ip_network(f"{address}/{prefixlen}", strict=False)
    gateway = str(network[1]) if draw(st.booleans()) else None
    destinations = draw(st.lists(st.integers(1, 200), max_size=2, unique=True))
    form = "10.{}.0.0/16" if version == 4 else "2001:db8:{}::/48"
    routes = tuple(HostRoute(form.format(number), str(network[2])) for number in destinations)
    return str(address), str(network), gateway, routes


@st.composite
def vip_calls(draw: st.DrawFn) -> tuple[str, VipPlug, bool]:
    vip, cidr, gateway, routes = draw(subnets())
    additional = tuple(
        AdditionalVip(subnet_cidr=other_cidr, ip_address=other, gateway=other_gateway, host_routes=other_routes)
        for other, other_cidr, other_gateway, other_routes in draw(st.lists(subnets(), max_size=2))
    )
    own = str(ipaddress.ip_network(cidr)[3]) if draw(st.booleans()) else None
    body = VipPlug(
        subnet_cidr=cidr,
        gateway=gateway,
        mac_address=MAC,
        mtu=draw(st.sampled_from((None, 1450))),
        vrrp_ip=own,
        host_routes=routes,
        additional_vips=additional,
        is_sriov=draw(st.booleans()),
    )
    return vip, body, draw(st.booleans())


def normal(content: Any) -> Any:
    """Addresses in one spelling, lists without order and repetition: what the file means."""

    def word(value: Any) -> Any:
        try:
            return str(ipaddress.ip_interface(value)) if isinstance(value, str) else value
        except ValueError:
            return value

    found = {key: value for key, value in content.items() if value is not None}
    for key in ("addresses", "routes", "rules"):
        entries = {
            json.dumps({name: word(value) for name, value in entry.items()}, sort_keys=True) for entry in found[key]
        }
        found[key] = sorted(entries)
    found["scripts"] = {
        way: sorted(script["command"] for script in scripts) for way, scripts in found["scripts"].items()
    }
    return found


def written(file: interface_file.InterfaceFile) -> Any:
    return normal(json.loads(interface_file.encode(file)))


def of_stock(file: Any) -> Any:
    keys = ("name", "if_type", "mtu", "addresses", "routes", "rules", "scripts", "is_sriov")
    return normal({key: json.loads(json.dumps(getattr(file, key))) for key in keys})


def stock_vip(address: str, cidr: str, gateway: str | None, routes: tuple[HostRoute, ...]) -> dict[str, Any]:
    network = ipaddress.ip_network(cidr)
    return {
        "ip_address": address,
        "ip_version": network.version,
        "gateway": gateway,
        "prefixlen": network.prefixlen,
        "host_routes": stock_routes(routes),
    }


def stock_routes(routes: tuple[HostRoute, ...]) -> list[dict[str, Any]]:
    return [{"destination": item.destination, "nexthop": item.nexthop} for item in routes]


@given(vip_calls())
def test_vip_file_is_as_the_stock_agent_writes_it(call: tuple[str, VipPlug, bool]) -> None:
    vip, body, standby = call
    vips = [stock_vip(vip, body.subnet_cidr, body.gateway, body.host_routes)]
    vips += [
        stock_vip(item.ip_address, item.subnet_cidr, item.gateway, item.host_routes) for item in body.additional_vips
    ]
    own = {"ip": body.vrrp_ip, "prefixlen": ipaddress.ip_network(body.subnet_cidr).prefixlen} if body.vrrp_ip else None
    expected = stock().VIPInterfaceFile(
        name="eth1",
        mtu=body.mtu,
        vips=vips,
        vrrp_info=own,
        fixed_ips=None,
        topology="ACTIVE_STANDBY" if standby else "SINGLE",
        is_sriov=body.is_sriov,
    )
    assert written(interface_file.vip_file("eth1", vip, body, standby=standby)) == of_stock(expected)


@given(st.lists(subnets(), max_size=3), st.sampled_from((None, 1400)))
def test_backend_file_is_as_the_stock_agent_writes_it(
    fixed: list[tuple[str, str, str | None, tuple[HostRoute, ...]]], mtu: int | None
) -> None:
    fixed_ips = tuple(FixedIp(address, cidr, routes, gateway) for address, cidr, gateway, routes in fixed)
    for_stock = [
        {
            "ip_address": address,
            "subnet_cidr": cidr,
            "gateway": gateway,
            "host_routes": stock_routes(routes),
        }
        for address, cidr, gateway, routes in fixed
    ]
    expected = of_stock(stock().PortInterfaceFile(name="eth2", mtu=mtu, fixed_ips=for_stock or None))
    found = written(interface_file.backend_file("eth2", NetworkPlug(mac_address=MAC, fixed_ips=fixed_ips, mtu=mtu)))
    if not fixed:  # one entry with both flags, or two: the reader takes either
        for file in (expected, found):
            file.pop("addresses")
    found.pop("is_sriov"), expected.pop("is_sriov")
    assert found == expected


def test_file_is_read_back_as_it_was() -> None:
    body = VipPlug(subnet_cidr="203.0.113.0/24", gateway="203.0.113.1", mac_address=MAC, vrrp_ip="203.0.113.20")
    file = interface_file.vip_file("eth1", "203.0.113.7", body, standby=False)
    assert interface_file.decode(interface_file.encode(file)) == file


@pytest.mark.parametrize("damaged", [b"", b"{}", b'{"name": "eth1"}', b'{"name": "eth1", "if_type": "other"}'])
def test_damaged_file_is_an_error(damaged: bytes) -> None:
    with pytest.raises((ValueError, msgspec.ValidationError), match=r".+"):
        interface_file.decode(damaged)


@pytest.mark.parametrize(
    ("vip", "change", "message"),
    [
        ("300.0.0.1", {}, "Invalid VIP: "),
        ("203.0.113.7", {"subnet_cidr": "203.0.113.0/99"}, "Invalid VIP: "),
        ("203.0.113.7", {"subnet_cidr": "2001:db8::/64"}, "Invalid VIP: "),
        ("203.0.113.7", {"gateway": "nobody"}, "Invalid VIP: "),
        ("203.0.113.7", {"vrrp_ip": "203.0.113"}, "Invalid VRRP Address: "),
        ("203.0.113.7", {"host_routes": (HostRoute("10.0.0.0/8", "x; reboot"),)}, "Invalid network port"),
    ],
)
def test_addresses_that_are_none_are_refused(vip: str, change: dict[str, Any], message: str) -> None:
    body = msgspec.structs.replace(VipPlug(subnet_cidr="203.0.113.0/24", gateway=None, mac_address=MAC), **change)
    with pytest.raises(InvalidAddress, match=message):
        interface_file.vip_file("eth1", vip, body, standby=False)
