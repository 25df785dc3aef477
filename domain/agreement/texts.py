"""Texts that say the same in other words: by the cosine of their embeddings, or by the words that they share where nothing can embed."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from math import fsum
from typing import Any

from domain.agreement.comparator import Comparator, Comparison, Embed, pairwise

_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")  # written without spaces: each character counts as a word


def words(text: str) -> list[str]:
    """Words as they sound: compatible forms, case and punctuation make no difference."""
    found: list[str] = []
    folded = unicodedata.normalize("NFKC", text).casefold()
    for kind, characters in groupby(folded, _kind):
        if kind == "word":
            found.append("".join(characters))
        elif kind == "alone":
            found += characters
    return found


def _kind(character: str) -> str:
    if character.isascii():
        return "word" if character.isalnum() else "gap"
    if unicodedata.category(character)[0] not in "LMN":
        return "gap"
    return "alone" if unicodedata.name(character, "").startswith(_UNSPACED) else "word"


def token_f1(left: Sequence[str], right: Sequence[str]) -> float:
    """The harmonic mean of which part of each one's words the other has; 1 for two empty texts."""
    if not left and not right:
        return 1.0
    return 2 * (Counter(left) & Counter(right)).total() / (len(left) + len(right))


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    """The cosine of the angle between two vectors of length 1."""
    return fsum(a * b for a, b in zip(left, right, strict=True))


class TextSimilarity(Comparator):
    """By meaning where texts can be embedded, else by shared words; equal words agree in everything either way.

    The embedding reads the beginning of a long text (256 tokens of MiniLM) and knows English best; it is blind to a changed number or a small "not",
    so a high bar on it says "on the same thing in much the same way", not "with the same facts".

    Args:
        text: reads the text of an output.
    """

    def __init__(self, text: Callable[[Any], str]) -> None:
        self._text = text

    def compare(self, asked: Any, answers: Sequence[Any], *, embed: Embed | None = None) -> Comparison:  # noqa: ARG002 - the question does not matter
        """Cosine, or token F1."""
        texts = [self._text(answer) for answer in answers]
        tokens = [words(text) for text in texts]
        vectors = embed(texts) if embed is not None and all(tokens) else None
        if vectors is None:
            return Comparison("token_f1", pairwise(tokens, token_f1))

        def agreement(left: int, right: int) -> float:
            return 1.0 if tokens[left] == tokens[right] else cosine(vectors[left], vectors[right])

        return Comparison("embedding_cosine", pairwise(range(len(texts)), agreement))
