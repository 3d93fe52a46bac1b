"""What a supervisor owns so that it survives a data plane, and the data planes that work with it.

Processes, listening sockets, the board, stick tables on disk, the state directory: what one supervisor gives back, or leaves to the
next one. Nothing here decides when.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from amphorad.board import Board
from amphorad.child import DataPlaneProcess
from amphorad.options import data_plane_arguments
from amphorad.proxy.engine.stick_table import Table, table_bytes
from amphorad.sockets import ListeningSockets
from amphorad.state_directory import StateDirectory
from amphorad.stick_tables import TableFile, TableSpace

if TYPE_CHECKING:
    from collections.abc import Callable

    from amphorad.messages import Transition
    from amphorad.options import Options

__all__ = ["Holdings"]


class Holdings:
    """What there is to give back.

    Args:
        on_alarm: gets the text of each alarm.
        on_transition: gets each change of a member's health.

    Attributes:
        board: None before there is one, and in the end.
        child: the data plane that serves, or is being started or replaced; None before the first, and in the end.
        leaving: data planes that have been succeeded, and have not ended yet.
        arguments: of every data plane that is started, with so many engine `threads`.
    """

    def __init__(
        self, options: Options, on_alarm: Callable[[str], None], on_transition: Callable[[Transition], None]
    ) -> None:
        self._options = options
        self._on_alarm = on_alarm
        self._on_transition = on_transition
        self.directory = StateDirectory(options.state_dir)
        self.sockets = ListeningSockets(free_bind=options.free_bind, namespace=options.namespace)
        self.board: Board | None = None
        self.child: DataPlaneProcess | None = None
        self.leaving: list[DataPlaneProcess] = []
        self.threads = 0
        self.arguments: list[str] = []
        self._tables = TableFile(options.state_dir / "stick-tables")
        self._saving = threading.Lock()

    def set_threads(self, threads: int) -> None:
        """How many engine threads a data plane gets."""
        self.threads = threads
        self.arguments = data_plane_arguments(self._options, threads)

    def make_board(self) -> None:
        """A new board, with the stick tables that were saved."""
        self.board = Board.create(self.threads)
        self._tables.load(self._table_space())

    def new_child(self) -> DataPlaneProcess:
        """A data plane that has not been launched."""
        assert self.board is not None
        return DataPlaneProcess(
            self.arguments, self.board.fileno(), self._on_alarm, self._on_transition, self.directory.adoption
        )

    def save_tables(self) -> None:
        """Writes the stick tables to the disk, for what a restart of the service must not lose. Blocks."""
        try:
            with self._saving:  # another thread may still be at it when the end comes
                self._tables.save(self._table_space())
        except OSError as error:
            self._on_alarm(f"stick tables not saved: {error.strerror or error}")

    def _table_space(self) -> TableSpace[Table]:
        """The tables of the board, which cannot be closed while anybody holds this."""
        assert self.board is not None
        return TableSpace(self.board.memory, self.board.tables_at, Table, table_bytes)

    async def kill(self) -> None:
        """Ends all data planes at once."""
        for child in (*self.leaving, self.child):
            if child is not None:
                await child.kill()

    async def release(self) -> None:
        """Leaves all data planes alone; those that do not survive that end by themselves."""
        for child in (*self.leaving, self.child):
            if child is not None:
                await child.release()
        self.leaving.clear()
        self.child = None

    def give_back(self) -> None:
        """What a process must not keep that neither serves nor supervises."""
        self.give_back_shared()
        self.directory.give_back()

    def give_back_shared(self) -> None:
        """All but the state directory: what a data plane has too."""
        self.sockets.close()
        self.directory.close_adoption()
        if self.board is not None:
            self.save_tables()
            self.board.close()
            self.board = None
