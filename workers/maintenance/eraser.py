"""Erases files whose time is over, from the store and then from the database."""

from dataclasses import dataclass

import structlog
from sqlalchemy import Engine

from models.queries.files import forget_files, put_off_files, take_due_files
from models.session import statement
from storage.objects import ObjectStore

log = structlog.get_logger(__name__)

ERASE_FILES = 100


@dataclass(frozen=True, slots=True)
class Erased:
    """What one pass did.

    Attributes:
        files: those that are gone.
        more: whether there is probably more to do at once.
    """

    files: int = 0
    more: bool = False


class Eraser:
    """Hides rows, deletes their objects, deletes the rows: whatever dies in between, the next pass, or another eraser, finds the rows that are left.

    So ends what was uploaded and has expired or was deleted, what an upload that broke off has left, and what a job gave whose attempt did not succeed.

    Args:
        engine: the database.
        store: of the objects.
        every_s: how often to look.
        limit: files a pass.
    """

    name = "eraser"

    def __init__(self, engine: Engine, store: ObjectStore, *, every_s: float, limit: int = ERASE_FILES) -> None:
        self.every_s = every_s
        self._engine = engine
        self._store = store
        self._limit = limit

    def stop(self) -> None:
        """A pass is short; nothing to end."""

    def close(self) -> None:
        """Holds nothing of its own."""

    def run_once(self) -> Erased:
        """One pass, of at most ``limit`` files.

        Raises:
            DatabaseAway, LockedRow, StoreAway: the next pass goes on where this one stopped.
        """
        with statement(self._engine) as session:
            put_off = put_off_files(session, limit=self._limit)
            due = take_due_files(session, limit=self._limit)
        for _, key in due:
            self._store.delete(key)
        if due:
            with statement(self._engine) as session:
                forget_files(session, ids=[file_id for file_id, _ in due])
            log.info("files erased", files=len(due))
        return Erased(len(due), more=self._limit in {put_off, len(due)})
