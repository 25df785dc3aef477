"""Translates a text from one language into another."""

from typing import Annotated

from pydantic import StringConstraints

from domain.agreement.texts import TextSimilarity
from domain.contracts import Contract, Example, Text

LanguageCode = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=35)]
"""A language tag (BCP 47), such as `en`, `pt` or `pt-BR`; upper and lower case are the same."""


_CHARS_PER_SENTENCE = 80


class Input(Contract):
    """One text, the language it is in, and the one wanted. Which pairs a model has is in its description."""

    text: Text
    source: LanguageCode
    target: LanguageCode


class Output(Contract):
    """The translation."""

    text: str


EXAMPLES = (
    Example("English to Portuguese", {"text": "The mill stands by the river.", "source": "en", "target": "pt"}),
    Example("Portuguese to English", {"text": "Onde fica a estação de trem?", "source": "pt", "target": "en"}),
)


def count_items(value: Input) -> int:
    """Sentences, guessed from the length."""
    return 1 + len(value.text) // _CHARS_PER_SENTENCE


COMPARATOR = TextSimilarity(lambda output: output.text)
