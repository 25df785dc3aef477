"""Gives back what a worker process held, once it is known to be gone, so that nobody waits for its leases to end."""

from sqlalchemy import Engine

from domain.job import Outcome
from models.queries.finish import Return, return_jobs
from models.queries.lease import lock_held_by
from models.transactions import unit_of_work


def release_worker(engine: Engine, worker_name: str) -> int:
    """Puts everything that a worker holds back into the queue; its jobs have spent nothing.

    Call it only when the worker and its children are dead or have stopped: what one of them still finishes after this is refused
    by the fence. Locks the jobs' rows in the order of their ids. Safe to call again.

    Args:
        engine: the database.
        worker_name: the worker's name; its leases belong to ``<name>:<dispatch number>``.

    Returns:
        How many jobs.

    Raises:
        DatabaseAway, LockedRow: nothing was released; the reaper does it when the leases end.
    """
    with unit_of_work(engine) as connection:
        held = lock_held_by(connection, worker=worker_name)
        returns = [Return(id=job.id, fence=job.fence, outcome=Outcome.RELEASED) for job in held]
        return len(return_jobs(connection, returns=returns)) if returns else 0
