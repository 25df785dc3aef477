"""How good a model is, as far as is known: the catalogue's figure, corrected by what tenants said of its outputs."""

from collections.abc import Iterable

UNKNOWN = 0.5  # a model that nobody has judged stands in the middle
PRIOR_SCORES = 20  # the catalogue's figure counts as much as so many scores: ten bad ones move 0.9 to 0.6, two move it to 0.82
MOST_OF_A_TENANT = 50  # however many scores one tenant gives, they count as so many: its mean counts, not its diligence


def assumed(quality: float | None) -> float:
    """What a quality counts for where models are compared, 0 to 1."""
    return UNKNOWN if quality is None else quality


def blended(prior: float | None, scores: Iterable[tuple[int, float]]) -> float:
    """The Bayesian mean of a prior and scores, 0 to 1.

    Args:
        prior: the catalogue's figure, 0 to 1; None where it has none.
        scores: of each tenant, how many it gave (1 or more) and their sum.
    """
    weight, total = float(PRIOR_SCORES), PRIOR_SCORES * assumed(prior)
    for count, score_sum in scores:
        counted = min(count, MOST_OF_A_TENANT)
        weight += counted
        total += counted * score_sum / count
    return total / weight
