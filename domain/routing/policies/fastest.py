"""The shortest expected time to a result."""

from collections.abc import Sequence

from domain.routing.policy import Candidate, Score

MOST_ERRORS = 0.95  # past that a model that always fails would be infinitely slow


def scores(candidates: Sequence[Candidate]) -> list[Score]:
    """Milliseconds: the backlog and a run, stretched by how often runs fail.

    A model of which no run is known is given the benefit of the doubt: the shortest run that is known of any, before its own backlog. So it
    is tried as soon as a known one has something waiting, and known from then on.
    """
    shortest_ms = min((candidate.facts.latency_ms for candidate in candidates if candidate.facts.latency_ms is not None), default=0.0)
    return [_score(candidate, shortest_ms) for candidate in candidates]


def _score(candidate: Candidate, shortest_ms: float) -> Score:
    facts = candidate.facts
    expected_ms = candidate.expected_ms
    known = expected_ms is not None
    if expected_ms is None:
        expected_ms = shortest_ms * (1.0 + facts.queued_per_worker / candidate.batch_size)
    why = f"expected in {expected_ms:.3g} ms" if known else "no run of it is known yet"
    if facts.error_rate > 0:
        why += f", {facts.error_rate:.0%} of its runs fail"
    return Score(expected_ms / (1.0 - min(MOST_ERRORS, facts.error_rate)), why)
