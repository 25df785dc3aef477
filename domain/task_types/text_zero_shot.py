"""Says which of your own labels fits a text best, without any training."""

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from domain.agreement.labels import LabelVote
from domain.contracts import Contract, Example, Probability, Text

MAX_LABELS = 200
Label = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"\S")]


class Input(Contract):
    """One text, and 2 to 200 labels, all different: a word or a few each."""

    text: Text
    labels: Annotated[list[Label], Field(min_length=2, max_length=MAX_LABELS)]

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        if len({label.strip() for label in self.labels}) < len(self.labels):
            raise ValueError("labels must differ from one another")
        return self


class Output(Contract):
    """The label that fits best, and the score of each; they sum to 1 and compare the labels, so one of them always wins."""

    label: str
    scores: dict[str, Probability]


EXAMPLES = (
    Example(
        "What a complaint is about",
        {"text": "The parcel came a week late and the box was torn.", "labels": ["delivery", "payment", "product quality", "opening hours"]},
    ),
    Example("The subject of a headline", {"text": "Central bank leaves interest rates unchanged.", "labels": ["sports", "economy", "weather"]}),
)


def count_items(value: Input) -> int:
    """Texts and labels."""
    return 1 + len(value.labels)


COMPARATOR = LabelVote(lambda output: output.label)


def confidence(output: Output) -> float:
    """The score of the label that fits best."""
    return max(output.scores.values())
