"""Names that a path may carry."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.agent_api.identifiers import is_certificate_name, is_id, printable

if TYPE_CHECKING:
    import uuid


@given(st.uuids())
def test_is_id_every_uuid_is_one(value: uuid.UUID) -> None:
    assert is_id(str(value))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "certs",
        "vrrp",
        "5F1A9F6C-0F0E-4C52-9A6E-3D1A52A2A001",
        "5f1a9f6c0f0e4c529a6e3d1a52a2a001",
        "5f1a9f6c-0f0e-4c52-9a6e-3d1a52a2a001\n",
        "5f1a9f6c-0f0e-4c52-9a6e-3d1a52a2a001/x",
        "٥f1a9f6c-0f0e-4c52-9a6e-3d1a52a2a001",
        "{5f1a9f6c-0f0e-4c52-9a6e-3d1a52a2a001}",
    ],
)
def test_is_id_anything_else_is_none(text: str) -> None:
    assert not is_id(text)


@pytest.mark.parametrize(
    "name",
    [
        "5f1a9f6c-0f0e-4c52-9a6e-3d1a52a2a001.pem",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709.pem",
        "a.b.pem",
        "A_b-9.pem",
    ],
)
def test_is_certificate_name_what_the_controller_makes_is_one(name: str) -> None:
    assert is_certificate_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".pem",
        "..pem",
        "../a.pem",
        "a/b.pem",
        "a\0.pem",
        "a.pem\n",
        "a.PEM",
        "a.pem.bak",
        "ä.pem",
        "a b.pem",
        "x" * 200 + ".pem",
    ],
)
def test_is_certificate_name_anything_else_is_none(name: str) -> None:
    assert not is_certificate_name(name)


@given(st.text(max_size=300), st.integers(1, 50))
def test_printable_gives_one_bounded_line(text: str, limit: int) -> None:
    shown = printable(text, limit)

    assert shown.isprintable()
    assert len(shown) <= limit * 10 + 3
    assert shown.encode().decode() == shown


def test_printable_plain_text_stays() -> None:
    assert printable(string.ascii_letters, 60) == string.ascii_letters
    assert printable("a\r\nb\udc80", 60) == "a\\r\\nb\\udc80"
