from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from amphorad.vrrp.states import KEPT, History, State, open_events, read_events

if TYPE_CHECKING:
    from pathlib import Path


def test_events_lines_in_pieces_and_foreign_ones(tmp_path: Path) -> None:
    reader = open_events(tmp_path / "events")
    rest = bytearray()
    try:
        os.write(reader, b'INSTANCE "x" BACKUP 100\nINSTANCE "x" MASTER_RX_LOWER_PRI 100\nINSTANCE "x" MAS')
        assert list(read_events(reader, rest)) == [State.BACKUP]
        os.write(reader, b'TER 100\nGROUP "x" FAULT 1\n\xff\n\nINSTANCE "x" STOP 100\n')
        assert list(read_events(reader, rest)) == [State.MASTER, State.STOPPED]
        os.write(reader, b"x" * 10000)
        assert list(read_events(reader, rest)) == []
        assert len(rest) <= 1024
    finally:
        os.close(reader)


def test_events_replaces_what_is_no_pipe(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_text("x")

    os.close(open_events(path))

    assert path.is_fifo()


def test_history_is_kept_for_the_next_process(tmp_path: Path) -> None:
    history = History(tmp_path / "state.json")
    assert history.state is State.NOT_CONFIGURED
    assert history.enter(State.BACKUP)
    assert not history.enter(State.BACKUP)
    history.enter(State.MASTER)

    other = History(tmp_path / "state.json")
    other.load()

    assert [change.state for change in other.changes] == [State.BACKUP, State.MASTER]
    assert other.since_s is not None
    assert 0 <= other.since_s < 10


def test_history_is_bounded(tmp_path: Path) -> None:
    history = History(tmp_path / "state.json")
    for _ in range(KEPT // 2 + 5):
        history.enter(State.BACKUP)
        history.enter(State.MASTER)

    assert len(history.changes) == KEPT


@pytest.mark.parametrize("content", [b"", b"{}", b'[{"state": "x"}]', b"\xff"])
def test_history_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    history = History(tmp_path / "state.json")

    history.load()

    assert history.state is State.NOT_CONFIGURED
