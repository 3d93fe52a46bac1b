"""The image under test, and a root tree for containers: the image's when it is built, else this machine's (see `host_tree`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.host_tree import host_tree
from tests.support.nspawn import mounted_image, scratch, why_impossible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.nspawn import Root

IMAGE = Path(os.environ.get("AMPHORAD_IMAGE", "images/out/amphorad.qcow2"))
_WHY_NOT = why_impossible("keepalived")
needs_containers = [pytest.mark.skipif(_WHY_NOT is not None, reason=str(_WHY_NOT))]

# Whether the test itself failed: known to its fixtures when they end.
HAS_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[pytest.TestReport]:
    report: pytest.TestReport = yield
    if call.when == "setup":
        item.stash[HAS_FAILED] = True  # until it has come to its end
    elif call.when == "call":
        item.stash[HAS_FAILED] = report.failed
    return report


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    """AMPHORAD_HOST_TREE=1 takes this machine's although there is an image."""
    directory = tmp_path_factory.mktemp("root")
    with scratch(directory):
        if IMAGE.exists() and not os.environ.get("AMPHORAD_HOST_TREE"):
            with mounted_image(IMAGE, directory / "image") as found:
                yield found
        else:
            with host_tree(directory) as found:
                yield found
