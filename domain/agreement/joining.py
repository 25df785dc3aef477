"""The rule by which answers become one: whose answer stands, how many stand behind it, and what happens if they are too few."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import fsum

from domain.agreement.comparator import Matrix
from domain.quality import assumed

LEAST_MODELS = 2
MOST_MODELS = 8


class OnDisagreement(StrEnum):
    """What becomes of a job whose models do not agree."""

    FAIL = "fail"
    BEST = "best"  # the answer of the model that is known to be the best
    REVIEW = "review"  # a person says


class Decision(StrEnum):
    """How a job's answer was found, or that none was."""

    AGREED = "agreed"
    BEST = "best"
    NO_AGREEMENT = "no_agreement"
    REVIEW = "review"  # nobody has said yet
    ACCEPTED = "accepted"  # a person took the answer of one model
    REPLACED = "replaced"  # a person gave another
    REJECTED = "rejected"  # a person took none


@dataclass(frozen=True, slots=True)
class Joined:
    """What a set of answers comes to.

    Attributes:
        agreement: the mean agreement of all answers with the leading one, its own included: for labels its share of the votes. None where one model
            alone answered, since nobody stands behind it.
        leader: index of the answer that most agree with; of two alike the one of the better model, then the first.
        chosen: index of the answer that is taken; None where none is.
    """

    decision: Decision
    agreement: float | None
    leader: int
    chosen: int | None


def join(matrix: Matrix, qualities: Sequence[float | None], *, min_agreement: float, on_disagreement: OnDisagreement) -> Joined:
    """Finds the answer.

    Args:
        matrix: how far each of the answers, one at least, agrees with each.
        qualities: how good the models are, 0 to 1, in the order of the answers; None where nobody has said.
        min_agreement: the bar, 0 to 1; reaching it is enough.
        on_disagreement: what to do below.
    """
    support = [fsum(row) / len(row) for row in matrix]
    places = range(len(matrix))
    leader = max(places, key=lambda place: (round(support[place], 9), assumed(qualities[place]), -place))
    agreement = support[leader] if len(matrix) >= LEAST_MODELS else None
    if agreement is not None and agreement >= min_agreement - 1e-9:
        return Joined(Decision.AGREED, agreement, leader, leader)
    if on_disagreement is OnDisagreement.BEST:
        best = max(places, key=lambda place: (assumed(qualities[place]), round(support[place], 9), -place))
        return Joined(Decision.BEST, agreement, leader, best)
    decision = Decision.REVIEW if on_disagreement is OnDisagreement.REVIEW else Decision.NO_AGREEMENT
    return Joined(decision, agreement, leader, None)
