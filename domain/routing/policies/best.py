"""The highest quality."""

from collections.abc import Sequence

from domain.routing.policy import Candidate, Score

UNKNOWN = 0.5  # a model that nobody has judged stands in the middle


def scores(candidates: Sequence[Candidate]) -> list[Score]:
    """What is missing to a quality of 1."""
    return [Score(1.0 - (UNKNOWN if candidate.quality is None else candidate.quality), _why(candidate.quality)) for candidate in candidates]


def _why(quality: float | None) -> str:
    return f"quality unknown, taken as {UNKNOWN:g}" if quality is None else f"quality {quality:.3g}"
