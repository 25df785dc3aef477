"""The decision: which model a job gets, why, and which ones come after it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256
from typing import Any

from domain.routing.policy import Candidate, Policy, Score, usd


@dataclass(frozen=True, slots=True)
class Wish:
    """What a job's request says of its route.

    Attributes:
        model: pinned: no other one, but for the fallbacks that are named.
        policy: None leaves it to the task, and to its weights.
        fallbacks: all other models that may stand in, none, or these in this order.
        max_cost_usd: for all attempts together.
    """

    model: str | None = None
    policy: str | None = None
    fallbacks: bool | Sequence[str] = True
    max_cost_usd: Decimal | None = None


class OverLimit(Exception):
    """No model that may be taken is estimated within ``max_cost_usd``.

    Attributes:
        cheapest_usd: the lowest estimate.
    """

    def __init__(self, cheapest_usd: Decimal) -> None:
        super().__init__(f"the cheapest is estimated at ${usd(cheapest_usd)}")
        self.cheapest_usd = cheapest_usd


@dataclass(frozen=True, slots=True)
class Decision:
    """What was chosen and why.

    Attributes:
        policy: whose order the candidates have; None where the request names the models itself, or the job keeps to one.
        model: the one that is tried first.
        reasons: why that one, in plain words.
        candidates: all that could have it, the first choice of the policy first, each with its score.
        fallbacks: which ones come after it, in this order.
        excluded: why others could not.
    """

    wish: Wish
    policy: str | None
    model: str
    reasons: Sequence[str]
    candidates: Sequence[tuple[Candidate, Score]]
    fallbacks: Sequence[str]
    excluded: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it; money is a decimal string."""
        limit = self.wish.max_cost_usd
        return {
            "policy": self.policy,
            "model": self.model,
            "reasons": list(self.reasons),
            "fallbacks": list(self.fallbacks),
            "candidates": [
                {"model": candidate.model, "score": round(score.value, 6), "estimated_cost_usd": usd(candidate.cost_usd), "why": score.why}
                for candidate, score in self.candidates
            ],
            "excluded": [{"model": model, "why": why} for model, why in self.excluded.items()],
            "requested": {
                "model": self.wish.model,
                "policy": self.wish.policy,
                "fallbacks": self.wish.fallbacks if isinstance(self.wish.fallbacks, bool) else list(self.wish.fallbacks),
                "max_cost_usd": None if limit is None else usd(limit),
            },
        }


def decide(
    candidates: Sequence[Candidate],
    *,
    wish: Wish,
    policy: str,
    scores: Policy,
    weights: Mapping[str, int] = {},
    key: bytes = b"",
    excluded: Mapping[str, str] = {},
    kept: str | None = None,
    interchangeable: bool = True,
) -> Decision:
    """Chooses. The same arguments give the same decision, in whatever order the candidates come.

    First go those that are too dear. A model whose breaker is open is left out where another one is there, unless the request names it; one
    whose pool has no ready worker comes after those that have. Then the policy's order holds, and the default model wins ties. Weights move one
    model to the front, if the request names no policy.

    A model that the job keeps to is chosen however it is doing, as a pinned one is.

    Args:
        candidates: at least one; every model of the task that is installed.
        wish: the request's; ``model``, if it is given, is among the candidates.
        policy: name of the policy, the request's or the task's.
        scores: its function.
        weights: of the task's canaries: each model's share of the jobs.
        key: what a job has in common with those that shall go to the same model.
        excluded: models that are no candidates, and why.
        kept: one of the candidates, which the job keeps to since its task's models do not compare (``kept_model``); None where it need not.
        interchangeable: whether models may stand in for one another that the request does not list.

    Raises:
        OverLimit: ``max_cost_usd`` leaves none.
    """
    fixed = wish.model or kept
    listed = () if isinstance(wish.fallbacks, bool) else tuple(wish.fallbacks)
    if fixed:
        candidates = [candidate for candidate in candidates if candidate.model == fixed or candidate.model in listed]
    fitting, why_not = _fitting(candidates, wish, {fixed, *listed} if fixed else set(listed))
    if not fitting or (fixed and fixed not in {candidate.model for candidate in fitting}):
        raise OverLimit(min(candidate.cost_usd for candidate in candidates if not fixed or candidate.model == fixed))
    ranked = _ranked(fitting, scores)
    order = [candidate.model for candidate, _ in ranked]
    if fixed:
        model, reasons = fixed, ["the request pins it" if wish.model else "what models of this task give does not compare, so jobs keep to this one"]
    else:
        model, reasons = order[0], _reasons(policy, ranked)
        steady = _steady(fitting, weights) if wish.policy is None else {}
        if steady:
            model = weighted_choice(steady, key)
            reasons = [f"{model} takes {steady[model]} of {sum(steady.values())} parts of the task's jobs, by a hash of tenant and key"]
    after = listed if wish.fallbacks is not True else () if fixed or not interchangeable else order
    fallbacks = [name for name in after if name in order and name != model]
    return Decision(wish, None if fixed else policy, model, reasons, ranked, fallbacks, {**excluded, **why_not})


def kept_model(default_model: str, weights: Mapping[str, int], key: bytes) -> str:
    """The one that a job keeps to where models are not interchangeable: the default model, or what the weights give to its key, however both are doing.

    Args:
        default_model: the task's.
        weights: of the task's canaries, 0 or more each.
        key: what jobs have in common whose results are to compare.
    """
    shares = {name: weight for name, weight in weights.items() if weight > 0}
    return weighted_choice(shares, key) if shares else default_model


def weighted_choice(weights: Mapping[str, int], key: bytes) -> str:
    """The same name for the same key, and each name for its share of all keys: weighted rendezvous hashing.

    A name that is taken away gives its own keys to the others and moves no other key.

    Args:
        weights: positive whole numbers, at least one.
        key: any bytes.
    """

    def cost(name: str) -> float:
        number = int.from_bytes(sha256(key + b"\0" + name.encode()).digest()[:8])
        return -math.log((number + 1) / (2**64 + 1)) / weights[name]

    return min(sorted(weights), key=cost)


def _fitting(candidates: Sequence[Candidate], wish: Wish, named: set[str]) -> tuple[list[Candidate], dict[str, str]]:
    """Those that may be taken, and why the others may not."""
    limit, why_not = wish.max_cost_usd, dict[str, str]()
    affordable = []
    for candidate in candidates:
        if limit is not None and candidate.cost_usd > limit:
            why_not[candidate.model] = f"estimated at ${usd(candidate.cost_usd)}, over max_cost_usd"
        else:
            affordable.append(candidate)
    if all(candidate.facts.breaker_open for candidate in affordable):
        return affordable, why_not
    why_not |= {each.model: "its breaker is open: it failed too often lately" for each in affordable if each.facts.breaker_open and each.model not in named}
    return [each for each in affordable if each.model not in why_not], why_not


def _ranked(candidates: Sequence[Candidate], scores: Policy) -> list[tuple[Candidate, Score]]:
    candidates = sorted(candidates, key=lambda candidate: candidate.model)
    pairs = list(zip(candidates, scores(candidates), strict=True))
    some_ready = any(candidate.facts.workers for candidate in candidates)

    def place(pair: tuple[Candidate, Score]) -> tuple[bool, bool, float, bool, str]:
        candidate, score = pair
        return candidate.facts.breaker_open, some_ready and not candidate.facts.workers, score.value, not candidate.default, candidate.model

    return sorted(pairs, key=place)


def _reasons(policy: str, ranked: Sequence[tuple[Candidate, Score]]) -> list[str]:
    (first, score), *others = ranked
    reasons = [f"{policy}: {first.model}, {score.why}"]
    if others:
        reasons.append(f"next is {others[0][0].model}, {others[0][1].why}")
        if others[0][1].value == score.value and first.default:
            reasons.append("equal scores: the task's default model is taken")
    if first.facts.breaker_open:
        reasons.append("its breaker is open, but so is every other one")
    if first.facts.workers:
        idle = [candidate.model for candidate, _ in others if not candidate.facts.workers]
        reasons += [f"no worker of {model} is ready, so it comes after those that have one" for model in idle]
    return reasons


def _steady(fitting: Sequence[Candidate], weights: Mapping[str, int]) -> dict[str, int]:
    """The weights of those that could begin now; empty where the task has no weights."""
    closed = [candidate for candidate in fitting if not candidate.facts.breaker_open] or fitting
    ready = [candidate for candidate in closed if candidate.facts.workers] or closed
    return {candidate.model: weight for candidate in ready if (weight := weights.get(candidate.model, 0)) > 0}
