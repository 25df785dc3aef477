"""What a policy is: an order of the models that could do a job, with a word on each."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from domain.routing.facts import COLD, ModelFacts

# Further ones are named by the catalogue's [policies].
BUILT_IN: Mapping[str, str] = {name: f"domain.routing.policies.{name}" for name in ("balanced", "cheapest", "fastest", "best")}
DEFAULT_POLICY = "balanced"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that could do a job.

    Attributes:
        cost_usd: what a run of this job would cost, estimated; 0 or more.
        quality: 0 to 1; None where nobody has said.
        default: whether it is the task's default model.
        batch_size: jobs that one run of it takes at most, 1 or more.
        facts: how it is doing.
    """

    model: str
    cost_usd: Decimal
    quality: float | None = None
    default: bool = False
    batch_size: int = 1
    facts: ModelFacts = COLD

    @property
    def expected_ms(self) -> float | None:
        """From now to the end of a run: its own and those that wait before it, as the pool's backlog stands; None while no run is known."""
        if self.facts.latency_ms is None:
            return None
        return self.facts.latency_ms * (1.0 + self.facts.queued_per_worker / self.batch_size)


@dataclass(frozen=True, slots=True)
class Score:
    """What a policy thinks of a candidate.

    Attributes:
        value: finite; the lowest is chosen. Comparable within one decision alone.
        why: in plain words, for whoever reads the decision.
    """

    value: float
    why: str


def usd(amount: Decimal) -> str:
    """Dollars as decisions show them: no exponent, no zeros at the end."""
    return f"{amount.normalize():f}"


Policy = Callable[[Sequence[Candidate]], Sequence[Score]]
"""Scores candidates, one score each, in their order; there is at least one. Equal scores are settled for the default model, then by name."""


def load_policy(dotted: str) -> Policy:
    """The ``scores`` function of a policy's module.

    Raises:
        ImportError: there is no such module.
        AttributeError: it has no such function.
    """
    scores: Policy = importlib.import_module(dotted).scores
    return scores
