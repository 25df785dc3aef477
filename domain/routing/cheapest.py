"""The lowest estimated cost."""

from collections.abc import Sequence

from domain.routing.policy import Candidate, Score


def scores(candidates: Sequence[Candidate]) -> list[Score]:
    """Dollars."""
    return [Score(float(candidate.cost_usd), f"estimated at ${candidate.cost_usd:f}") for candidate in candidates]
