"""Files of listeners and pools, as raw bytes."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amphorad.agent_api.certificate_store import CertificateStore

if TYPE_CHECKING:
    from pathlib import Path

LB = "5f1a9f6c-0f0e-4c52-9a6e-3d1a52a2a002"


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=64))
def test_store_gives_back_the_same_bytes(tmp_path: Path, content: bytes) -> None:
    store = CertificateStore(tmp_path / "certs")

    store.put(LB, "a.pem", content)

    assert store.get(LB, "a.pem") == content


def test_store_files_are_private_and_nothing_else_is_left(tmp_path: Path) -> None:
    store = CertificateStore(tmp_path / "certs")

    store.put(LB, "a.pem", b"one")
    store.put(LB, "a.pem", b"two")

    path = tmp_path / "certs" / LB / "a.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["a.pem"]
    assert path.read_bytes() == b"two"


def test_store_absent_file_is_none_and_deleting_it_is_fine(tmp_path: Path) -> None:
    store = CertificateStore(tmp_path / "certs")

    assert store.get(LB, "a.pem") is None
    store.delete(LB, "a.pem")
    assert not (tmp_path / "certs").exists()

    store.put(LB, "a.pem", b"x")
    store.delete(LB, "a.pem")
    store.delete(LB, "a.pem")
    assert store.get(LB, "a.pem") is None
