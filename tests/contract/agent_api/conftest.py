"""The real controller's client, configured for one amphora on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import uvloop

from tests.support.api_certificates import make_identities
from tests.support.api_rig import served_api
from tests.support.controller import Controller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.api_certificates import Identities
    from tests.support.api_rig import ApiRig

AMPHORA = "5f1a9f6c-0f0e-4c52-9a6e-3d1a52a2a001"


@pytest.fixture(scope="session", autouse=True)
def libuv() -> None:
    """The first loop of a process opens a pipe that libuv keeps for ever; it is no leak of the first test."""
    uvloop.new_event_loop().close()


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    return make_identities(tmp_path_factory.mktemp("identities"), AMPHORA)


@pytest.fixture
def rig(tmp_path: Path, identities: Identities) -> Iterator[ApiRig]:
    with served_api(tmp_path, identities) as served:
        yield served


@pytest.fixture
def controller(rig: ApiRig, identities: Identities, tmp_path: Path) -> Iterator[Controller]:
    with Controller.configured(identities, port=rig.port, cert_dir=tmp_path / "certs") as found:
        yield found
