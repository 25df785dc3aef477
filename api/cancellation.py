"""Ending what runs for jobs that nobody wants any more."""

import functools
from collections.abc import Callable
from uuid import UUID

from sqlalchemy import Connection, Engine

from domain.failures import CanceledByUser, Failure
from domain.job import Status
from models.queries.consensus import live_children, live_children_of_batch
from models.queries.finish import Ending, finish_jobs
from models.transactions import statement

TRIES = 5  # a child may change hands between the look and the write; maintenance ends what is left
CANCEL_JOBS = 500  # in one statement


def cancel_children(engine: Engine, parent_id: UUID) -> None:
    """Cancels the live children of a job that has ended, in transactions of their own: nothing that holds a parent may wait for a child."""
    for _ in range(TRIES):
        if not _cancel(engine, functools.partial(live_children, parent_id=parent_id)):
            return


def cancel_children_of_batch(engine: Engine, batch_id: UUID) -> None:
    """The same for all jobs of a batch that was canceled."""
    while _cancel(engine, functools.partial(live_children_of_batch, batch_id=batch_id, limit=CANCEL_JOBS)):
        pass


def _cancel(engine: Engine, look: Callable[[Connection], list[tuple[UUID, int]]]) -> bool:
    """Cancels what a look finds; whether it found something."""
    with statement(engine) as connection:
        live = look(connection)
    if live:
        failure = Failure.of(CanceledByUser())
        with statement(engine) as connection:
            finish_jobs(connection, endings=[Ending(job_id, fence, Status.CANCELED, failure=failure, by_owner=False) for job_id, fence in live])
    return bool(live)
