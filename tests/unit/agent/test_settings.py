from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import pytest

from amphorad.agent.settings import MUTABLE, AgentSettings, Endpoint, Topology, parse_settings, read_settings
from amphorad.dialects.haproxy import Escaping
from amphorad.errors import ConfigError
from amphorad.model import ReusePolicy

FILE = Path("/etc/octavia/amphora-agent.conf")


def parsed(*texts: str) -> AgentSettings:
    return parse_settings([(FILE, text) for text in texts])


def refusal(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    return caught.value


def rendered(options: dict[str, dict[str, object]]) -> str:
    """The file that the controller makes of its own configuration."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jinja = pytest.importorskip("octavia.amphorae.backends.agent.agent_jinja_cfg")
        conf = pytest.importorskip("octavia.common.config").cfg.CONF
        if "debug" not in conf:
            pytest.importorskip("oslo_log.log").register_options(conf)
        conf(args=[], project="x", default_config_files=[])
        try:
            for group, values in options.items():
                for name, value in values.items():
                    conf.set_override(name, value, group=None if group == "DEFAULT" else group)
            text: str = jinja.AgentJinjaTemplater().build_agent_config("an-amphora", "ACTIVE_STANDBY")
            return text
        finally:
            conf.clear()
            for group, values in options.items():
                for name in values:
                    conf.clear_override(name, group=None if group == "DEFAULT" else group)


def test_empty_file_gives_the_defaults_of_the_contract() -> None:
    """Octavia contract section 2.1."""
    found = parsed("")

    assert (found.bind_host, found.bind_port) == ("::", 9443)
    assert (found.base_path, found.base_cert_dir) == (Path("/var/lib/octavia"), Path("/var/lib/octavia/certs"))
    assert (found.controllers, found.heartbeat_interval) == ((), 10.0)
    assert found.server_ca == Path("/etc/octavia/certs/client_ca.pem")
    assert found.server_cert == Path("/etc/octavia/certs/server.pem")
    assert found.network_dir == Path("/etc/octavia/interfaces")
    assert found.request_read_timeout == 180.0
    assert (found.topology, found.amphora_id, found.debug) == (Topology.SINGLE, "", False)
    assert (found.namespace, found.namespace_path) == ("amphora-haproxy", Path("/run/netns/amphora-haproxy"))
    assert found.admin_socket == Path("/run/amphorad/admin.sock")


def test_file_of_the_real_renderer_reads_as_meant() -> None:
    """The controller's template, with every value set to something else than the default."""
    text = rendered(
        {
            "DEFAULT": {"debug": True},
            "haproxy_amphora": {
                "base_path": "/b",
                "base_cert_dir": "/b/c",
                "bind_host": "fd00::9",
                "bind_port": 1,
            },
            "health_manager": {
                "controller_ip_port_list": ["192.0.2.10:5555", "[fd00::1]:5556", "fd00::2:5557"],
                "heartbeat_interval": 7,
                "heartbeat_key": "key $$word",
            },
            "amphora_agent": {
                "agent_server_ca": "/ca",
                "agent_server_cert": "/cert",
                "agent_server_network_dir": "/net",
                "agent_request_read_timeout": 120,
            },
        }
    )

    found = parsed(text)

    assert found.debug
    assert (found.base_path, found.base_cert_dir) == (Path("/b"), Path("/b/c"))
    assert (found.bind_host, found.bind_port) == ("fd00::9", 1)
    assert found.controllers == (Endpoint("192.0.2.10", 5555), Endpoint("fd00::1", 5556), Endpoint("fd00::2", 5557))
    assert found.heartbeat_interval == 7.0
    assert found.heartbeat_key == "key $word"
    assert (found.server_ca, found.server_cert, found.network_dir) == (Path("/ca"), Path("/cert"), Path("/net"))
    assert found.request_read_timeout == 120.0
    assert (found.amphora_id, found.topology) == ("an-amphora", Topology.ACTIVE_STANDBY)


def test_own_options_are_read_and_a_second_file_wins() -> None:
    first = "[amphorad]\nnamespace = one\nthreads = 3\n[health_manager]\nheartbeat_interval = 5"
    second = "[amphorad]\nnamespace = two\nuser = root\nescaping = strict\nhttp_reuse = safe\ntraffic_log = none\n"
    second += "algorithms = source_ip_hash=maglev, round_robin\ngrace = 1.5\nminimum_body_rate = 0\nadmin_socket = /a/b"

    found = parsed(first, second)

    assert (found.namespace, found.threads, found.heartbeat_interval, found.user) == ("two", 3, 5.0, "root")
    assert (found.escaping, found.http_reuse, found.traffic_log) == (Escaping.STRICT, ReusePolicy.SAFE, "")
    assert found.algorithms == (("source_ip_hash", "maglev"), (None, "round_robin"))
    assert (found.grace_s, found.minimum_body_rate, found.admin_socket) == (1.5, 0, Path("/a/b"))


def test_escaped_key_is_restored_on_demand_only() -> None:
    text = "[health_manager]\nheartbeat_key = a&amp;b&#34;\n"

    assert parsed(text).heartbeat_key == "a&amp;b&#34;"
    assert parsed(text, "[amphorad]\nheartbeat_key_unescape = true").heartbeat_key == 'a&b"'


def test_key_with_a_dollar_sign_is_taken_literally() -> None:
    """The controller expands its own file, and writes the result here without escaping it again."""
    assert parsed("[health_manager]\nheartbeat_key = a$b").heartbeat_key == "a$b"


@pytest.mark.parametrize(
    ("group", "assignment", "word"),
    [
        ("haproxy_amphora", "bind_port = 70000", "70000"),
        ("haproxy_amphora", "bind_port = x", "x"),
        ("haproxy_amphora", "bind_host = localhost", "localhost"),
        ("haproxy_amphora", "base_path = lib", "lib"),
        ("health_manager", "controller_ip_port_list = 192.0.2.1:5555, 192.0.2.2", "192.0.2.2"),
        ("health_manager", "controller_ip_port_list = 192.0.2.1:0", "192.0.2.1:0"),
        ("health_manager", "heartbeat_interval = 0", "0"),
        ("health_manager", "heartbeat_interval = nan", "nan"),
        ("controller_worker", "loadbalancer_topology = ACTIVE_ACTIVE", "ACTIVE_ACTIVE"),
        ("amphorad", "namespace = ../x", "../x"),
        ("amphorad", "user = no-such-user", "no-such-user"),
        ("amphorad", "threads = 65", "65"),
        ("amphorad", "treads = 2", "treads"),
        ("amphorad", "algorithms = =x", "=x"),
        ("DEFAULT", "debug = maybe", "maybe"),
    ],
)
def test_wrong_value_is_refused_with_line_and_word(group: str, assignment: str, word: str) -> None:
    error = refusal(f"[{group}]\n# comment\n{assignment}")

    assert (error.file, error.line, error.word) == (str(FILE), 3, word)


def test_options_without_meaning_here_are_ignored_outside_our_group() -> None:
    parsed("[haproxy_amphora]\nhaproxy_cmd = /usr/sbin/haproxy\n[new_group]\nnew_option = 1")


def test_missing_file_and_wrong_encoding_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"[DEFAULT]\n\xff")

    for name in ("missing", "binary"):
        with pytest.raises(ConfigError, match=name):
            read_settings([tmp_path / name])


def test_every_mutable_name_is_a_field() -> None:
    assert {field.name for field in dataclasses.fields(AgentSettings)} >= MUTABLE
