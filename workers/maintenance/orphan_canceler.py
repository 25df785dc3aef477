"""Cancels what still runs for a job that has ended: its children, when it was canceled, has expired, or its cancel died half way."""

from dataclasses import dataclass

from sqlalchemy import Engine

from domain.failures import CanceledByUser, Failure
from domain.job import Status
from models.queries.consensus import orphans
from models.queries.finish import Ending, finish_jobs
from models.transactions import statement

CANCEL_JOBS = 200


@dataclass(frozen=True, slots=True)
class Canceled:
    """What one pass did.

    Attributes:
        more: whether there is probably more to do at once.
    """

    jobs: int = 0
    more: bool = False


class OrphanCanceler:
    """Looks for live children of ended parents. Any number may run: an end that another was faster with changes nothing.

    Args:
        engine: the database.
        every_s: how often to look.
    """

    name = "orphan canceler"

    def __init__(self, engine: Engine, *, every_s: float) -> None:
        self.every_s = every_s
        self._engine = engine

    def stop(self) -> None:
        """A pass is short; nothing to end."""

    def close(self) -> None:
        """Holds nothing of its own."""

    def run_once(self) -> Canceled:
        """One pass: at most 200 children, in one statement.

        Raises:
            DatabaseAway, LockedRow: the next pass tries again.
        """
        with statement(self._engine) as connection:
            found = orphans(connection, limit=CANCEL_JOBS)
        failure = Failure.of(CanceledByUser("The job that it was a part of has ended."))
        endings = [Ending(job_id, fence, Status.CANCELED, failure=failure, by_owner=False) for job_id, fence in found]
        if not endings:
            return Canceled()
        with statement(self._engine) as connection:
            ended = len(finish_jobs(connection, endings=endings))
        return Canceled(ended, more=len(found) == CANCEL_JOBS)
