"""The VRRP dialect against the controller's own renderer and against keepalived's configuration test."""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from amphorad.dialects.keepalived.vrrp import VrrpConfiguration, check
from amphorad.errors import ConfigError
from amphorad.vrrp.effective import render
from amphorad.vrrp.paths import Paths
from tests.support.keepalived_render import render_vrrp, subnet
from tests.support.keepalived_strategies import vrrp_requests
from tests.support.octavia_render import require_octavia

require_octavia()

SCRIPT = "/var/lib/octavia/vrrp/check_script.sh"
TEXT = render_vrrp(
    own="10.0.0.11",
    peers=["10.0.0.12"],
    vips=[
        ("10.0.0.10", subnet("10.0.0.0/24", "10.0.0.1", [("10.7.0.0/16", "10.0.0.7")])),
        ("fd00::10", subnet("fd00::/64", "fd00::1")),
    ],
)


def read(text: str) -> VrrpConfiguration:
    return check(text, file="octavia-keepalived.conf", script=SCRIPT)


def canonical(address: str) -> str:
    return str(ipaddress.ip_address(address))


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(vrrp_requests())
def test_every_rendered_file_is_read_as_what_was_asked_for(request: dict[str, Any]) -> None:
    found = read(render_vrrp(**request))

    family = ipaddress.ip_address(request["own"]).version
    vips = [canonical(address) for address, _subnet in request["vips"]]
    rest = sorted(request["vips"][1:], key=lambda pair: pair[0])
    in_order = [canonical(address) for address, _subnet in [request["vips"][0], *rest]]
    assert found.source == canonical(request["own"])
    assert list(found.peers) == [canonical(peer) for peer in request["peers"]]
    assert list(found.vips) == [vip for vip in in_order if ipaddress.ip_address(vip).version == family]
    assert list(found.excluded_vips) == [vip for vip in in_order if ipaddress.ip_address(vip).version != family]
    assert sorted(found.rule_sources) == sorted(vips)
    assert (found.name, found.interface, found.priority) == (request["name"], request["interface"], request["priority"])
    assert (found.auth_pass, found.advert_interval_s) == (request["auth_pass"], request["advert_int"])
    options = request["options"]
    assert found.garp_refresh_s == options["vrrp_garp_refresh_interval"]
    assert found.garp_refresh_repeat == options["vrrp_garp_refresh_count"]
    assert found.check.interval_s == options["vrrp_check_interval"]
    assert (found.check.fall, found.check.rise) == (options["vrrp_fail_count"], options["vrrp_success_count"])
    expected = [len(one["host_routes"]) + 1 + (one["gateway_ip"] is not None) for _vip, one in request["vips"]]
    assert len(found.routes) == sum(expected)
    assert {route.source for route in found.routes} - {None} == set(vips)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(vrrp_requests())
def test_effective_file_says_to_peers_what_the_controllers_file_says(request: dict[str, Any]) -> None:
    """Without what is added, it is the same configuration."""
    found = read(render_vrrp(**request))

    text = render(found, Paths(Path("/var/lib/octavia"), Path("/run/amphorad")))
    instance = text[text.index("vrrp_instance") :]
    instance = instance.replace("    track_file {\n        data_plane\n    }\n", "")
    script = f"script {found.check.path}\n interval {found.check.interval_s}\n"
    script += f"fall {found.check.fall}\n rise {found.check.rise}\n"
    assert read(f"vrrp_script check_script {{\n{script}}}\n{instance}") == found


@pytest.mark.skipif(shutil.which("keepalived") is None, reason="the keepalived program is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="keepalived tests a file for root only")
@pytest.mark.timeout(60)
def test_keepalived_takes_the_effective_file(tmp_path: Path) -> None:
    @settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
    @given(vrrp_requests())
    def every(request: dict[str, Any]) -> None:
        found = check(
            render_vrrp(**request | {"interface": "lo", "base_path": str(tmp_path)}),
            file="x",
            script=f"{tmp_path}/vrrp/check_script.sh",
        )
        for keeps in (False, True):
            file = tmp_path / "keepalived.conf"
            file.write_text(render(found, Paths(tmp_path, tmp_path), keeps_mastership=keeps))
            tested = subprocess.run(["keepalived", "-t", "-f", str(file)], capture_output=True, text=True)
            # 6: scripts without script_security, as in the controller's file
            assert tested.returncode in (0, 6), tested.stderr
            assert "nknown keyword" not in tested.stderr

    (tmp_path / "vrrp").mkdir()
    script = tmp_path / "vrrp/check_script.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    every()


@pytest.mark.parametrize(
    ("old", "new", "line", "word"),
    [
        ("interface eth1", "interface None", 9, "None"),
        ("interface eth1", 'interface "eth1 x"', 9, "eth1 x"),
        ("    nopreempt\n", '    nopreempt\n    notify_master "/bin/sh -c id"\n', 13, "notify_master"),
        ("    nopreempt\n", "    nopreempt\n    notify /bin/x\n", 13, "notify"),
        ("    nopreempt\n", "", 8, None),
        ("    accept\n", "    accept\n    accept\n", 14, "accept"),
        ("vrrp_script check", "include /etc/passwd\nvrrp_script check", 1, "include"),
        ("vrrp_script check", "global_defs {\n}\nvrrp_script check", 1, "global_defs"),
        ("vrrp_script check", "@a vrrp_script check", 1, "@a"),
        ("vrrp_script check", "$X=1\nvrrp_script check", 1, "$X=1"),
        (SCRIPT, "/tmp/check_script.sh", 2, "/tmp/check_script.sh"),
        (f"script {SCRIPT}", f'script "{SCRIPT} ; id"', 2, f"{SCRIPT} ; id"),
        ("priority 100\n", "priority 100 # x\n", 11, "#"),
        ("priority 100\n    nop", "priority 300\n    nop", 11, "300"),
        ("advert_int 1", "advert_int 0.1", 16, "0.1"),
        ("auth_type PASS", "auth_type NONE", 18, "NONE"),
        ("unicast_src_ip 10.0.0.11", "unicast_src_ip fd00::11", 28, "10.0.0.10"),
        ("        10.0.0.12\n", "        10.0.0.11\n", 24, "10.0.0.11"),
        ("dev eth1 src", "dev eth0 src", 36, "eth0"),
        ("scope link table 1", "scope link table 254", 36, "254"),
        ("src 10.0.0.10", "src 10.0.0.99", 36, "10.0.0.99"),
        ("table 1 priority 100", "table 1 priority 1", 44, "1"),
        ("from 10.0.0.10/32", "from 10.0.0.0/24", 44, "24"),
        ("        check_script\n", "        check_script\n        other\n", 48, "track_script"),
        ("        10.0.0.10\n", "", 28, "virtual_ipaddress"),
        ("        10.0.0.10\n", "        10.0.0.10 dev lo\n", 29, "10.0.0.10 dev lo"),
        ("        10.0.0.10\n", "        fe80::1%eth1\n", 29, "fe80::1%eth1"),
        ("        10.0.0.10\n", "        10.0.0.10 {\n }\n", 29, "10.0.0.10"),
        ("    accept\n", "    accept }\n", 13, None),
    ],
)
def test_anything_else_is_refused_with_line_and_word(old: str, new: str, line: int, word: str | None) -> None:
    assert old in TEXT

    with pytest.raises(ConfigError) as caught:
        read(TEXT.replace(old, new, 1))

    assert caught.value.file == "octavia-keepalived.conf"
    assert caught.value.line is not None
    if word is not None:
        assert caught.value.word is not None
        assert word in caught.value.word
    assert abs(caught.value.line - line) <= 2, caught.value


def test_password_is_not_in_the_error() -> None:
    with pytest.raises(ConfigError) as caught:
        read(TEXT.replace("auth_pass 1f0e3da", "auth_pass s3cr&t"))

    assert "s3cr" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "vrrp_script check_script {", "}", "{", TEXT + TEXT, TEXT.replace("\n", "\r\n"), TEXT + "\0", TEXT + "}"],
    ids=["empty", "open", "closed", "brace", "twice", "crlf", "nul", "brace-after"],
)
def test_text_without_its_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        read(text)


def test_times_of_the_controllers_settings() -> None:
    found = read(TEXT)

    assert (found.vrrp_version, found.master_down_s) == (2, 3 + 156 / 256)
