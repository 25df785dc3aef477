"""``text.sentiment`` by each of its models."""

import math

import pytest

from tests.conformance.harness import Loaded

TASK = "text.sentiment"  # every model of this task is tested


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("I love this, it is wonderful!", "positive"),
        ("Great service and friendly staff.", "positive"),
        ("The best holiday we ever had :)", "positive"),
        ("Terrible. It broke after a day and support was rude.", "negative"),
        ("I hate waiting and the food was awful.", "negative"),
        ("This is the worst purchase of my life.", "negative"),
        ("The parcel has three parts.", "neutral"),
        ("The meeting is on Tuesday at ten.", "neutral"),
    ],
)
def test_clear_text_gets_its_label(loaded: Loaded, text: str, label: str) -> None:
    output = loaded.one({"text": text}).output.model_dump()
    assert output["label"] == label
    assert output["score"] == max(output["scores"].values())
    assert set(output["scores"]) == {"positive", "neutral", "negative"}
    assert math.isclose(sum(output["scores"].values()), 1.0, abs_tol=1e-9)


def test_long_text_is_judged_whole(loaded: Loaded) -> None:
    assert loaded.one({"text": "The parcel has three parts. " * 100 + "Awful, terrible, horrible! " * 300}).output.model_dump()["label"] == "negative"
