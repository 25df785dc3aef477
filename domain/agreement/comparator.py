"""What a comparator is: it says of every two answers how far they agree, from 0 (not at all) to 1 (in everything it looks at).

A task type names its own as ``COMPARATOR`` in its contract module. Comparators are pure; the one thing they may be lent is a way to embed texts.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Embed = Callable[[Sequence[str]], Sequence[Sequence[float]] | None]
"""Turns texts into vectors of length 1, in their order; None where it cannot."""

Matrix = list[list[float]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far each answer agrees with each.

    Attributes:
        method: by which measure, in a word or two.
        matrix: 0 to 1, in the order of the answers; symmetrical, 1 on the diagonal.
    """

    method: str
    matrix: Matrix


class Comparator(ABC):
    """Compares answers of one task type; knows nothing of models, votes or bars."""

    @abstractmethod
    def compare(self, asked: Any, answers: Sequence[Any], *, embed: Embed | None = None) -> Comparison:
        """Compares answers.

        Args:
            asked: the job's input, an instance of the task's Input.
            answers: instances of its Output, one a model.
            embed: for measures that read meaning; without it they read words.
        """

    def refusal(self, asked: Any) -> str | None:  # noqa: ARG002 - most can compare whatever was asked
        """Why answers to this input cannot be compared; None if they can. Asked before any model runs."""
        return None


def pairwise(values: Sequence[T], agreement: Callable[[T, T], float]) -> Matrix:
    """The matrix of a symmetrical measure, each pair measured once."""
    matrix = [[1.0] * len(values) for _ in values]
    for row, left in enumerate(values):
        for column in range(row):
            matrix[row][column] = matrix[column][row] = min(1.0, max(0.0, agreement(left, values[column])))
    return matrix
