"""Whatever a client with a valid certificate sends: one of seven statuses, JSON (except the two texts), and no error that escapes.

Source: Octavia contract section 1.2: the controller takes every other status for success.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.api_certificates import make_identities
from tests.support.api_rig import served_api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.api_certificates import Identities
    from tests.support.api_rig import ApiRig

STATUSES = {200, 202, 400, 404, 405, 409, 500}
ID = "5f1a9f6c-0f0e-4c52-9a6e-3d1a52a2a001"
WORDS = [
    "1.0", "info", "details", "listeners", "interface", "rules", "loadbalancer", "haproxy", "certificates", "plug", "vip",
    "network", "certificate", "config", "vrrp", "upload", "start", "stop", "reload", "udp_listener", ID, "a.pem",
    "203.0.113.7", "fd00%3a%3a1", "..", "%2e%2e", "%2f", "%00", "%ff", "", "*", "%", "%zz",
]  # fmt: skip
TARGETS = [
    "//", "/1.0/info", "/1.0/plug/vip/203.0.113.7", "/1.0/plug/network", "/1.0/interface/203.0.113.7/rules",
    "/1.0/config", "/1.0/certificate", "/1.0/vrrp/upload", f"/1.0/loadbalancer/{ID}/{ID}/haproxy",
    f"/1.0/loadbalancer/{ID}/haproxy", f"/1.0/listeners/{ID}/{ID}/udp_listener",
    f"/1.0/loadbalancer/{ID}/certificates/a.pem", f"/1.0/listeners/{ID}",
]  # fmt: skip

methods = st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "X"])
paths = st.lists(st.sampled_from(WORDS), min_size=1, max_size=7).map(lambda words: "/" + "/".join(words))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
ports = st.fixed_dictionaries(
    {},
    optional={
        "subnet_cidr": values | st.just("203.0.113.0/24"),
        "gateway": values | st.just("203.0.113.1"),
        "mac_address": values | st.just("fa:16:3e:00:00:01"),
        "vrrp_ip": values,
        "host_routes": values | st.just([{"destination": "198.51.100.0/24", "nexthop": "203.0.113.9"}]),
        "additional_vips": values,
        "fixed_ips": values | st.just([{"ip_address": "203.0.113.5", "subnet_cidr": "203.0.113.0/24"}]),
        "vip_net_info": values,
        "mtu": values | st.just(1500),
        "is_sriov": values,
    },
)
bodies = st.binary(max_size=200) | (values | ports | st.lists(ports, max_size=3)).map(
    lambda value: json.dumps(value).encode()
)

many = settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    uvloop.new_event_loop().close()  # the pipe that libuv keeps is no leak of a test
    return make_identities(tmp_path_factory.mktemp("identities"), ID)


@pytest.fixture
def rig(tmp_path: Path, identities: Identities) -> Iterator[ApiRig]:
    with served_api(tmp_path, identities) as served:
        yield served
        assert served.call("GET", "//").status == 200, "it has not survived"


def assert_answer(reply: Any, target: str) -> None:
    assert reply.status in STATUSES, target
    kind = reply.headers["content-type"].partition(";")[0]
    if kind == "text/plain":
        assert reply.status == 200
        assert target.partition("?")[0].endswith(("haproxy", "udp_listener"))
    elif reply.body:
        assert isinstance(reply.json(), dict | list)


@many
@given(methods, st.sampled_from(TARGETS), bodies)
@example("PUT", "/1.0/config", b"[amphorad]\nthreads = 4096\n")
@example("POST", "/1.0/plug/network", b'{"mac_address": "\\ud800"}')
@example("POST", "/1.0/plug/vip/203.0.113.7", b"[" * 5000)
def test_any_body_has_a_contract_answer(rig: ApiRig, method: str, target: str, body: bytes) -> None:
    assert_answer(rig.call(method, target, body), target)


@many
@given(methods, paths, st.sampled_from(["", "?", "?a=b", "#x", "/"]))
def test_any_path_has_a_contract_answer(rig: ApiRig, method: str, path: str, end: str) -> None:
    assert_answer(rig.call(method, path + end, b"x"), path)


@many
@given(st.binary(min_size=1, max_size=300))
@example(b"GET // HTTP/1.1\r\n\r\n")
@example(b"\x00")
@example(b"PUT /1.0/config HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n")
@example(b"OPTIONS * HTTP/1.1\r\n\r\n")
@example(b"CONNECT a:1 HTTP/1.1\r\n\r\n")
@example(b"GET // HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
def test_any_bytes_have_a_contract_answer_or_none(rig: ApiRig, raw: bytes) -> None:
    """No answer only when the bytes could still become a request."""
    reply = rig.say_once(raw)

    if reply is not None:
        assert_answer(reply, raw.decode("latin-1").split(" ", 2)[1] if b" " in raw else "")
