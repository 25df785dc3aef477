"""Embeddings: each model has a space of its own, so what is compared is how each relates the texts to each other.

The cosine between vectors of two models says nothing, even where their dimensions are equal, unless one is a variant of the other. The cosines
*within* each model's answer can be compared whatever the dimensions: models that see the same likenesses correlate. A cosine across models counts
where it says more, so that two builds of one model agree in everything.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from math import fsum, sqrt
from typing import Any

from domain.agreement.comparator import Comparator, Comparison, Embed, pairwise
from domain.agreement.texts import cosine

LEAST_TEXTS = 3  # two texts have one likeness, and one number correlates with nothing
MOST_TEXTS = 64  # of which all pairs are compared: 2,016
_FLAT = 1e-6  # likenesses that differ by less do not differ

Vectors = Sequence[Sequence[float]]


class SimilarityStructure(Comparator):
    """The correlation of the texts' likenesses to each other, as each model sees them.

    Args:
        vectors: reads the vectors of an output, one a text.
        texts: counts the texts of an input.
    """

    def __init__(self, vectors: Callable[[Any], Vectors], *, texts: Callable[[Any], int]) -> None:
        self._vectors = vectors
        self._texts = texts

    def compare(self, asked: Any, answers: Sequence[Any], *, embed: Embed | None = None) -> Comparison:  # noqa: ARG002 - these are embeddings already
        """Pearson's correlation of the likenesses; below 0 counts as 0, as does an answer without a vector for each text, all of one dimension."""
        given = [self._vectors(answer) for answer in answers]
        whole = [_one_a_text(vectors, self._texts(asked)) for vectors in given]
        compared = [vectors[:MOST_TEXTS] for vectors in given]
        likenesses = [_likenesses(vectors) if is_whole else [] for vectors, is_whole in zip(compared, whole, strict=True)]

        def agreement(left: int, right: int) -> float:
            if not (whole[left] and whole[right]):
                return 0.0
            structure = _correlation(likenesses[left], likenesses[right])
            return max(structure, _mean_cosine(compared[left], compared[right]))

        return Comparison("similarity_structure", pairwise(range(len(answers)), agreement))

    def refusal(self, asked: Any) -> str | None:
        """Fewer than three texts have no structure."""
        return (
            None if self._texts(asked) >= LEAST_TEXTS else f"models that embed are compared by how they relate texts to each other: give {LEAST_TEXTS} or more"
        )


def _one_a_text(vectors: Vectors, texts: int) -> bool:
    dimensions = {len(vector) for vector in vectors}
    return len(vectors) == texts and len(dimensions) == 1 and 0 not in dimensions


def _mean_cosine(left: Vectors, right: Vectors) -> float:
    """The mean cosine of both answers' vectors of the same text; 0 where the dimensions differ."""
    if len(left[0]) != len(right[0]):
        return 0.0
    return fsum(cosine(a, b) for a, b in zip(left, right, strict=True)) / len(left)


def _likenesses(vectors: Vectors) -> list[float]:
    return [cosine(left, right) for left, right in combinations(vectors, 2)]


def _correlation(left: Sequence[float], right: Sequence[float]) -> float:
    left, right = _centred(left), _centred(right)
    spreads = sqrt(fsum(a * a for a in left)), sqrt(fsum(b * b for b in right))
    if min(spreads) < _FLAT:
        return float(max(spreads) < _FLAT)  # both see no differences, or one alone does
    return fsum(a * b for a, b in zip(left, right, strict=True)) / (spreads[0] * spreads[1])


def _centred(values: Sequence[float]) -> list[float]:
    mean = fsum(values) / len(values)
    return [value - mean for value in values]
