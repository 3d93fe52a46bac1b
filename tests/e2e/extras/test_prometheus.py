"""A PROMETHEUS listener of the real renderer: metrics on any path, at the VIP, while other listeners serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.http_peers import Client, get
from tests.support.octavia_render import make_listener, make_member, make_pool, render_load_balancer, require_octavia
from tests.support.scripted_member import ScriptedMember, http_member
from tests.support.served import Served, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.http_peers import Message

pytestmark = pytest.mark.timeout(60)  # the renderer alone takes long to import
require_octavia()
LABELS = ("listener", "pool", "member", "state", "code", "le")


def ask(port: int, target: str = "/metrics", method: str = "GET") -> Message:
    with Client(port) as client:
        client.send(get(target, method=method))
        return client.read_message(method)


def test_metrics_of_the_load_balancer_at_its_vip(tmp_path: Path) -> None:
    web, metrics = free_port(), free_port()
    with ScriptedMember(http_member()) as target:
        pool = make_pool("HTTP", id="pool", members=[make_member("127.0.0.1", target.port, id="member")])
        listeners = [
            make_listener("HTTP", web, id="web", default_pool=pool),
            make_listener("PROMETHEUS", metrics, id="metrics"),
        ]
        text = render_load_balancer(listeners, vip="127.0.0.1", haproxy_version=("2", "6", "12"))
        with Served(tmp_path, text) as served:
            for _request in range(3):
                assert ask(web, "/").status == 200
            answer = ask(metrics)
            anywhere = ask(metrics, "/any/path?at=all")
            head = ask(metrics, method="HEAD")
            posted = ask(metrics, method="POST")
            served.apply(text)
            again = ask(metrics)
            listed = [listener["id"] for listener in served.status()["listeners"]]
            pools = served.status()["listeners"][listed.index("metrics")]["pools"]

    assert answer.status == anywhere.status == head.status == again.status == 200
    assert answer.get("content-type") == b"text/plain; version=0.0.4; charset=utf-8"
    assert answer.get("cache-control") == b"no-cache"
    assert head.body == b""
    assert posted.status == 501
    found = {
        (sample.name, *(sample.labels[name] for name in LABELS if name in sample.labels)): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    assert found["octavia_listener_http_requests_total", "web"] == 3
    assert found["octavia_member_http_responses_total", "pool:web", "member", "2xx"] == 3
    assert found["octavia_listener_status", "metrics", "UP"] == 1
    assert not [key for key in found if "prometheus-exporter-internal" in "".join(key)]
    assert set(listed) == {"web", "metrics"}
    assert pools == []
