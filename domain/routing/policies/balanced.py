"""Cost, time, quality and errors together, each measured against the best of the candidates."""

from collections.abc import Sequence

from domain.routing.policy import Candidate, Score

MARGIN = 0.1  # by so much another model must be better than the default one: a hair's breadth is noise, and would send jobs to and fro
ERROR_WEIGHT = 2.0  # a failed run costs its time and the money of another


def scores(candidates: Sequence[Candidate]) -> list[Score]:
    """What each is worse by than the best one in each respect: 0 to 1 for cost, time and quality, 0 to 2 for errors.

    Half the speed of the fastest, or twice the price of the cheapest, is 0.5 worse. What is not known of a model counts as good. While nothing is
    known of how the default model does, it is the choice.
    """
    cheapest = min(float(candidate.cost_usd) for candidate in candidates)
    shortest_ms = min((ms for candidate in candidates if (ms := candidate.expected_ms) is not None), default=0.0)
    finest = max((candidate.quality for candidate in candidates if candidate.quality is not None), default=0.0)
    return [_score(candidate, cheapest, shortest_ms, finest) for candidate in candidates]


def _score(candidate: Candidate, cheapest: float, shortest_ms: float, finest: float) -> Score:
    facts = candidate.facts
    if candidate.default and facts.cold:
        return Score(-MARGIN, "the task's default model, and nothing is known of its runs yet")
    expected_ms = candidate.expected_ms
    cost = _worse(float(candidate.cost_usd), cheapest)
    time = 0.0 if expected_ms is None else _worse(expected_ms, shortest_ms)
    quality = 0.0 if candidate.quality is None else finest - candidate.quality
    value = cost + time + quality + ERROR_WEIGHT * facts.error_rate - (MARGIN if candidate.default else 0.0)
    parts = {"cost": cost, "time": time, "quality": quality, "errors": ERROR_WEIGHT * facts.error_rate}
    said = ", ".join(f"{name} {part:.2f}" for name, part in parts.items() if part > 0)
    why = f"behind the best by {said}" if said else "behind nobody"
    return Score(value, f"{why}; {MARGIN:g} ahead as the task's default model" if candidate.default else why)


def _worse(value: float, best: float) -> float:
    """0 for the best, towards 1 for what is many times as much."""
    return 0.0 if value <= best else 1.0 - best / value
