"""Versions of programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from amphorad.agent_api.programs import HAPROXY_VERSION, NOT_INSTALLED, Versions, version_in

if TYPE_CHECKING:
    from pathlib import Path


def _program(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\necho run >> {directory}/runs\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Keepalived v2.2.7 (01/16,2022)\n\nCopyright(C) 2001-2022", "2.2.7"),
        ("Keepalived v2.3.1 (05/24,2024), git commit v2.3.1-3-g1", "2.3.1"),
        ("no number here", ""),
    ],
)
def test_version_in_takes_the_first_dotted_number(text: str, version: str) -> None:
    assert version_in(text) == version


def test_haproxy_version_is_new_enough_for_every_feature() -> None:
    """Split at dots, the first two parts are numbers. Octavia contract section 1.5, route 2."""
    major, minor = (int(part) for part in HAPROXY_VERSION.split(".")[:2])

    assert (major, minor) >= (2, 2)


@pytest.mark.asyncio
async def test_versions_asks_a_program_once_and_again_when_it_changed(tmp_path: Path) -> None:
    _program(tmp_path, "keepalived", 'echo "Keepalived v2.2.7 (01/16,2022)" >&2')
    versions = Versions(search_path=str(tmp_path))

    assert [await versions.keepalived(), await versions.keepalived()] == ["2.2.7", "2.2.7"]
    assert (tmp_path / "runs").read_text() == "run\n"
    _program(tmp_path, "keepalived", 'echo "Keepalived v2.3.10 (05/24,2024)" >&2')

    assert await versions.keepalived() == "2.3.10"


@pytest.mark.asyncio
async def test_versions_missing_program_is_told_and_noticed_later(tmp_path: Path) -> None:
    versions = Versions(search_path=str(tmp_path))
    assert await versions.keepalived() == NOT_INSTALLED

    _program(tmp_path, "keepalived", "echo v1.2.3")

    assert await versions.keepalived() == "1.2.3"


@pytest.mark.asyncio
async def test_versions_program_that_says_nothing_is_unknown(tmp_path: Path) -> None:
    _program(tmp_path, "keepalived", "exit 1")

    assert await Versions(search_path=str(tmp_path)).keepalived() == "unknown"
