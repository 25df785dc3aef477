"""``text.sentiment`` by each of its models, on what critics said of films, and whether it was praise or blame by their own word."""

import math
from pathlib import Path
from typing import Literal

import pytest
from spacy.lang.en.examples import sentences  # facts and questions that spaCy's authors wrote to show it

from tests.conformance.harness import Loaded
from tests.fixtures.samples import of_films
from workers.backends.base import Inference

TASK = "text.sentiment"  # every model of this task is tested
REVIEWS = 60  # of each kind, evenly over all films


def test_praise_is_more_positive_than_blame(loaded: Loaded, store_dir: Path) -> None:
    tones = []
    for told in (of_films(store_dir, "fresh"), of_films(store_dir, "rotten")):
        results = loaded.results([{"text": text} for text in told[:: len(told) // REVIEWS][:REVIEWS]])
        scores = [result.output.model_dump()["scores"] for result in results if isinstance(result, Inference)]
        tones.append([score["positive"] - score["negative"] for score in scores])
    pairs = [(praise > blame) + (praise == blame) / 2 for praise in tones[0] for blame in tones[1]]
    assert len(pairs) == REVIEWS**2
    assert sum(pairs) / len(pairs) > 0.65, "measured: 0.69 by vader, 0.75 by minilm-l6-tone; 0.5 by chance"


def test_half_of_plain_facts_and_questions_or_more_are_neutral(loaded: Loaded) -> None:
    labels = [loaded.one({"text": text}).output.model_dump()["label"] for text in sentences]
    assert labels.count("neutral") >= len(sentences) / 2, "measured: 5 of 8 by each"


@pytest.mark.parametrize(
    ("kind", "place", "label"),
    [
        ("fresh", 6, "positive"),
        ("fresh", 21, "positive"),
        ("fresh", 29, "positive"),
        ("rotten", 1, "negative"),
        ("rotten", 7, "negative"),
        ("rotten", 19, "negative"),
    ],
)
def test_sentence_that_nobody_would_doubt_gets_its_label(loaded: Loaded, store_dir: Path, kind: Literal["fresh", "rotten"], place: int, label: str) -> None:
    output = loaded.one({"text": of_films(store_dir, kind)[place]}).output.model_dump()
    assert output["label"] == label
    assert output["score"] == max(output["scores"].values())
    assert set(output["scores"]) == {"positive", "neutral", "negative"}
    assert math.isclose(sum(output["scores"].values()), 1.0, abs_tol=1e-9)


def test_long_text_is_judged_whole(loaded: Loaded) -> None:
    assert loaded.one({"text": "The parcel has three parts. " * 100 + "Awful, terrible, horrible! " * 300}).output.model_dump()["label"] == "negative"
