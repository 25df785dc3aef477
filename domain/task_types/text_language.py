"""Tells which language a text is written in."""

from typing import Annotated

from pydantic import Field

from domain.agreement.labels import LabelVote
from domain.contracts import Contract, Example, Probability, Text

MAX_CANDIDATES = 5


class Input(Contract):
    """One text."""

    text: Text


class Candidate(Contract):
    """One language that the text may be in."""

    language: str
    confidence: Probability


class Output(Contract):
    """The likeliest language (ISO 639-1 where it has such a code, else 639-3) and up to five candidates, the likeliest first."""

    language: str
    confidence: Probability
    candidates: Annotated[list[Candidate], Field(min_length=1, max_length=MAX_CANDIDATES)]


EXAMPLES = (
    Example("French", {"text": "Le moulin tourne grâce à l'eau de l'étang."}),
    Example("Japanese", {"text": "水車は静かに回っています。"}),
)

COMPARATOR = LabelVote(lambda output: output.language)


def confidence(output: Output) -> float:
    """Of the likeliest language."""
    return output.confidence
