"""Says whether a text sounds positive, neutral or negative."""

from typing import Literal

from domain.agreement.labels import LabelVote
from domain.contracts import Contract, Example, Probability, Text

Label = Literal["positive", "neutral", "negative"]


class Input(Contract):
    """One text."""

    text: Text


class Output(Contract):
    """The likeliest label, its score, and the scores of all three; they sum to 1."""

    label: Label
    score: Probability
    scores: dict[Label, Probability]


EXAMPLES = (
    Example("A happy customer", {"text": "The new mill is wonderful, and the staff could not be kinder."}),
    Example("An unhappy one", {"text": "It broke after a day. Terrible, never again."}),
)

COMPARATOR = LabelVote(lambda output: output.label)


def confidence(output: Output) -> float:
    """The score of the likeliest label."""
    return output.score
