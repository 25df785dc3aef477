"""Entities out of labels of tokens, as B-, I- and O- schemes write them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Entity:
    """A stretch of a text.

    Attributes:
        start, end: places of characters, the end not included.
        confidence: the mean of its tokens' scores.
    """

    text: str
    type: str
    start: int
    end: int
    confidence: float

    def as_dict(self) -> dict[str, object]:
        """As contracts have it."""
        return {"text": self.text, "type": self.type, "start": self.start, "end": self.end, "confidence": self.confidence}


def entities_of(text: str, spans: Sequence[tuple[int, int]], scores: NDArray[Any], labels: Sequence[str]) -> list[Entity]:
    """The entities of a text, in its order.

    A token goes on with the entity before it if it has the same type, unless it says that another begins (``B-``); a token that follows without a
    gap is the rest of a word, and begins nothing.

    Args:
        text: the whole.
        spans: where each token stands; empty ones are special.
        scores: of each token and label, 0 to 1.
        labels: ``O``, or a type, with ``B-`` or ``I-`` before it or not.
    """
    found: list[tuple[str, int, int, list[float]]] = []
    open_type = ""
    for (start, end), row in zip(spans, scores, strict=True):
        if start == end:
            continue
        best = int(np.argmax(row))
        label = labels[best]
        if label == "O":
            open_type = ""
            continue
        kind = label[2:] if label[1:2] == "-" else label
        if open_type and (start == found[-1][2] or (kind == open_type and not label.startswith("B-"))):
            kind, first, _, confidences = found.pop()
            found.append((kind, first, end, [*confidences, float(row[best])]))
        else:
            found.append((kind, start, end, [float(row[best])]))
        open_type = kind
    return [Entity(text[start:end], kind, start, end, min(1.0, sum(scores) / len(scores))) for kind, start, end, scores in found]
