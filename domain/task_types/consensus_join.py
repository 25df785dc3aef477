"""Joins the answers of several models to one input: whose stands, how far the others agree, and what a person said if one was asked."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from domain.contracts import Contract, Example, Probability

ModelName = Annotated[str, Field(min_length=1, max_length=63)]


class Answer(Contract):
    """What one model answered."""

    model: ModelName
    quality: Probability | None = None
    output: dict[str, JsonValue]


class Resolution(Contract):
    """What a person said, one of three: the answer of a model, an answer of their own, or that none is right and why."""

    accept: ModelName | None = None
    output: dict[str, JsonValue] | None = None
    reject: Annotated[str, Field(min_length=1, max_length=2_000)] | None = None

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        if sum(field is not None for field in (self.accept, self.output, self.reject)) != 1:
            raise ValueError("give one of accept, output and reject")
        return self


class Input(Contract):
    """What was asked, and what came back."""

    contract: Annotated[str, Field(description="Dotted path of the task type that was asked.")]
    asked: dict[str, JsonValue]
    answers: list[Answer]
    min_agreement: Probability
    on_disagreement: Literal["fail", "best", "review"]
    resolution: Resolution | None = None


class Dissent(Contract):
    """An answer that is not the one that was taken."""

    model: ModelName
    output: dict[str, JsonValue]
    agreement: Annotated[Probability, Field(description="With the answer that was taken; with the leading one where none was.")]


class Output(Contract):
    """The answer, if there is one, and everything that speaks for and against it."""

    decision: Literal["agreed", "best", "no_agreement", "review", "accepted", "replaced", "rejected"]
    output: dict[str, JsonValue] | None
    model: Annotated[ModelName | None, Field(description="Whose answer was taken.")]
    leader: Annotated[ModelName, Field(description="Whose answer most agree with.")]
    agreement: Annotated[Probability | None, Field(description="Of all answers with the leading one, on average; null where one model alone answered.")]
    method: Annotated[str, Field(description="By which measure answers were compared.")]
    answered: list[ModelName]
    matrix: Annotated[list[list[Probability]], Field(description="How far each answer agrees with each, in the order of `answered`.")]
    dissents: list[Dissent]


def _sentiment(model: str, label: str, quality: float) -> dict[str, Any]:
    scores = {name: 0.8 if name == label else 0.1 for name in ("positive", "neutral", "negative")}
    return {"model": model, "quality": quality, "output": {"label": label, "score": 0.8, "scores": scores}}


EXAMPLES = (
    Example(
        "Two of three agree",
        {
            "contract": "domain.task_types.text_sentiment",
            "asked": {"text": "The mill is wonderful."},
            "answers": [_sentiment("one", "positive", 0.7), _sentiment("two", "negative", 0.9), _sentiment("three", "positive", 0.6)],
            "min_agreement": 0.6,
            "on_disagreement": "fail",
        },
    ),
)


def count_items(value: Input) -> int:
    """Answers."""
    return len(value.answers)
