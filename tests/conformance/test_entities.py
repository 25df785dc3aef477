"""``text.entities`` by each of its models, on plots of films, which name their actors in brackets, and on sentences that spaCy's authors show it with."""

import re
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from spacy.lang.en.examples import sentences

from tests.conformance.harness import Loaded, make_backend
from tests.fixtures.samples import articles, of_films
from weights.store import model_files

TASK = "text.entities"  # every model of this task is tested


def _entities(loaded: Loaded, text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = loaded.one({"text": text}).output.model_dump()["entities"]
    for entity in found:
        assert text[entity["start"] : entity["end"]] == entity["text"]
    assert all(left["end"] <= right["start"] for left, right in pairwise(found))
    return found


def test_actors_of_films_are_persons(loaded: Loaded, store_dir: Path) -> None:
    told = found = 0
    for plot in of_films(store_dir, "plot"):
        if actors := re.findall(r"\(([A-Z][a-z]+ (?:[A-Z]\. )?[A-Z][a-z]+)\)", plot):
            persons = {entity["text"] for entity in _entities(loaded, plot) if entity["type"] == "PERSON"}
            told, found = told + len(actors), found + sum(actor in persons for actor in actors)
    assert told == 79
    assert found >= 68, "measured: 72 of 79; Britney Spears and Sandra Bullock are among the others"


def test_names_in_a_sentence_are_found_by_their_types(loaded: Loaded) -> None:
    found = {(entity["text"].removeprefix("the "), entity["type"]) for text in sentences for entity in _entities(loaded, text)}
    assert found == {
        *(("Apple", "ORG"), ("U.K.", "GPE"), ("$1 billion", "MONEY"), ("San Francisco", "GPE"), ("London", "GPE")),
        *(("United Kingdom", "GPE"), ("France", "GPE"), ("United States", "GPE"), ("Barack Obama", "PERSON")),
    }


def test_text_that_names_nobody_and_no_place_has_no_such_entities(loaded: Loaded, store_dir: Path) -> None:
    found = {entity["type"] for text in articles(store_dir, "en") for entity in _entities(loaded, text)}
    assert found <= {"TIME"}  # the working hours of article 24


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
