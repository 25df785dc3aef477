"""Vectors of texts, and the little arithmetic that backends need of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.usage import Usage

Vectors = NDArray[np.float32]
"""One vector a row."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """One job's texts as vectors of unit length, and the tokens that were read for them."""

    vectors: Vectors
    usage: Usage


def unit(vectors: Vectors) -> Vectors:
    """The same directions, each of length 1; a zero vector stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled


def softmax(values: Vectors) -> list[float]:
    """Numbers above 0 in the order of the values, which sum to 1."""
    powers = np.exp(values.astype(np.float64) - values.max())
    shares: list[float] = (powers / powers.sum()).tolist()
    return shares
