"""The member that the tests of HTTP/2 towards members play."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Authority
from tests.support.http2_member import PlayedHttp2Member
from tests.support.tls_members import member_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def member(tmp_path: Path) -> Iterator[PlayedHttp2Member]:
    with PlayedHttp2Member(member_context(Authority().issue("m"), tmp_path)) as played:
        yield played
