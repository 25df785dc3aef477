"""``text.translation`` by each of its models, on articles of the Universal Declaration of Human Rights."""

from pathlib import Path

import pytest

from domain.failures import ContextTooLong, UnsupportedLanguage
from tests.conformance.harness import Heard, Loaded
from tests.fixtures.samples import articles
from workers.backends.base import Inference

TASK = "text.translation"  # every model of this task is tested


def _translation(loaded: Loaded, text: str, source: str = "en", target: str = "pt", heard: Heard | None = None) -> str:
    translated: str = loaded.one({"text": text, "source": source, "target": target}, heard=heard).output.model_dump()["text"]
    return translated


# Stems that whoever translates articles 4, 8, 9, 10, 12, 18, 19 and 24 can hardly do without.
STEMS = (
    ("ninguém", "escrav", "servid", "proibid"),
    ("direito", "tribuna", "constitui", "lei"),
    ("ninguém", "arbitr", "exílio"),
    ("igualdade", "tribunal", "independente", "imparcial", "crim"),
    ("família", "correspondência", "honra", "proteção"),
    ("liberdade", "pensamento", "consciência", "religião"),
    ("liberdade", "opinião", "expressão", "fronteiras"),
    ("direito", "lazer", "limitação", "trabalho"),
)


@pytest.mark.parametrize("place", range(len(STEMS)))
def test_english_article_is_translated(loaded: Loaded, store_dir: Path, place: int) -> None:
    translated = _translation(loaded, articles(store_dir, "en")[place], target="pt-BR" if place % 2 else "pt").lower()
    assert [stem for stem in STEMS[place] if stem not in translated] == []


def test_portuguese_article_is_translated(loaded: Loaded, store_dir: Path) -> None:
    (first,) = articles(store_dir, "pt")
    translated = _translation(loaded, first, "pt-br", "EN-us")
    words = set(translated.lower().replace(".", "").replace(",", "").split())
    assert {"human", "born", "free", "equal", "dignity", "rights", "reason", "conscience", "brotherhood"} <= words


def test_white_space_and_what_holds_no_word_stay(loaded: Loaded) -> None:
    heard = Heard()
    text = "  Where is the train station?\n\n\t42 + 1 = 43.\n\nThe mill stands by the river. \U0001f642 "
    translated = _translation(loaded, text, heard=heard)
    first, second, third = translated.split("\n\n")
    assert first.startswith("  Onde")
    assert second == "\t42 + 1 = 43."
    assert third.endswith(" \U0001f642 ")
    assert [done for _, done, _ in heard.progress] == [1, 2, 3][: len(heard.progress)]
    assert heard.progress


@pytest.mark.parametrize(("source", "target"), [("en", "de"), ("xx", "pt"), ("en", "en"), ("pt", "pt-BR"), ("en", "pt-PT"), ("zh-Hans", "en")])
def test_pair_that_the_model_has_not_fails_alone(loaded: Loaded, source: str, target: str) -> None:
    good = {"text": "The mill.", "source": "en", "target": "pt"}
    results = loaded.results([good, {**good, "source": source, "target": target}, good])
    assert [isinstance(result, Inference) for result in results] == [True, False, True]
    assert isinstance(results[1], UnsupportedLanguage)
    assert source in results[1].message


@pytest.mark.parametrize("text", ["x" * 20_000, "\u200b\u202e\U0001f642" * 6_000, "!?" * 9_000, "https://example.com/" + "a" * 2_000])
def test_what_holds_no_sentence_comes_back_as_it_is(loaded: Loaded, text: str) -> None:
    assert _translation(loaded, text) == text


def test_text_over_the_limit_is_refused(loaded: Loaded) -> None:
    assert isinstance(loaded.refused({"text": "The mill. " * 2_001, "source": "en", "target": "pt"}), ContextTooLong)
