"""The systemd unit: what the contract and the survival of the data plane demand of it."""

from __future__ import annotations

import shutil
import subprocess
from importlib import resources
from typing import TYPE_CHECKING

import pytest

from amphorad.cli.arguments import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

NAME = "amphora-agent.service"  # boot scripts of the controller restart it by this name
# Each of them gives a service its own mounts (systemd.exec(5)); a network namespace made there is nobody else's.
OWN_MOUNTS = (
    "PrivateTmp PrivateDevices PrivateMounts PrivateUsers ProtectSystem ProtectHome ProtectKernelTunables ProtectKernelModules"
    " ProtectKernelLogs ProtectControlGroups ProtectProc ProtectHostname ReadWritePaths ReadOnlyPaths InaccessiblePaths TemporaryFileSystem"
    " BindPaths BindReadOnlyPaths RootDirectory RootImage MountFlags DynamicUser PrivateNetwork StateDirectory RuntimeDirectory"
).split()


@pytest.fixture
def text() -> str:
    return (resources.files("amphorad") / "data" / "systemd" / NAME).read_text()


def options(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and line[0] not in "#["]
    return {name: value for name, _equals, value in (line.partition("=") for line in lines)}


def test_unit_starts_the_agent_and_spares_the_data_plane(text: str) -> None:
    found = options(text)

    assert found["ExecStart"].endswith("amphorad agent --config-file /etc/octavia/amphora-agent.conf")
    assert (found["Type"], found["NotifyAccess"], found["Restart"]) == ("notify", "main", "always")
    assert found["KillMode"] == "process"
    assert int(found["WatchdogSec"]) > 0
    assert int(found["RestartPreventExitStatus"]) == ExitCode.INTERRUPTED


def test_unit_has_no_mounts_of_its_own(text: str) -> None:
    assert not set(options(text)) & set(OWN_MOUNTS)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_unit_is_right_to_systemd(tmp_path: Path, text: str) -> None:
    unit = tmp_path / NAME
    unit.write_text(text.replace("/usr/local/bin/amphorad", "/bin/true"))

    ended = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=15)

    assert NAME not in ended.stderr + ended.stdout
