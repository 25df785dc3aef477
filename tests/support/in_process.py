"""A worker's child inside the test's process: claims, runs and records as the real one, without a pool, a broker or leases."""

from dataclasses import replace
from pathlib import Path
from uuid import UUID

from domain.catalogue import Catalogue
from tests.support.worker_parts import worker_config
from workers.board import Board
from workers.child import BOARD_FILE, PLACES_PER_SLOT, _context, run_dispatch


class InProcessWorker:
    """Runs whatever model of a catalogue it is told to.

    Args:
        folder: a private one.
        database_url: where jobs are.
        catalogue: whose models it runs.
    """

    def __init__(self, folder: Path, database_url: str, catalogue: Catalogue) -> None:
        folder.mkdir()
        self.config = replace(worker_config(folder), database_url=database_url, catalogue=catalogue)
        self.config.save()
        self._board = Board.create(folder / BOARD_FILE, PLACES_PER_SLOT)
        self._dispatches = 0

    def close(self) -> None:
        """Lets go of the database; nothing may run after it."""
        context = _context(str(self.config.run_dir))
        context.runs.flush()
        context.engine.dispose()

    def run(self, model: str, *ids: UUID, solo: bool = False) -> int:
        """One dispatch; how many jobs ended or went back to the queue."""
        self._dispatches += 1
        self._board.place(0).clear(self._dispatches)
        return run_dispatch(str(self.config.run_dir), 0, f"w:{self._dispatches}", model, ids, solo, False, self._dispatches)
