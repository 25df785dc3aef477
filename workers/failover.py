"""What a failed run comes to: the next model's queue, another attempt of the same model, or the job's end."""

import random
from collections.abc import Mapping
from decimal import Decimal

import orjson

from broker.publisher import Published
from domain import retry
from domain.catalogue import ModelSpec, QueueName
from domain.failures import CostLimit, Failure
from domain.job import Outcome, Priority, Status
from domain.routing.failover import Plan, next_models
from models.queries.claim import ClaimedJob
from models.queries.finish import Ending, Return


def failed(
    job: ClaimedJob,
    failure: Failure,
    *,
    models: Mapping[str, ModelSpec] = {},
    cost_usd: Decimal | None = None,
    retry_after_s: float | None = None,
) -> Ending | Return:
    """What a run that failed for the job's own reason, or its model's, comes to.

    A job whose model was chosen goes on with the next one at once, whoever asked to be left alone; where nobody is left, or what the job may cost
    leaves no room, the ordinary rules hold. Every failed run counts against ``max_attempts``, whichever model it was of.

    Args:
        job: as it was claimed.
        failure: why.
        models: all that there are now.
        cost_usd: what this run has cost, as far as it is known.
        retry_after_s: how long whoever failed us asked to be left alone.
    """
    failures = job.failures + 1
    again = retry.decide(failure, failures=failures, max_attempts=job.max_attempts, dice=random.random(), retry_after_s=retry_after_s)  # noqa: S311
    if job.routing_json is not None and failures < job.max_attempts:
        plan = plan_of(job.routing_json, job.failovers_json, spent_usd=(job.cost_usd or Decimal(0)) + (cost_usd or Decimal(0)))
        rooms = {name: model.room for name, model in models.items()}
        others = next_models(plan, failed=job.model, code=failure.code, rooms=rooms)
        for name in others:
            if plan.affords(name):
                return Return(job.id, job.fence, Outcome.FAILED, failure, failure_counts=True, model=name, pool=models[name].pool)
        if (others or again) and not (again and plan.affords(job.model)):
            failure = Failure.of(CostLimit(f"Another attempt may cost more than max_cost_usd leaves. The last one: {failure.code}: {failure.message}"))
            again = None
    if again is None:
        return Ending(id=job.id, fence=job.fence, status=Status.FAILED, failure=failure, failure_counts=True, may_be_child=job.parent_id is not None)
    return Return(id=job.id, fence=job.fence, outcome=Outcome.FAILED, failure=failure, delay_s=again.delay_s, failure_counts=True)


def moved_to(job: ClaimedJob, outcome: Ending | Return) -> Published | None:
    """What the next model's workers are to be told of a job that goes to it now, so that it need not wait for the relay.

    One that must run alone needs a message of its own kind, which the relay makes.
    """
    if not isinstance(outcome, Return) or outcome.model is None or outcome.pool is None or outcome.delay_s != 0.0 or job.solo:
        return None
    return Published(QueueName(outcome.pool, Priority(job.priority)), outcome.model, job.id, job.fence + 1)


def plan_of(routing_json: str, failovers_json: str | None, *, spent_usd: Decimal) -> Plan:
    """What is left of a job's decision, from what is stored of it."""
    return Plan.of(orjson.loads(routing_json), failovers=orjson.loads(failovers_json) if failovers_json else (), spent_usd=spent_usd)
