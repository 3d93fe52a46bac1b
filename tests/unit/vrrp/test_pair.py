from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest

from amphorad.cli.commands import main
from amphorad.errors import ConfigError
from amphorad.vrrp.pair import configuration, read_pair
from amphorad.vrrp.writer import write_text

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """\
name = "web"
interface = "eth1"
router_id = 51
vips = ["192.0.2.10/24", "2001:db8::10/64"]

[[node]]
name = "a"
address = "192.0.2.11"

[[node]]
name = "b"
address = "192.0.2.12"
"""


def test_pair_nodes_differ_in_priority_address_and_peer() -> None:
    pytest.importorskip("keepalived_config")
    settings = read_pair(TEXT, file="pair.toml")

    first, second = (write_text(configuration(settings, node)).splitlines() for node in settings.nodes)

    differences = [(a.split(), b.split()) for a, b in zip(first, second, strict=True) if a != b]
    assert differences == [
        (["priority", "100"], ["priority", "90"]),
        (["unicast_src_ip", "192.0.2.11"], ["unicast_src_ip", "192.0.2.12"]),
        (["192.0.2.12"], ["192.0.2.11"]),
    ]
    text = "\n".join(line.strip() for line in first)
    assert "vrrp_version 3" in text
    assert "advert_int 0.1" in text
    assert "virtual_ipaddress {\n192.0.2.10/24\n}\nvirtual_ipaddress_excluded {\n2001:db8::10/64\n}" in text


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('name = "web"\n', "", "name"),
        ('name = "web"\n', 'name = "we b"\n', "we b"),
        ('name = "web"\n', 'name = "web"\ncolour = 1\n', "colour"),
        ("router_id = 51", "router_id = 256", "256"),
        ("router_id = 51", "router_id = true", "True"),
        ('interface = "eth1"', 'interface = "eth1\\n}"', "eth1"),
        ('"192.0.2.10/24"', '"192.0.2.10"', "192.0.2.10"),
        ('"192.0.2.10/24", ', "", "2001:db8::10/64"),
        ('address = "192.0.2.12"', 'address = "192.0.2.11"', ""),
        ('address = "192.0.2.12"', 'address = "2001:db8::12"', ""),
        ('address = "192.0.2.12"', 'address = "b.example"', "b.example"),
        ('address = "192.0.2.12"', 'address = "192.0.2.12"\npriority = 100', ""),
        ("router_id = 51", "router_id = 51\nadvert_ms = 15", "15"),
        ("router_id = 51", 'router_id = 51\nstate_dir = "/run/$(id)"', "/run/$(id)"),
        ("[[node]]", "[node", None),
    ],
)
def test_pair_wrong_settings_are_refused(old: str, new: str, word: str | None) -> None:
    assert old in TEXT

    with pytest.raises(ConfigError) as caught:
        read_pair(
            TEXT[::-1].replace(old[::-1], new[::-1], 1)[::-1] if "12" in old else TEXT.replace(old, new, 1), file="p"
        )

    assert caught.value.file == "p"
    if word is not None:
        assert word in (caught.value.word or "")


def test_render_without_the_optional_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.import_module

    def missing(name: str) -> object:
        if name == "keepalived_config":
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    (tmp_path / "pair.toml").write_text(TEXT)

    assert main(["vrrp", "render", str(tmp_path / "pair.toml"), "--output", str(tmp_path / "out")]) == 6

    assert "pip install 'amphorad[vrrp-render]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_render_writes_both_nodes_and_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("keepalived_config")
    (tmp_path / "pair.toml").write_text(TEXT)

    assert main(["vrrp", "render", str(tmp_path / "pair.toml"), "--output", str(tmp_path / "out")]) == 0

    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["amphorad-check.sh", "keepalived-a.conf", "keepalived-b.conf"]
    assert "amphorad serve --vrrp" in capsys.readouterr().out


def test_state_without_any_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vrrp", "state", "--state-dir", str(tmp_path)]) == 4
    assert "no VRRP state" in capsys.readouterr().out
