"""What becomes of an answer in a cascade: it stands, or the next model is asked."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson

from domain.catalogue import ModelSpec
from domain.contracts import TaskContract
from domain.job import Outcome
from domain.routing.cascade import LOW_CONFIDENCE, Cascade
from domain.routing.policy import usd
from models.queries.claim import ClaimedJob
from models.queries.finish import Ending, Return
from workers.failover import plan_of


def escalated(job: ClaimedJob, ending: Ending, output: Any, *, contract: TaskContract, models: Mapping[str, ModelSpec]) -> Return | None:
    """The way up, for an answer that is not sure enough; None where it stands: it is, nobody is above, or the money does not last.

    Spends none of the job's attempts. An answer that does not keep the contract, or the schema that was asked for, is a failed run, which goes up too.

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
    plan = plan_of(job.routing_json, job.failovers_json, spent_usd=(job.cost_usd or Decimal(0)) + (ending.cost_usd or Decimal(0)))
    above = cascade.next_up(plan, now_on=job.model, known=models)
    if above is None:
        return None
    note = {"code": LOW_CONFIDENCE, "confidence": round(confidence, 6), "cost_usd": None if ending.cost_usd is None else usd(ending.cost_usd)}
    return Return(
        id=job.id,
        fence=job.fence,
        outcome=Outcome.ESCALATED,
        input_tokens=ending.input_tokens,
        output_tokens=ending.output_tokens,
        cost_usd=ending.cost_usd,
        model=above,
        pool=models[above].pool,
        note_json=orjson.dumps(note).decode(),
    )
