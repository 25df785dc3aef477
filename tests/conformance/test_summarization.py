"""``text.summarization`` by each of its models. The texts are in the public domain."""

import pytest

from tests.conformance.harness import Loaded
from workers.sentences import sentences

TASK = "text.summarization"  # every model of this task is tested

GETTYSBURG = (  # Lincoln, 1863
    "Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in Liberty, and dedicated to the proposition "
    "that all men are created equal. Now we are engaged in a great civil war, testing whether that nation, or any nation so conceived and so dedicated, "
    "can long endure. We are met on a great battle-field of that war. We have come to dedicate a portion of that field, as a final resting place for "
    "those who here gave their lives that that nation might live. It is altogether fitting and proper that we should do this. But, in a larger sense, "
    "we can not dedicate, we can not consecrate, we can not hallow this ground. The brave men, living and dead, who struggled here, have consecrated it, "
    "far above our poor power to add or detract. The world will little note, nor long remember what we say here, but it can never forget what they did "
    "here. It is for us the living, rather, to be dedicated here to the unfinished work which they who fought here have thus far so nobly advanced."
)


def _summary(loaded: Loaded, text: str, most: int) -> str:
    summary: str = loaded.one({"text": text, "max_sentences": most}).output.model_dump()["summary"]
    return summary


@pytest.mark.parametrize("most", [1, 2, 4])
def test_summary_is_about_the_text_and_no_longer_than_asked(loaded: Loaded, most: int) -> None:
    summary = _summary(loaded, GETTYSBURG, most)
    assert 1 <= len(sentences(summary)) <= most
    assert len(summary) < len(GETTYSBURG) * 0.8
    assert any(word in summary.lower() for word in ("dedicate", "nation", "war", "consecrate"))


def test_text_that_is_short_already_stays(loaded: Loaded) -> None:
    text = "Mr. Darcy danced only once with Mrs. Hurst.  He declined\nto be introduced to any other lady."
    assert _summary(loaded, text, 2) == "Mr. Darcy danced only once with Mrs. Hurst. He declined\nto be introduced to any other lady."


@pytest.mark.parametrize("text", ["a. " * 30_000, "x" * 100_000, "\u200b\u202e\U0001f642" * 33_000, "\n\n x" * 20_000, "…?!。" * 25_000], ids=str.__len__)
def test_hostile_text_gets_a_summary_or_an_error_of_its_own(loaded: Loaded, text: str) -> None:
    (result,) = loaded.results([{"text": text, "max_sentences": 2}])
    if not isinstance(result, Exception):
        assert 1 <= len(result.output.model_dump()["summary"]) <= 2_001
