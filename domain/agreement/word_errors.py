"""Transcripts: how many words must be changed, dropped or put in to make one of the other."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from domain.agreement.comparator import Comparator, Comparison, Embed, pairwise
from domain.agreement.texts import words

MOST_WORDS = 10_000  # of each text; an hour of speech has about 9,000


def edits(left: Sequence[str], right: Sequence[str]) -> int:
    """The edit distance between two sequences, by Myers's bit vectors: a column of the table is two integers, a bit a row."""
    if not left:
        return len(right)
    where: defaultdict[str, int] = defaultdict(int)
    for place, item in enumerate(left):
        where[item] |= 1 << place
    full, last = (1 << len(left)) - 1, 1 << len(left) - 1
    rises, falls, distance = full, 0, len(left)
    for item in right:
        equal = where.get(item, 0)
        diagonal = equal | falls
        horizontal = (((equal & rises) + rises) ^ rises) | equal
        up, down = falls | (full & ~(horizontal | rises)), rises & horizontal
        distance += bool(up & last) - bool(down & last)
        up, down = (up << 1 | 1) & full, (down << 1) & full
        rises, falls = down | (full & ~(diagonal | up)), up & diagonal
    return distance


class WordErrors(Comparator):
    """1 less the word error rate, measured against the longer of the two so that neither counts as the truth.

    Args:
        text: reads the text of an output; its first 10,000 words are compared.
    """

    def __init__(self, text: Callable[[Any], str]) -> None:
        self._text = text

    def compare(self, asked: Any, answers: Sequence[Any], *, embed: Embed | None = None) -> Comparison:  # noqa: ARG002 - words are compared, not meaning
        """1 - edits / words."""
        return Comparison("word_error_rate", pairwise([words(self._text(answer))[:MOST_WORDS] for answer in answers], _agreement))


def _agreement(left: Sequence[str], right: Sequence[str]) -> float:
    longer = max(len(left), len(right))
    return 1 - edits(left, right) / longer if longer else 1.0
