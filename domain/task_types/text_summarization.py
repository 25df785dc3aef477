"""Makes a long text short."""

from typing import Annotated

from pydantic import Field

from domain.agreement.texts import TextSimilarity
from domain.contracts import Contract, Example, Text

_CHARS_PER_SENTENCE = 80


class Input(Contract):
    """One text, and how many sentences may be left of it."""

    text: Text
    max_sentences: Annotated[int, Field(ge=1, le=50, description="The summary has no more sentences than this.")] = 3


class Output(Contract):
    """The summary; the text itself if it is no longer than that."""

    summary: str


_WATER_MILLS = (
    "A watermill uses the power of running water to do work. "
    "The water of a stream is led to a wheel and turns it, and gears carry the motion to the stones. "
    "Streams, however, do not run evenly. "
    "A dam across the stream therefore makes a mill pond, which holds the water back while the mill stands still. "
    "In the morning the miller opens the sluice and the wheel turns as evenly as he likes, whatever the weather was. "
    "Some mill ponds are used for fishing today."
)

EXAMPLES = (Example("Two sentences out of six", {"text": _WATER_MILLS, "max_sentences": 2}),)


def count_items(value: Input) -> int:
    """Sentences, guessed from the length."""
    return 1 + len(value.text) // _CHARS_PER_SENTENCE


COMPARATOR = TextSimilarity(lambda output: output.summary)
