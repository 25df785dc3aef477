"""A child's hand on the breakers: it notes how runs went, and finds out what may run where one is open."""

import random
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import structlog
from sqlalchemy import Engine

from broker.publisher import Published
from domain.catalogue import ModelSpec, QueueName
from domain.retry import backoff_s
from domain.routing.breaker import Breaker, State, after_answers, after_failures, probing
from domain.routing.failover import Fault, fault_of
from models.queries.breakers import all_breakers, change_breaker
from models.queries.divert import Diversion, WaitingJob, divert_jobs, lock_waiting
from models.transactions import DatabaseAway, LockedRow, statement, unit_of_work
from workers.failover import plan_of

log = structlog.get_logger(__name__)

MOST_WAIT_S = 60.0  # a breaker may close sooner than it said
SPREAD = 0.25  # of the wait, so that what waits for a model does not come all at once
AFTER_PROBE_S = 2.0


class Breakers:
    """What one child does with the breakers that all share.

    A model that works costs nothing here: it has no row, which the claim says along with the jobs.

    Args:
        engine: the database.
        models: all that there are, by name.
    """

    def __init__(self, engine: Engine, models: Mapping[str, ModelSpec]) -> None:
        self._engine = engine
        self._models = models
        self._doubted: set[str] = set()

    def note(self, model: str, codes: Sequence[str | None], *, doubted: bool) -> None:
        """Notes how runs of a model ended. A database that is away is not waited for: a breaker is there to help, not to be kept right.

        Args:
            model: whose.
            codes: of the failure of each run that failed, None for each that gave a result.
            doubted: whether something was remembered against the model when the jobs were claimed.
        """
        failures = [code for code in codes if code is not None and fault_of(code) is Fault.PROVIDER]
        if not failures and not doubted and model not in self._doubted:
            return
        answers = codes.count(None)

        def change(breaker: Breaker | None, now: datetime) -> Breaker | None:
            spec = self._models[model].breaker
            if failures:
                return after_failures(breaker, spec, count=len(failures), code=failures[-1], now=now, answers=answers)
            return None if breaker is None else after_answers(breaker, spec, count=answers, now=now)

        if not failures and not answers:
            return  # the inputs were at fault: nothing is known of the model, and a probe has time left
        try:
            with unit_of_work(self._engine) as connection:
                before = all_breakers(connection)[0].get(model)
                after, _ = change_breaker(connection, model=model, change=change)
        except (DatabaseAway, LockedRow) as error:
            log.warning("how runs went is not noted", model=model, error=str(error))
            return
        (self._doubted.discard if after is None else self._doubted.add)(model)
        _tell(model, before, after)

    def may_probe(self, model: str, *, probe_s: float) -> bool | None:
        """Whether one job may be run to see if the model works again; the caller then has the probe, and nobody else does.

        Args:
            model: whose breaker.
            probe_s: how long the probe may take.

        Returns:
            None where the breaker is closed, so that nothing stands in any job's way.
        """
        with statement(self._engine) as connection:
            breakers, now = all_breakers(connection)
        breaker = breakers.get(model)
        if breaker is None or breaker.state is State.CLOSED:
            return None
        if breaker.shut_until(now) is not None:
            return False
        ours = False

        def change(breaker: Breaker | None, now: datetime) -> Breaker | None:
            nonlocal ours
            ours = breaker is not None and breaker.state is not State.CLOSED and breaker.shut_until(now) is None
            return probing(breaker, probe_s=probe_s, now=now) if ours and breaker is not None else breaker

        with unit_of_work(self._engine) as connection:
            change_breaker(connection, model=model, change=change)
        return ours

    def give_probe_back(self, model: str) -> None:
        """Lets the next job be the probe; this child found none to run."""

        def change(breaker: Breaker | None, now: datetime) -> Breaker | None:
            return probing(breaker, probe_s=0.0, now=now) if breaker is not None and breaker.state is State.HALF_OPEN else breaker

        with unit_of_work(self._engine) as connection:
            change_breaker(connection, model=model, change=change)

    def divert(self, model: str, ids: Sequence[UUID], *, probe_s: float) -> list[Published]:
        """Sends queued jobs on to the next model that they may have, or lets them wait where they have none.

        None of them spends anything. Where every other model has failed the job, one that may be well again is asked once more, after the usual wait:
        each time that it fails counts. Who waits does so until the model may be probed again, or its deadline; if the breaker has closed meanwhile they
        are due at once, since the message that spoke of them is used up.

        Args:
            model: whose queue they are in.
            ids: those that are not queued, not due or another model's are left out.
            probe_s: how long a probe may take, as ``may_probe`` was told.

        Returns:
            What the next models' workers are to be told, so that these jobs need not wait for the relay.
        """
        with unit_of_work(self._engine) as connection:
            breakers, now = all_breakers(connection)
            shut = {name for name, breaker in breakers.items() if breaker.shut_until(now) is not None}
            jobs = lock_waiting(connection, ids=ids, model=model)
            wait_s = _wait_s(breakers.get(model), now, probe_s)
            diversions = [self._diversion(job, model, shut, wait_s) for job in jobs]
            diverted = divert_jobs(connection, diversions=diversions, model=model) if diversions else set()
        return [
            Published(QueueName(to.pool, job.priority), to.model, job.id, job.fence + 1)
            for job, to in zip(jobs, diversions, strict=True)
            if to.model is not None and to.pool is not None and not to.delay_s and job.id in diverted and not job.solo
        ]

    def _diversion(self, job: WaitingJob, model: str, shut: set[str], wait_s: float | None) -> Diversion:
        if wait_s is None:
            return Diversion(job.id, job.fence)
        if job.routing_json is not None:
            plan = plan_of(job.routing_json, job.failovers_json, spent_usd=job.cost_usd or Decimal(0))
            tried = plan.once_more(now_on=model)
            for name in (*plan.left(now_on=model), *tried):
                if name in self._models and name not in shut and plan.affords(name):
                    delay_s = backoff_s(max(1, job.failures), random.random()) if name in tried else 0.0  # noqa: S311
                    return Diversion(job.id, job.fence, name, self._models[name].pool, delay_s)
        return Diversion(job.id, job.fence, delay_s=wait_s * (1 + SPREAD * random.random()))  # noqa: S311 - spreads retries, guards nothing


def _wait_s(breaker: Breaker | None, now: datetime, probe_s: float) -> float | None:
    """Until the next probe; while one is under way, as long as it has been: a quick one holds up nobody, one that hangs is not waited for in a loop.

    None where the breaker is closed.
    """
    if breaker is None or breaker.state is State.CLOSED:
        return None
    left_s = 0.0 if breaker.probe_at is None else (breaker.probe_at - now).total_seconds()
    if breaker.state is State.HALF_OPEN and left_s > 0:
        left_s = probe_s - left_s
    return min(MOST_WAIT_S, max(AFTER_PROBE_S, left_s))


def _tell(model: str, before: Breaker | None, after: Breaker | None) -> None:
    was, now = (State.CLOSED if breaker is None else breaker.state for breaker in (before, after))
    if now is State.OPEN and was is not State.OPEN and after is not None:
        log.warning("a model's breaker opens", model=model, code=after.code, openings=after.openings, probe_at=str(after.probe_at))
    elif now is State.CLOSED and was is not State.CLOSED:
        log.info("a model's breaker closes", model=model)
