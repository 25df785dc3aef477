"""What becomes of the jobs of a child that died, or raised outside ``infer``: who is to blame, who runs again, who goes back.

Only a job that was running alone spends anything. Jobs that were running together run again one by one, jobs whose turn had not
come run again together, all in the same attempt: the main process still holds their leases.
"""

import queue
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import Engine

from domain.catalogue import ModelSpec
from domain.failures import Failure, ModelError, RunTimeout, WorkerLost
from domain.job import MAX_CRASHES, Outcome, Status
from domain.retry import backoff_s
from models.queries.claim import ClaimedJob, held_jobs
from models.queries.finish import Ending, Return
from models.transactions import DatabaseAway, LockedRow
from workers.board import Progress
from workers.dispatch import Dispatch, Kill
from workers.execution import write_outcomes
from workers.failover import failed
from workers.patience import patiently
from workers.run_counter import RunCounter

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the jobs of a dead child are divided.

    Attributes:
        culprit: the one job that was running alone, if one was.
        again: groups to run again, each by itself.
    """

    culprit: UUID | None
    again: Sequence[Sequence[UUID]]


def judge(dispatch: Dispatch) -> Verdict:
    """Divides the jobs by how far the child said it was with each."""
    running = dispatch.jobs_in(Progress.RUNNING)
    waiting = dispatch.jobs_in(Progress.WAITING, Progress.UNKNOWN)
    if dispatch.kill in {Kill.CANCELED, Kill.DRAINED}:
        return Verdict(None, [waiting])
    if len(running) == 1:
        return Verdict(running[0], [waiting])
    claimed = dispatch.jobs_in(Progress.WAITING)
    if not running and claimed:  # one of the inputs may have done it, as it was read
        return Verdict(claimed[0], []) if len(dispatch.ids) == 1 else Verdict(None, [[job_id] for job_id in waiting])
    return Verdict(None, [*([job_id] for job_id in running), waiting])


def sentence(job: ClaimedJob, *, over_time: bool, raised: str | None = None, models: Mapping[str, ModelSpec] = {}) -> Ending | Return:
    """What a job that brought its process down alone comes to.

    Args:
        job: as the worker still holds it.
        over_time: whether the process was killed because this job ran over its time; else it died by itself.
        raised: what the process raised, if it did not die at all.
        models: all that there are, for a job that may go on with another one.
    """
    if raised is not None:
        return failed(job, Failure.of(ModelError(raised)), models=models)
    if over_time:
        return failed(job, Failure.of(RunTimeout(f"the attempt ran longer than {job.timeout_s:g} s")), models=models)
    if job.crashes + 1 >= MAX_CRASHES:
        return Ending(id=job.id, fence=job.fence, status=Status.FAILED, failure=Failure.of(WorkerLost()), crashed=True)
    delay_s = backoff_s(job.crashes + 1, random.random())  # noqa: S311 - spreads retries, guards nothing
    failure = Failure(WorkerLost.code, "The process that ran the job died.", retryable=True)
    return Return(id=job.id, fence=job.fence, outcome=Outcome.LOST, failure=failure, delay_s=delay_s, crashed=True, solo=True)


class Clerk(threading.Thread):
    """Writes sentences to the database, in a thread of its own so that the event loop never waits for it.

    What it cannot write in a minute is left to the reaper: the leases end, since nobody renews them any more.
    """

    def __init__(self, engine: Engine, runs: RunCounter, *, models: Mapping[str, ModelSpec] = {}) -> None:
        super().__init__(name="clerk", daemon=True)
        self._models = models
        self._engine = engine
        self._runs = runs
        self._desk: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def run(self) -> None:
        """Works until stopped."""
        while (task := self._desk.get()) is not None:
            try:
                task()
            except (DatabaseAway, LockedRow) as error:
                log.warning("a dead child's job is left to the reaper", error=str(error))
            except Exception:  # one case must not close the desk
                log.exception("a sentence failed; the job is left to the reaper")

    def sentence(self, dispatch: Dispatch, culprit: UUID) -> None:
        """Hands in a case."""
        over_time, raised = dispatch.kill is Kill.OVER_TIME, dispatch.raised
        self._desk.put(lambda: self._sentence(dispatch.owner, dispatch.model, culprit, over_time=over_time, raised=raised))

    def stop(self) -> None:
        """Finishes what is on the desk and ends the thread."""
        self._desk.put(None)
        self.join(5.0)

    def _sentence(self, owner: str, model: str, culprit: UUID, *, over_time: bool, raised: str | None) -> None:
        held = patiently(self._engine, lambda connection: held_jobs(connection, ids=[culprit], owner=owner))
        if held:
            outcomes = [sentence(job, over_time=over_time, raised=raised, models=self._models) for job in held]
            write_outcomes(self._engine, outcomes)
            self._runs.count(model, [(job.counts_for, outcome) for job, outcome in zip(held, outcomes, strict=True)])
