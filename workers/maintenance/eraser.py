"""Erases files whose time is over, from the store and then from the database."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import Engine

from domain.ids import Prefix, encode
from models.queries.files import forget_files, put_off_erasing, put_off_files, take_due_files
from models.transactions import statement
from storage.objects import ObjectStore, StoreAway, StoreRefuses

log = structlog.get_logger(__name__)

ERASE_FILES = 100
AWAY_AFTER = 3  # objects in a row for which the store had no answer: it is away
FIRST_WAIT_S = 60.0  # of a file whose object was not deleted; doubled each time
MOST_WAIT_S = 3_600.0


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
    An object that the store does not let go is asked for again later and less and less often, so that nobody waits behind it. How often it was refused is
    forgotten with the process; what is put off stays put off.

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
        self._refusals: Counter[UUID] = Counter()

    def stop(self) -> None:
        """A pass is short; nothing to end."""

    def close(self) -> None:
        """Holds nothing of its own."""

    def run_once(self) -> Erased:
        """One pass, of at most ``limit`` files.

        Raises:
            DatabaseAway, LockedRow: the next pass goes on where this one stopped.
            StoreAway: the same; it had no answer for several objects, one after the other.
        """
        with statement(self._engine) as connection:
            put_off = put_off_files(connection, limit=self._limit)
            due = take_due_files(connection, limit=self._limit)
        gone, refused, away = self._delete(due)
        if gone:
            with statement(self._engine) as connection:
                forget_files(connection, ids=gone)
            for file_id in gone:
                self._refusals.pop(file_id, None)
            log.info("files erased", files=len(gone))
        if refused:
            self._refusals.update(refused)
            waits_s = {file_id: min(MOST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self._refusals[file_id] - 1, 16)) for file_id in refused}
            with statement(self._engine) as connection:
                put_off_erasing(connection, waits_s=waits_s)
        if away is not None:
            raise away
        return Erased(len(gone), more=put_off == self._limit or (len(due) == self._limit and bool(gone)))  # one that refuses all is not asked without a pause

    def _delete(self, due: Sequence[tuple[UUID, str]]) -> tuple[list[UUID], list[UUID], StoreAway | None]:
        """Deletes objects, until the store is found to be away.

        Returns:
            Whose objects are gone, whose are not, and why the rest was not tried.
        """
        gone: list[UUID] = []
        refused: list[UUID] = []
        in_a_row = 0
        for file_id, key in due:
            try:
                self._store.delete(key)
            except StoreAway as error:
                log.warning("the store does not delete a file's object", file_id=encode(Prefix.FILE, file_id), error=str(error))
                refused.append(file_id)
                in_a_row = 0 if isinstance(error, StoreRefuses) else in_a_row + 1
                if in_a_row == AWAY_AFTER:
                    return gone, refused, error
            else:
                gone.append(file_id)
                in_a_row = 0
        return gone, refused, None
