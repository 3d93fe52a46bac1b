"""The source table against a literal reading of its rule; `tests/contract` holds it against the real HAProxy."""

from __future__ import annotations

import struct
from functools import reduce
from math import gcd
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.algorithms.built_picker import BuiltPicker

if TYPE_CHECKING:
    import ipaddress


def table_by_rule(weights: list[int]) -> list[int]:
    """Octavia contract section 4.10.1."""
    divisor = reduce(gcd, weights)
    weights = [weight // divisor for weight in weights]
    size = sum(weights)
    scores = [0] * len(weights)
    table = []
    for _ in range(size):
        scores = [score + weight for score, weight in zip(scores, weights, strict=True)]
        winner = max(range(len(weights)), key=lambda index: ((scores[index] + size) // size, -index))
        scores[winner] -= size
        table.append(winner)
    return table


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_source_table_follows_the_rule_slot_for_slot(weights: list[int]) -> None:
    assert BuiltPicker("source_ip_hash", weights).table == table_by_rule(weights)


@given(st.lists(st.integers(1, 256), min_size=1, max_size=12))
def test_source_table_holds_each_member_by_its_weight(weights: list[int]) -> None:
    table = BuiltPicker("source_ip_hash", weights).table

    divisor = reduce(gcd, weights)
    assert [table.count(index) for index in range(len(weights))] == [weight // divisor for weight in weights]


@given(st.ip_addresses(), st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_source_pick_takes_the_xor_of_the_words(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, weights: list[int]
) -> None:
    picker = BuiltPicker("source_ip_hash", weights)

    words = struct.unpack(f">{len(address.packed) // 4}I", address.packed)
    hashed = reduce(int.__xor__, words)

    assert picker.pick(address.packed) == picker.table[hashed % len(picker.table)]


def test_source_pick_same_address_same_member() -> None:
    picker = BuiltPicker("source_ip_hash", [3, 1, 2])

    assert sorted(picker.pick_many(50, b"\x0a\x00\x00\x07")) == [0, 0, 50]


def test_source_pick_addresses_in_a_row_spread_by_weight() -> None:
    picker = BuiltPicker("source_ip_hash", [3, 1, 2])

    picked = [picker.pick((0x0A000000 + number).to_bytes(4)) for number in range(6000)]

    assert [picked.count(index) for index in range(3)] == [3000, 1000, 2000]


@pytest.mark.parametrize("name", ["source_ip_hash", "maglev"])
def test_hash_without_an_address_rotates(name: str) -> None:
    picker = BuiltPicker(name, [1, 1, 1], ["a", "b", "c"])

    assert [picker.pick() for _ in range(4)] == [0, 1, 2, 0]


def test_source_table_of_a_large_pool_is_built_at_once() -> None:
    weights = [1 + number * 37 % 256 for number in range(1000)]

    table = BuiltPicker("source_ip_hash", weights).table

    assert len(table) == sum(weights)
