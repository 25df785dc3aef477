"""Speaks a text: the output is a sound file of yours."""

from typing import Annotated

from pydantic import Field, StringConstraints

from domain.contracts import Contract, Example

MAX_CHARS = 5_000  # about six minutes of speech


class Input(Contract):
    """What to say, and in which of the model's voices."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARS, pattern=r"\S")]
    voice: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        default=None, description="One that the model has (its description names them); its first if left out."
    )


class Audio(Contract):
    """A sound file, under `/v1/files` like one that you uploaded."""

    file_id: str
    content_type: str
    duration_s: Annotated[float, Field(ge=0.0)]


class Output(Contract):
    """The text, spoken."""

    audio: Audio


EXAMPLES = (Example("A sentence", {"text": "A mill pond holds water back, and feeds the wheel evenly."}),)
