"""Stretches of time, such as those in which somebody speaks: how much of the time both answers name."""

from collections.abc import Callable, Sequence
from typing import Any

from domain.agreement.comparator import Comparator, Comparison, Embed, pairwise

Stretches = Sequence[tuple[float, float]]


class TimeOverlap(Comparator):
    """Time that both name, of the time that either names.

    Args:
        stretches: reads the stretches of an output, as (start, end) in seconds; in order, none over another.
    """

    def __init__(self, stretches: Callable[[Any], Stretches]) -> None:
        self._stretches = stretches

    def compare(self, asked: Any, answers: Sequence[Any], *, embed: Embed | None = None) -> Comparison:  # noqa: ARG002 - times need neither
        """Intersection over union; 1 where neither names any."""
        return Comparison("time_overlap", pairwise([self._stretches(answer) for answer in answers], _overlap))


def _overlap(left: Stretches, right: Stretches) -> float:
    shared_s = 0.0
    here, there = 0, 0
    while here < len(left) and there < len(right):
        shared_s += max(0.0, min(left[here][1], right[there][1]) - max(left[here][0], right[there][0]))
        if left[here][1] < right[there][1]:
            here += 1
        else:
            there += 1
    either_s = sum(end - start for start, end in (*left, *right)) - shared_s
    return shared_s / either_s if either_s else 1.0
