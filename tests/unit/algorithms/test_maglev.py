"""Maglev: alike everywhere, balanced, and steady when members change."""

from __future__ import annotations

import hashlib
import ipaddress
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amphorad.algorithms.built_picker import BuiltPicker

if TYPE_CHECKING:
    import random

SLOTS = 65537
MASK = (1 << 64) - 1


def names_of(count: int) -> list[str]:
    return [f"member-{number}" for number in range(count)]


SEVEN = BuiltPicker("maglev", [1] * 7, names_of(7))
TABLE_OF_SEVEN = SEVEN.table


def documented_hash(data: bytes) -> int:
    """As the docstring of `maglev` fixes it: FNV-1a, then the finalizer of splitmix64."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & MASK
    value = value + 0x9E3779B97F4A7C15 & MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


@given(st.ip_addresses())
def test_maglev_key_is_the_documented_hash(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    key = (getattr(address, "ipv4_mapped", None) or address).packed

    assert SEVEN.pick(address.packed) == TABLE_OF_SEVEN[documented_hash(key) % SLOTS]


def test_maglev_table_never_changes_between_versions() -> None:
    """Instances of different versions serve side by side during an upgrade."""
    table = BuiltPicker("maglev", [1, 2, 5], ["a", "b", "c"]).table

    digest = hashlib.sha256(struct.pack(f"<{len(table)}I", *table)).hexdigest()

    assert digest[:16] == "294256e610f14b14"


def test_maglev_mapped_address_is_its_ipv4_address() -> None:
    picker = BuiltPicker("maglev", [1] * 50, names_of(50))
    address = ipaddress.IPv4Address("192.0.2.33")

    assert picker.pick(address.packed) == picker.pick(ipaddress.IPv6Address(f"::ffff:{address}").packed)


@settings(max_examples=15)
@given(st.lists(st.integers(1, 10), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_maglev_order_of_declaration_does_not_matter(weights: list[int], shuffler: random.Random) -> None:
    names = names_of(len(weights))
    order = list(range(len(weights)))
    shuffler.shuffle(order)

    declared = BuiltPicker("maglev", weights, names).table
    shuffled = BuiltPicker("maglev", [weights[index] for index in order], [names[index] for index in order]).table

    assert [order[index] for index in shuffled] == declared


@pytest.mark.parametrize("count", [1, 2, 3, 10, 100, 655, 656, 1000])
def test_maglev_equal_members_own_equal_shares_within_two_per_cent(count: int) -> None:
    table = BuiltPicker("maglev", [1] * count, names_of(count)).table

    ideal = len(table) / count
    owned = [0] * count
    for index in table:
        owned[index] += 1
    assert all(abs(slots - ideal) < 0.02 * ideal for slots in owned)


@settings(max_examples=15)
@given(st.lists(st.integers(1, 256), min_size=1, max_size=12))
def test_maglev_shares_follow_weights(weights: list[int]) -> None:
    table = BuiltPicker("maglev", weights, names_of(len(weights))).table

    for index, weight in enumerate(weights):
        assert abs(table.count(index) - SLOTS * weight / sum(weights)) <= len(weights) + 1


@pytest.mark.parametrize("count", [2, 3, 5, 10, 30, 100])
def test_maglev_removing_one_member_moves_little_more_than_its_share(count: int) -> None:
    names = names_of(count)
    gone = count // 2
    left = [index for index in range(count) if index != gone]

    before = BuiltPicker("maglev", [1] * count, names).table
    after = BuiltPicker("maglev", [1] * (count - 1), [names[index] for index in left]).table
    moved = sum(old != left[new] for old, new in zip(before, after, strict=True))

    # what the others swap among themselves grows with the share of slots that no longer come in order
    assert 1 / count - 0.02 <= moved / SLOTS <= 1 / count + 0.01


@pytest.mark.parametrize("names", [None, ["a", "a"]])
def test_maglev_without_distinct_names_is_refused(names: list[str] | None) -> None:
    with pytest.raises(ValueError, match="distinct name"):
        BuiltPicker("maglev", [1, 1], names)
