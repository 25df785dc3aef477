"""Entities out of labels of tokens."""

import numpy as np
import pytest

from workers.entities import entities_of

LABELS = ["O", "B-PER", "I-PER", "B-work-of-art", "I-work-of-art", "LOC"]
TEXT = "Ada King sees Millpond"
SPANS = [(0, 0), (0, 3), (4, 8), (9, 13), (14, 18), (18, 22), (0, 0)]


def scores(*said: str) -> np.ndarray:
    """One row a token, the special ones included; the label that is said has 0.8."""
    table = np.full((len(SPANS), len(LABELS)), 0.04)
    for row, label in enumerate(["O", *said, "O"]):
        table[row, LABELS.index(label)] = 0.8
    return table


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (["B-PER", "I-PER", "O", "LOC", "LOC"], [("Ada King", "PER"), ("Millpond", "LOC")]),
        (["B-PER", "B-PER", "O", "O", "O"], [("Ada", "PER"), ("King", "PER")]),
        (["I-PER", "I-PER", "I-PER", "O", "O"], [("Ada King sees", "PER")]),
        (["O", "O", "B-work-of-art", "I-work-of-art", "O"], [("sees Mill", "work-of-art")]),
        (["B-PER", "LOC", "O", "B-PER", "LOC"], [("Ada", "PER"), ("King", "LOC"), ("Millpond", "PER")]),
        (["O", "O", "O", "O", "O"], []),
    ],
)
def test_tokens_become_entities(said: list[str], expected: list[tuple[str, str]]) -> None:
    found = entities_of(TEXT, SPANS, scores(*said), LABELS)
    assert [(entity.text, entity.type) for entity in found] == expected
    assert all(TEXT[entity.start : entity.end] == entity.text and entity.confidence == pytest.approx(0.8) for entity in found)
