"""Ending what runs for a job that nobody wants any more."""

from uuid import UUID

from sqlalchemy import Engine

from domain.failures import CanceledByUser, Failure
from domain.job import Status
from models.queries.consensus import live_children
from models.queries.finish import Ending, finish_jobs
from models.session import statement

TRIES = 5  # a child may change hands between the look and the write; maintenance ends what is left


def cancel_children(engine: Engine, parent_id: UUID) -> None:
    """Cancels the live children of a job that has ended, in transactions of their own: nothing that holds a parent may wait for a child."""
    failure = Failure.of(CanceledByUser())
    for _ in range(TRIES):
        with statement(engine) as session:
            live = live_children(session, parent_id=parent_id)
        if not live:
            return
        with statement(engine) as session:
            finish_jobs(session, endings=[Ending(job_id, fence, Status.CANCELED, failure=failure, by_owner=False) for job_id, fence in live])
