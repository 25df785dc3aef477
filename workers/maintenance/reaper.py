"""Takes jobs away from holders that are gone, and ends jobs whose deadline has passed. Nobody else takes a lease away."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import Engine

from domain.failures import DeadlineExceeded, Failure, WorkerLost
from domain.job import MAX_CRASHES, Outcome, Status
from domain.retry import backoff_s
from models.queries.finish import Ending, Return, finish_jobs, return_jobs
from models.queries.lease import LapsedJob, lock_lapsed, lock_overdue
from models.transactions import unit_of_work
from workers.run_counter import RunCounter

log = structlog.get_logger(__name__)

REAP_JOBS = 500
_DIED = Failure(WorkerLost.code, "The process that ran the job died.", retryable=True)


@dataclass(frozen=True, slots=True)
class Reaped:
    """What one pass did.

    Attributes:
        returned: jobs that wait again.
        lost: jobs that failed, since they took down their process alone for the third time.
        expired: jobs whose deadline had passed.
        more: whether there is probably more to do at once.
    """

    returned: int = 0
    lost: int = 0
    expired: int = 0
    more: bool = False


class Reaper:
    """Looks for lapsed leases and passed deadlines. Any number may run: each skips what another has locked.

    Args:
        engine: the database.
        grace_s: how long after its end a lease is taken away.
        every_s: how often to look.
        settle_s: leases are left alone for so long after the database has started, for their holders to renew.
        dice: uniform in [0, 1); spreads retries.
    """

    name = "reaper"

    def __init__(self, engine: Engine, *, grace_s: float, every_s: float, settle_s: float = 0.0, dice: Callable[[], float] = random.random) -> None:
        self.every_s = every_s
        self._engine = engine
        self._grace_s = grace_s
        self._settle_s = settle_s
        self._dice = dice
        self._runs = RunCounter(engine)

    def stop(self) -> None:
        """A pass is short; nothing to end."""

    def close(self) -> None:
        """Holds nothing of its own."""

    def run_once(self) -> Reaped:
        """One pass: at most 500 lapsed leases and 500 passed deadlines of children, and as many of other jobs, in a transaction each.

        A crash in the middle rolls one transaction back and loses nothing.

        Raises:
            DatabaseAway, LockedRow: the next pass tries again.
        """
        returned = lost = expired = 0
        more = False
        for children in (False, True):
            given_back, given_up = self._reap(children=children)
            late = self._expire(children=children)
            more = more or REAP_JOBS in {late, given_back + given_up}
            returned, lost, expired = returned + given_back, lost + given_up, expired + late
        if expired or returned or lost:
            log.warning("jobs reaped", returned=returned, lost=lost, expired=expired)
        return Reaped(returned, lost, expired, more=more)

    def _expire(self, *, children: bool) -> int:
        failure = Failure.of(DeadlineExceeded())
        with unit_of_work(self._engine) as connection:
            overdue = lock_overdue(connection, children=children, limit=REAP_JOBS)
            endings = [Ending(id=job.id, fence=job.fence, status=Status.EXPIRED, failure=failure, by_owner=False, may_be_child=children) for job in overdue]
            return len(finish_jobs(connection, endings=endings)) if endings else 0

    def _reap(self, *, children: bool) -> tuple[int, int]:
        with unit_of_work(self._engine) as connection:
            lapsed = lock_lapsed(connection, children=children, grace_s=self._grace_s, settle_s=self._settle_s, limit=REAP_JOBS)
            verdicts = [self._verdict(job) for job in lapsed]
            returns = [verdict for verdict in verdicts if isinstance(verdict, Return)]
            endings = [verdict for verdict in verdicts if isinstance(verdict, Ending)]
            returned = len(return_jobs(connection, returns=returns)) if returns else 0
            lost = len(finish_jobs(connection, endings=endings)) if endings else 0
        for job, verdict in zip(lapsed, verdicts, strict=True):
            if verdict.crashed:  # one that ran in company has spent nothing, and says nothing of its model
                self._runs.count(job.model, [(job.counts_for, verdict)])
        self._runs.flush()
        return returned, lost

    def _verdict(self, job: LapsedJob) -> Ending | Return:
        """A job that ran alone is blamed for its process; one that ran in company is only asked to run alone next."""
        if not job.alone:
            return Return(id=job.id, fence=job.fence, outcome=Outcome.LOST, failure=_DIED, solo=True)
        if job.crashes + 1 >= MAX_CRASHES:
            return Ending(id=job.id, fence=job.fence, status=Status.FAILED, failure=Failure.of(WorkerLost()), by_owner=False, crashed=True)
        delay_s = backoff_s(job.crashes + 1, self._dice())
        return Return(id=job.id, fence=job.fence, outcome=Outcome.LOST, failure=_DIED, delay_s=delay_s, crashed=True, solo=True)
