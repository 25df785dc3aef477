"""The lowest estimated cost."""

from collections.abc import Sequence

from domain.routing.policy import Candidate, Score, usd


def scores(candidates: Sequence[Candidate]) -> list[Score]:
    """Dollars."""
    return [Score(float(candidate.cost_usd), f"estimated at ${usd(candidate.cost_usd)}") for candidate in candidates]
