"""Labels: two answers agree if they say the same one, so that agreement with an answer is its share of the votes."""

from collections.abc import Callable, Sequence
from typing import Any

from domain.agreement.comparator import Comparator, Comparison, Embed, pairwise


class LabelVote(Comparator):
    """Each model has one vote; scores do not weigh it, since models calibrate them differently.

    Args:
        label: reads the label of an output.
    """

    def __init__(self, label: Callable[[Any], str]) -> None:
        self._label = label

    def compare(self, asked: Any, answers: Sequence[Any], *, embed: Embed | None = None) -> Comparison:  # noqa: ARG002 - labels need neither
        """1 for the same label, 0 for another."""
        return Comparison("label_vote", pairwise([self._label(answer) for answer in answers], lambda left, right: float(left == right)))
