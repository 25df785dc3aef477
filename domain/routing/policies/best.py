"""The highest quality."""

from collections.abc import Sequence

from domain.quality import UNKNOWN, assumed
from domain.routing.policy import Candidate, Score


def scores(candidates: Sequence[Candidate]) -> list[Score]:
    """What is missing to a quality of 1."""
    return [Score(1.0 - assumed(candidate.quality), _why(candidate.quality)) for candidate in candidates]


def _why(quality: float | None) -> str:
    return f"quality unknown, taken as {UNKNOWN:g}" if quality is None else f"quality {quality:.3g}"
