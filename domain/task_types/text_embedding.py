"""Turns texts into vectors of unit length, for search, clustering and similarity."""

from typing import Annotated

from pydantic import Field

from domain.agreement.vectors import SimilarityStructure
from domain.contracts import Contract, Example, Text


class Input(Contract):
    """1 to 256 texts."""

    texts: Annotated[list[Text], Field(min_length=1, max_length=256)]


class Output(Contract):
    """One vector a text, in the order of the input; each of length 1."""

    embeddings: Annotated[list[list[float]], Field(min_length=1)]
    dimensions: Annotated[int, Field(ge=1)]


EXAMPLES = (Example("Two short texts", {"texts": ["A mill pond holds water back.", "It feeds the wheel evenly."]}),)


def count_items(value: Input) -> int:
    """Texts."""
    return len(value.texts)


COMPARATOR = SimilarityStructure(lambda output: output.embeddings, texts=count_items)
