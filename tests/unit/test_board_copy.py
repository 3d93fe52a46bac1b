"""A board that takes over what another one holds: for a data plane that succeeds one that still writes its own."""

from __future__ import annotations

import os
from contextlib import closing

import pytest

from amphorad.board import Board, Kind

AT_TABLES = b"entry of a stick table"


def test_copy_has_objects_counters_and_tables_in_their_places() -> None:
    with closing(Board.create(1, slots=64)) as old, closing(Board.create(3, slots=64)) as new:
        slot = old.claim(Kind.LISTENER, "web")
        rows_at = old.tables_at - 64 * 512
        old.memory[rows_at + slot * 512 : rows_at + slot * 512 + 8] = (41).to_bytes(8, "little")
        far = 5_000_000_000  # beyond a hole that must not be filled
        for place in (0, far):
            os.pwrite(old.fileno(), AT_TABLES, old.tables_at + place)

        new.copy_from(old)

        assert new.find(Kind.LISTENER, "web") == slot
        assert [(each.listener_id, each.counters["connections"]) for each in new.listeners()] == [("web", 41)]
        for place in (0, far):
            assert os.pread(new.fileno(), len(AT_TABLES), new.tables_at + place) == AT_TABLES
        assert os.fstat(new.fileno()).st_blocks * 512 < 1_000_000


def test_board_with_fewer_threads_takes_nothing() -> None:
    with closing(Board.create(2, slots=64)) as old, closing(Board.create(1, slots=64)) as new:
        old.claim(Kind.LISTENER, "web")

        with pytest.raises(ValueError, match="does not fit"):
            new.copy_from(old)

        assert new.listeners() == []
