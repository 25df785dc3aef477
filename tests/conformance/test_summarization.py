"""``text.summarization`` by each of its models, on plots of films."""

from pathlib import Path

import pytest

from tests.conformance.harness import Loaded
from tests.fixtures.samples import of_films
from workers.sentences import sentences

TASK = "text.summarization"  # every model of this task is tested

STRANGE = 3  # sentences of other films' plots, put in between


def _plots(store_dir: Path) -> list[list[str]]:
    """Plots of films in sentences, of those that have enough of them."""
    plots = [[str(sentence) for sentence in sentences(plot)] for plot in of_films(store_dir, "plot")]
    return [plot for plot in plots if len(plot) >= 6 and all(len(sentence) > 40 for sentence in plot)]


def _summary(loaded: Loaded, text: str, most: int) -> str:
    summary: str = loaded.one({"text": text, "max_sentences": most}).output.model_dump()["summary"]
    return summary


@pytest.mark.parametrize("most", [1, 2, 4])
def test_summary_is_of_the_texts_own_sentences_and_no_longer_than_asked(loaded: Loaded, store_dir: Path, most: int) -> None:
    plot = _plots(store_dir)[0]
    summary = _summary(loaded, " ".join(plot), most)
    assert summary == " ".join(sentence for sentence in plot if sentence in summary)
    assert 1 <= sum(sentence in summary for sentence in plot) <= most


def test_summary_is_about_the_text_and_not_about_what_strayed_into_it(loaded: Loaded, store_dir: Path) -> None:
    plots = _plots(store_dir)[:13]
    own = chosen = 0
    for place, plot in enumerate(plots[:10]):
        strange = [plots[place + other][1] for other in range(1, STRANGE + 1)]
        mixed = [plot[0], strange[0], *plot[1:3], strange[1], *plot[3:], strange[2]]
        summary = _summary(loaded, " ".join(mixed), 3)
        chosen += sum(sentence in summary for sentence in mixed)
        own += sum(sentence in summary for sentence in plot)
    assert chosen == 30
    assert own >= 27, "measured: 30 of 30 by each; 22 by chance"


def test_text_that_is_short_already_stays(loaded: Loaded) -> None:
    text = "Mr. Darcy danced only once with Mrs. Hurst.  He declined\nto be introduced to any other lady."
    assert _summary(loaded, text, 2) == "Mr. Darcy danced only once with Mrs. Hurst. He declined\nto be introduced to any other lady."


@pytest.mark.parametrize("text", ["a. " * 30_000, "x" * 100_000, "\u200b\u202e\U0001f642" * 33_000, "\n\n x" * 20_000, "…?!。" * 25_000], ids=str.__len__)
def test_hostile_text_gets_a_summary_or_an_error_of_its_own(loaded: Loaded, text: str) -> None:
    (result,) = loaded.results([{"text": text, "max_sentences": 2}])
    if not isinstance(result, Exception):
        assert 1 <= len(result.output.model_dump()["summary"]) <= 2_001
