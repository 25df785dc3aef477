"""Spans of a text with a type each, such as entities: which of them both answers have."""

from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any

from domain.agreement.comparator import Comparator, Comparison, Embed, pairwise


class SpanMatch(Comparator):
    """F1: the harmonic mean of which part of each one's spans the other has; a span counts if start, end and type are the same.

    Args:
        spans: reads the spans of an output, as (start, end, type).
    """

    def __init__(self, spans: Callable[[Any], Collection[Hashable]]) -> None:
        self._spans = spans

    def compare(self, asked: Any, answers: Sequence[Any], *, embed: Embed | None = None) -> Comparison:  # noqa: ARG002 - spans need neither
        """F1; 1 where neither found anything."""
        return Comparison("span_f1", pairwise([frozenset(self._spans(answer)) for answer in answers], _f1))


def _f1(left: frozenset[Hashable], right: frozenset[Hashable]) -> float:
    return 2 * len(left & right) / (len(left) + len(right)) if left or right else 1.0
