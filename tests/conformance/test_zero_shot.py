"""``text.zero_shot`` by each of its models. The texts are in the public domain."""

import math

import pytest

from tests.conformance.harness import Loaded

TASK = "text.zero_shot"  # every model of this task is tested

SUBJECTS = ["politics", "cooking", "astronomy", "sailing", "geometry", "marriage"]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (  # Declaration of Independence, 1776
            "When in the Course of human events, it becomes necessary for one people to dissolve the political bands which have connected them with another",
            "politics",
        ),
        (  # Melville, Moby-Dick, 1851
            "Call me Ishmael. Having nothing particular to interest me on shore, I thought I would sail about a little and see the watery part of the world.",
            "sailing",
        ),
        ("A point is that which has no part. A line is breadthless length.", "geometry"),  # Euclid, Elements
        ("It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.", "marriage"),  # Austen, 1813
        ("Men and women of full age have the right to marry and to found a family.", "marriage"),  # Universal Declaration of Human Rights, article 16
    ],
)
def test_text_gets_the_label_of_its_subject(loaded: Loaded, text: str, label: str) -> None:
    output = loaded.one({"text": text, "labels": SUBJECTS}).output.model_dump()
    assert output["label"] == label
    assert list(output["scores"]) == SUBJECTS
    assert output["scores"][label] == max(output["scores"].values())
    assert math.isclose(sum(output["scores"].values()), 1.0, abs_tol=1e-9)


def test_scores_do_not_depend_on_the_order_of_labels(loaded: Loaded) -> None:
    text = "Everyone has the right to education."
    scores, backwards = (loaded.one({"text": text, "labels": labels}).output.model_dump()["scores"] for labels in (SUBJECTS, SUBJECTS[::-1]))
    assert all(math.isclose(scores[label], backwards[label], abs_tol=1e-3) for label in SUBJECTS)


def test_jobs_with_other_labels_in_one_batch_keep_their_own(loaded: Loaded) -> None:
    jobs = [["sailing", "cooking"], SUBJECTS, ["a\u202eb", "\u200b", "水車", "\U0001f642"]]
    results = loaded.results([{"text": "The whale ship left the harbour.", "labels": labels} for labels in jobs])
    assert [list(result.output.model_dump()["scores"]) for result in results if not isinstance(result, Exception)] == jobs


def test_as_many_labels_as_the_contract_takes_are_served(loaded: Loaded) -> None:
    labels = [f"the number {number}" for number in range(199)]
    assert loaded.one({"text": "The whale ship left the harbour.", "labels": [*labels, "ships"]}).output.model_dump()["label"] == "ships"
