"""Cascades: the cheap model first, and the next one only where its answer is not sure enough of itself."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from domain.routing.failover import Plan

LOW_CONFIDENCE = "low_confidence"  # the code of a move up


@dataclass(frozen=True, slots=True)
class Cascade:
    """What a job's request says of it.

    Attributes:
        models: from the first to be asked to the last.
        min_confidence: an answer as sure as that stands.
    """

    models: tuple[str, ...]
    min_confidence: float

    @classmethod
    def of(cls, routing: Mapping[str, Any]) -> "Cascade | None":
        """Reads what is stored with a decision; None for a job that is no cascade."""
        stored = routing.get("cascade")
        return None if stored is None else cls(tuple(stored["models"]), stored["min_confidence"])

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"models": list(self.models), "min_confidence": self.min_confidence}

    def next_up(self, plan: Plan, *, now_on: str, known: Collection[str]) -> str | None:
        """Who is asked after an answer that is not sure enough; None where it has to do.

        Args:
            plan: what is left of the job's decision, this run paid for.
            now_on: who gave the answer.
            known: the models that there are now.
        """
        above = self.models[self.models.index(now_on) + 1 :] if now_on in self.models else ()
        left = plan.left(now_on=now_on)
        return next((model for model in above if model in left and model in known and plan.affords(model)), None)
