"""The name under which this amphora stands in the controller's `peers` section."""

from __future__ import annotations

import uuid
import warnings

import pytest

from amphorad.agent.configuration import peer_name


def test_names_are_those_of_the_controller() -> None:
    """Of so many ids, one in 64 has a digest whose base64 would begin with a dash."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        utils = pytest.importorskip("octavia.common.utils")
    ids = [str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) for number in range(2000)]

    assert [peer_name(each) for each in ids] == [utils.base64_sha1_string(each).rstrip("=") for each in ids]
