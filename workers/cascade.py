"""What becomes of an answer in a cascade: it stands, or the next model is asked."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson

from domain.catalogue import ModelSpec
from domain.contracts import TaskContract
from domain.failures import InvalidOutput
from domain.job import Outcome
from domain.routing.cascade import LOW_CONFIDENCE, Cascade
from domain.routing.policy import usd
from models.queries.claim import ClaimedJob
from models.queries.finish import Ending, Return
from workers.failover import plan_of


def escalated(job: ClaimedJob, ending: Ending, output: Any, *, contract: TaskContract, models: Mapping[str, ModelSpec]) -> Return | None:
    """The way up, for an answer that is not sure enough; None where it stands: it is, nobody is above, or the money does not last.

    Spends none of the job's attempts.

    Args:
        job: as it was claimed.
        ending: what it would end with.
        output: the answer.
        contract: of the job's task.
        models: all that there are now.
    """
    if job.routing_json is None or contract.confidence is None:
        return None
    cascade = Cascade.of(orjson.loads(job.routing_json))
    if cascade is None or (confidence := contract.confidence(output)) >= cascade.min_confidence:
        return None
    return _way_up(job, ending, models, code=LOW_CONFIDENCE, confidence=round(confidence, 6))


def escalated_for_its_shape(job: ClaimedJob, failed: Ending | Return, *, models: Mapping[str, ModelSpec]) -> Return | None:
    """The way up, for an answer that does not keep the contract or the schema that was asked for; None where nobody is above.

    Args:
        job: as it was claimed.
        failed: what the run would come to outside a cascade.
        models: all that there are now.
    """
    if job.routing_json is None or failed.failure is None or failed.failure.code != InvalidOutput.code:
        return None
    return _way_up(job, failed, models, code=failed.failure.code, confidence=None)


def _way_up(job: ClaimedJob, outcome: Ending | Return, models: Mapping[str, ModelSpec], *, code: str, confidence: float | None) -> Return | None:
    cascade = Cascade.of(orjson.loads(job.routing_json or "{}"))
    if cascade is None:
        return None
    spent_usd = (job.cost_usd or Decimal(0)) + (outcome.cost_usd or Decimal(0))
    above = cascade.next_up(plan_of(job.routing_json or "", job.failovers_json, spent_usd=spent_usd), now_on=job.model, known=models)
    if above is None:
        return None
    note = {"code": code, "confidence": confidence, "cost_usd": None if outcome.cost_usd is None else usd(outcome.cost_usd)}
    return Return(
        id=job.id,
        fence=job.fence,
        outcome=Outcome.ESCALATED,
        failure=outcome.failure,
        input_tokens=outcome.input_tokens,
        output_tokens=outcome.output_tokens,
        cost_usd=outcome.cost_usd,
        model=above,
        pool=models[above].pool,
        note_json=orjson.dumps(note).decode(),
    )
