"""``text.entities`` by each of its models: quotations from the public domain, their source beside them, and sentences of our own."""

import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.harness import Loaded, make_backend
from weights.store import model_files

TASK = "text.entities"  # every model of this task is tested


def _entities(loaded: Loaded, text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = loaded.one({"text": text}).output.model_dump()["entities"]
    for entity in found:
        assert text[entity["start"] : entity["end"]] == entity["text"]
    assert all(left["end"] <= right["start"] for left, right in pairwise(found))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (  # Stoker, Dracula, 1897
            "Left Munich at 8:35 P.M., on 1st May, arriving at Vienna early next morning; should have arrived at 6:46, but train was an hour late.",
            {("Vienna", "GPE")},
        ),
        (  # Lincoln's biography of 1860, in his own words
            "I was born Feb. 12, 1809, in Hardin County, Kentucky. My parents were both born in Virginia.",
            {("Hardin County", "GPE"), ("Kentucky", "GPE"), ("Virginia", "GPE")},
        ),
        ("The Pickwick Papers and Oliver Twist were written by Charles Dickens in London.", {("Charles Dickens", "PERSON"), ("London", "GPE")}),
        ("Mr. Jarvis Lorry, a gentleman of sixty, travelled from London to Paris.", {("Jarvis Lorry", "PERSON"), ("London", "GPE"), ("Paris", "GPE")}),
    ],
)
def test_names_in_a_text_are_found(loaded: Loaded, text: str, expected: set[tuple[str, str]]) -> None:
    assert expected <= {(entity["text"], entity["type"]) for entity in _entities(loaded, text)}


def test_text_that_names_nothing_has_no_entities(loaded: Loaded) -> None:
    assert _entities(loaded, "Twas brillig, and the slithy toves did gyre and gimble in the wabe") == []


def test_offsets_count_characters_past_wide_and_combined_ones(loaded: Loaded) -> None:
    text = "\U0001f642\U0001f642 e\u0301\u0301 \u200b\n\n  Charles Dickens lived in London.\t\t\u202eHe went to Paris in 1846."
    assert {"Charles Dickens", "London", "Paris"} <= {entity["text"] for entity in _entities(loaded, text)}


def test_confidence_is_lower_where_the_model_is_torn(loaded: Loaded) -> None:
    sure = next(entity for entity in _entities(loaded, "Charles Dickens lived in London.") if entity["text"] == "London")
    torn = _entities(loaded, "Phileas Fogg bet twenty thousand pounds at the Reform Club.")
    assert sure["confidence"] > 0.95
    assert min(entity["confidence"] for entity in torn) < 0.9


@pytest.mark.parametrize("text", ["x" * 100_000, "\u200b\u202e\U0001f642" * 2_000, "(" * 5_000, "a. " * 5_000], ids=["word", "emoji", "brackets", "dots"])
def test_hostile_text_is_read_in_time(loaded: Loaded, text: str) -> None:
    started = time.monotonic()
    _entities(loaded, text)
    assert time.monotonic() - started < 20


def test_text_over_the_limit_is_read_from_its_beginning(loaded: Loaded, store_dir: Path) -> None:
    backend = make_backend(loaded.spec.backend)
    backend.load({"max_tokens": 64}, model_files(loaded.name, loaded.spec, store_dir))
    short = replace(loaded, backend=backend).one({"text": "Dickens lived in London. " * 400})
    assert 64 <= short.usage.input_tokens < 64 + 5 * 32  # tokens of a sentence, sentences of a step
