"""Two sessions that talk to each other through bytes alone."""

from __future__ import annotations

import mmap
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amphorad.proxy.engine.stick_table import KIND_STRING, Table, table_bytes
from amphorad.proxy.peers.session import PeerMemory, PeerSession, SharedTable
from amphorad.proxy.peers.wire import PeerError

MEMBERS = ("m1", "m2", "m3")


def make_table(size: int = 200, key_limit: int = 16) -> Table:
    table = Table(mmap.mmap(-1, table_bytes(size, key_limit) + 4096), 0)
    table.format(KIND_STRING, size, key_limit, 7)
    return table


def content(table: Table) -> dict[bytes, str]:
    return {key: name for key, name, _touched in table.entries()}


class Side:
    """One peer over its connections."""

    def __init__(self, size: int = 200, key_limit: int = 16) -> None:
        self.table = make_table(size, key_limit)
        self.memory = PeerMemory()
        self.connect()

    def connect(self) -> None:
        self.session = PeerSession([SharedTable("p:l", self.table, MEMBERS)], self.memory)
        self.to_send = self.session.begin()


def talk(left: Side, right: Side, rounds: int = 200, cut: random.Random | None = None) -> None:
    """Until both are silent. With `cut` the bytes arrive in pieces."""
    for _ in range(rounds):
        silent = True
        for source, target in ((left, right), (right, left)):
            data, source.to_send = source.to_send + source.session.pending(), b""
            silent = silent and not data
            while data:
                length = cut.randint(1, 40) if cut else len(data)
                target.to_send += target.session.receive(data[:length], 1)
                data = data[length:]
        if silent and not left.to_send and not right.to_send:
            return
    raise AssertionError("they do not come to an end")


def test_both_have_everything_after_they_met() -> None:
    left, right = Side(), Side()
    for number in range(90):
        left.table.store(b"l%d" % number, MEMBERS[number % 3], number)
        right.table.store(b"r%d" % number, MEMBERS[number % 3], number)

    talk(left, right, cut=random.Random(3))

    assert content(left.table) == content(right.table)
    assert len(left.table) == 180
    assert left.memory.has_learned
    assert left.memory.acknowledged == {"p:l": 90}


def test_connection_made_again_sends_only_what_is_new() -> None:
    left, right = Side(), Side()
    for number in range(50):
        left.table.store(b"l%d" % number, "m1", number)
    talk(left, right)
    left.connect()
    right.connect()
    left.table.store(b"new", "m2", 100)

    talk(left, right)

    assert left.session.told == 1
    assert right.table.find(b"new", 200) == "m2"


def test_connection_that_broke_in_the_middle_loses_nothing() -> None:
    left, right = Side(600), Side(600)
    right.memory.has_learned = True  # so that it is not a lesson but a push
    for number in range(500):
        left.table.store(b"l%d" % number, "m1", number)
    left.to_send = b""
    for _ in range(2):  # a part arrives and is acknowledged, then the connection is gone
        answer = right.session.receive(left.session.pending()[:2000], 1)
        left.session.receive(answer, 1)
        left.connect()
        right.connect()

    talk(left, right)

    assert content(right.table) == content(left.table)


def test_more_updates_than_the_ring_holds_are_told_as_a_whole() -> None:
    left, right = Side(20), Side(20)
    talk(left, right)
    for number in range(200):
        left.table.store(b"l%d" % (number % 20), MEMBERS[number % 3], number)

    talk(left, right)

    assert content(right.table) == content(left.table)


def test_entry_of_an_unknown_member_is_kept_for_later() -> None:
    left, right = Side(), Side()
    left.table.store(b"k", "not-yet-here", 1)

    talk(left, right)

    assert right.table.find(b"k", 2) == "not-yet-here"


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 30), st.sampled_from(MEMBERS), st.booleans()), max_size=60),
    st.integers(0, 1000),
)
@settings(max_examples=100)
def test_updates_of_different_keys_on_both_sides_end_in_the_same_tables(
    steps: list[tuple[bool, int, str, bool]], seed: int
) -> None:
    left, right = Side(), Side()
    for now, (is_left, key, name, speak) in enumerate(steps):
        side = left if is_left else right
        side.table.store(b"%s%d" % (b"l" if is_left else b"r", key), name, now)
        if speak:
            talk(left, right, cut=random.Random(seed))
        if speak and key == 0:
            left.connect()
            right.connect()
    talk(left, right)

    assert content(left.table) == content(right.table)


@given(st.lists(st.binary(max_size=60), max_size=20), st.integers(0, 1 << 30))
@settings(max_examples=300)
def test_garbage_ends_the_connection_or_is_ignored(parts: list[bytes], seed: int) -> None:
    """Whatever comes, the table stays whole and nothing but PeerError is raised."""
    side = Side(20)
    chance = random.Random(seed)
    other = Side(20)
    for number in range(30):
        other.table.store(b"o%d" % number, MEMBERS[number % 3], number)
    valid = bytearray(other.session.begin() + other.session.pending())
    try:
        for part in parts:
            data = bytearray(valid if chance.random() < 0.5 else b"\x0a" + bytes((chance.randint(128, 134),)) + part)
            for _ in range(chance.randint(0, 3)):
                if data:
                    data[chance.randrange(len(data))] = chance.randrange(256)
            side.session.receive(bytes(data), 1)
    except PeerError:
        pass
    assert len(side.table) <= 20
    side.table.hold_lock()
    side.table.recover()
    assert len(side.table) == len(side.table.entries())


def test_bytes_captured_from_haproxy_are_understood() -> None:
    """HAProxy 2.6.12: a definition, an entry made by its command line (without a name), and one made by traffic."""
    side = Side()

    answer = side.session.receive(
        bytes.fromhex(
            "0a820c0103703a6c0641f1f1fe0000"  # table 1, p:l
            "0a80090000000102633002000a8109026331010401026d31"
        ),
        1,
    )

    assert content(side.table) == {}  # its keys may be longer than ours: another table
    assert answer == b""
    side = Side(key_limit=64)
    side.memory.has_learned = True
    side.connect()
    answer = side.session.receive(
        bytes.fromhex("0a820c0103703a6c0641f1f1fe00000a80090000000102633002000a8109026331010401026d31"), 1
    )
    assert content(side.table) == {b"c0": "m2", b"c1": "m1"}
    assert answer == bytes.fromhex("0a84050100000002")


def test_message_beyond_the_limit_is_refused_before_it_is_kept() -> None:
    side = Side()
    with pytest.raises(PeerError):
        side.session.receive(b"\x0a\x80" + bytes.fromhex("ffffffff0f"), 1)
