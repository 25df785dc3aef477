"""The next model of a job whose model failed: whose fault a failure is, who is left, and whether the money lasts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

BREAKER_OPEN = "breaker_open"  # the code of a move without a try


class Fault(StrEnum):
    """What a failed attempt says of its model."""

    PROVIDER = "provider"  # it is out of order: another model, and the breaker counts it
    MODEL = "model"  # it went wrong on this input: another model may not; an input alone can bring that about, so the breaker does not count it
    LIMIT = "limit"  # the input is beyond what it does, and it said so: another model may do it, and nothing is held against this one
    JOB = "job"  # any model would say the same, or nobody but the platform is to blame


_FAULTS: Mapping[str, Fault] = {
    "provider_rate_limited": Fault.PROVIDER,
    "provider_unavailable": Fault.PROVIDER,
    "provider_bad_answer": Fault.PROVIDER,
    "provider_refused": Fault.PROVIDER,
    "model_error": Fault.MODEL,
    "invalid_output": Fault.MODEL,
    "out_of_memory": Fault.MODEL,
    "run_timeout": Fault.MODEL,
    "context_too_long": Fault.LIMIT,
    "audio_too_long": Fault.LIMIT,
    "unsupported_language": Fault.LIMIT,
    "unsupported_input": Fault.LIMIT,
}


# Of a failure that may be over by the next try; after the others the same model would say the same.
_PASSING = frozenset({"provider_rate_limited", "provider_unavailable", "provider_bad_answer", "model_error", "out_of_memory", "run_timeout"})


def fault_of(code: str) -> Fault:
    """Whose fault a failure's code says it is; what is not in the table is the job's."""
    return _FAULTS.get(code, Fault.JOB)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is left of a job's decision.

    Attributes:
        order: the models that it may have, the first choice first.
        estimates: what a run of each would cost.
        max_cost_usd: for all attempts together; None without a limit.
        spent_usd: what attempts have cost so far.
        failed: models that have failed this job.
        passing: those of them whose failure may be over by now.
    """

    order: Sequence[str]
    estimates: Mapping[str, Decimal] = field(default_factory=dict)
    max_cost_usd: Decimal | None = None
    spent_usd: Decimal = Decimal(0)
    failed: frozenset[str] = frozenset()
    passing: frozenset[str] = frozenset()

    @classmethod
    def of(cls, routing: Mapping[str, Any], *, failovers: Sequence[Mapping[str, Any]] = (), spent_usd: Decimal | None = None) -> "Plan":
        """Reads what ``Decision.as_dict`` wrote, and what has been noted since."""
        limit = routing["requested"]["max_cost_usd"]
        return cls(
            order=[routing["model"], *routing["fallbacks"]],
            estimates={each["model"]: Decimal(each["estimated_cost_usd"]) for each in routing["candidates"]},
            max_cost_usd=None if limit is None else Decimal(limit),
            spent_usd=spent_usd or Decimal(0),
            failed=frozenset(move["from"] for move in failovers if move["code"] != BREAKER_OPEN),
            passing=frozenset(move["from"] for move in failovers if move["code"] in _PASSING),
        )

    def affords(self, model: str) -> bool:
        """Whether another run, of this model, stays within the limit by all that is known."""
        return self.max_cost_usd is None or self.spent_usd + self.estimates.get(model, Decimal(0)) <= self.max_cost_usd

    def left(self, *, now_on: str) -> list[str]:
        """Models that have not failed this job yet, in order, but for the one that it has now."""
        return [model for model in self.order if model != now_on and model not in self.failed]

    def once_more(self, *, now_on: str) -> list[str]:
        """Models that have failed this job and may yet do it, in order: better than to wait for one that is out of order."""
        return [model for model in self.order if model != now_on and model in self.passing]


def next_models(plan: Plan, *, failed: str, code: str, rooms: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Who may take the next attempt after one that failed, in order; empty where nobody is left, or where the failure is not the model's.

    After an input that was too long those are passed over that are known to take no more than the one that refused it. Money is not asked (see
    ``Plan.affords``), so that a job which could go on but for its limit can say so.

    Args:
        plan: what is left of the decision.
        failed: the model that ran.
        code: why it failed.
        rooms: of all models that there are now, how much each takes (``ModelSpec.room``).
    """
    if fault_of(code) is Fault.JOB:
        return []
    least = rooms.get(failed, {}).get(code, 0.0)
    return [model for model in plan.left(now_on=failed) if model in rooms and rooms[model].get(code, math.inf) > least]
