"""Finds the people, places, organizations, dates and other things that a text names."""

from typing import Annotated

from pydantic import Field

from domain.agreement.spans import SpanMatch
from domain.contracts import Contract, Example, Probability, Text

_CHARS_PER_SENTENCE = 80


class Input(Contract):
    """One text."""

    text: Text


class Entity(Contract):
    """One mention. `text` is `input.text[start:end]`, counted in characters (Unicode code points); `type` is one of the model's own."""

    text: str
    type: str
    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=1)]
    confidence: Probability


class Output(Contract):
    """Every mention, in the order of the text; they do not overlap."""

    entities: list[Entity]


EXAMPLES = (
    Example("A letter", {"text": "Ada Lovelace wrote to Charles Babbage from London on 12 August 1843."}),
    Example("A text that names nobody", {"text": "the wheel turns slowly"}),
)


def count_items(value: Input) -> int:
    """Sentences, guessed from the length."""
    return 1 + len(value.text) // _CHARS_PER_SENTENCE


COMPARATOR = SpanMatch(lambda output: [(entity.start, entity.end, entity.type) for entity in output.entities])
