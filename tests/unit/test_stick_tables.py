"""The directory of stick tables on the board, and their file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from amphorad.board import Board
from amphorad.errors import ConfigError
from amphorad.proxy.engine.stick_table import Table, table_bytes
from amphorad.stick_tables import KIND_ADDRESS, KIND_STRING, Shape, TableFile, TableSpace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHAPE = Shape(kind=KIND_STRING, size=100, key_limit=64)
KEY = ("l", "p")


class Held:
    """A board that can be let go of: its mapping cannot be closed while tables point into it, but goes with them."""

    def __init__(self) -> None:
        self.board: Board | None = Board.create(1, slots=16)

    def let_go(self) -> None:
        assert self.board is not None
        os.close(self.board.fileno())
        self.board = None


def open_space(held: Held) -> TableSpace[Table]:
    assert held.board is not None
    return TableSpace(held.board.memory, held.board.tables_at, Table, table_bytes)


@pytest.fixture
def board() -> Iterator[Held]:
    held = Held()
    yield held
    held.let_go()


def test_table_of_an_identity_is_found_again_by_another_process(board: Held) -> None:
    open_space(board).claim(KEY, SHAPE).store(b"k", "m1", 5)

    space = open_space(board)

    assert list(space) == [KEY]
    assert space.claim(KEY, SHAPE).find(b"k", 6) == "m1"


def test_dropped_table_gives_its_memory_back_and_begins_empty(board: Held) -> None:
    space = open_space(board)
    other = space.claim(("l", "q"), SHAPE)
    space.claim(KEY, SHAPE).store(b"k", "m1", 5)

    space.drop_unused([other])

    assert list(space) == [("l", "q")]
    assert space.claim(KEY, SHAPE).find(b"k", 6) is None


def test_table_of_another_size_keeps_the_newest_entries(board: Held) -> None:
    space = open_space(board)
    old = space.claim(KEY, SHAPE)
    for number in range(50):
        old.store(b"%d" % number, f"m{number % 3}", number)

    new = space.claim(KEY, Shape(kind=KIND_STRING, size=10, key_limit=64))

    assert [key for key, _name, _touched in new.entries()] == [b"%d" % number for number in range(40, 50)]
    assert new.find(b"45", 60) == "m0"
    assert old.find(b"3", 60) == "m0"  # whoever still uses it may
    space.drop_unused([new])
    assert space.table(KEY) is new


def test_refused_change_leaves_the_table_in_force(board: Held) -> None:
    space = open_space(board)
    old = space.claim(KEY, SHAPE)
    old.store(b"k", "m1", 1)
    space.claim(KEY, Shape(kind=KIND_ADDRESS, size=10, key_limit=16))

    space.drop_unused([old])

    assert space.table(KEY) is old


def test_locked_table_of_a_killed_process_is_recovered(board: Held) -> None:
    table = open_space(board).claim(KEY, SHAPE)
    table.store(b"k", "m1", 1)
    table.hold_lock()

    space = open_space(board)

    assert space.recover() == 1
    assert space.table(KEY).find(b"k", 2) == "m1"


def test_too_large_table_is_refused(board: Held) -> None:
    with pytest.raises(ConfigError, match="no room"):
        open_space(board).claim(KEY, Shape(kind=KIND_STRING, size=1 << 28, key_limit=64))


def test_saved_tables_are_loaded_by_the_next_service(board: Held, tmp_path: Path) -> None:
    space = open_space(board)
    table = space.claim(KEY, SHAPE)
    for number in range(20):
        table.store(b"%d" % number, f"m{number % 3}", number)
    file = TableFile(tmp_path / "tables")
    assert file.save(space)
    assert not file.save(space)

    other = Held()
    after = open_space(other)
    other.let_go()

    assert TableFile(tmp_path / "tables").load(after) == 20
    loaded = after.claim(KEY, SHAPE)
    assert [entry[:2] for entry in loaded.entries()] == [entry[:2] for entry in table.entries()]


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x92\x01\x91\x98", b"\x92\x02\x90"])
def test_file_that_is_not_understood_is_the_same_as_none(board: Held, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tables").write_bytes(content)

    assert TableFile(tmp_path / "tables").load(open_space(board)) == 0
    assert TableFile(tmp_path / "none").load(open_space(board)) == 0
