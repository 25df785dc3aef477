"""``text.translation`` by each of its models. The texts are articles of the Universal Declaration of Human Rights, and others in the public domain."""

import pytest

from domain.failures import ContextTooLong, UnsupportedLanguage
from tests.conformance.harness import Heard, Loaded
from workers.backends.base import Inference

TASK = "text.translation"  # every model of this task is tested


def _translation(loaded: Loaded, text: str, source: str = "en", target: str = "pt", heard: Heard | None = None) -> str:
    translated: str = loaded.one({"text": text, "source": source, "target": target}, heard=heard).output.model_dump()["text"]
    return translated


@pytest.mark.parametrize(
    ("text", "source", "target", "words"),
    [
        ("Everyone has the right to education.", "en", "pt", {"direito", "educação"}),
        ("No one shall be held in slavery or servitude.", "en", "pt-BR", {"ninguém", "escravidão"}),
        ("The children were playing happily in the garden.", "EN-us", "pt", {"crianças", "no", "jardim"}),
        ("Todo ser humano tem direito à vida, à liberdade e à segurança pessoal.", "pt", "en", {"right", "life", "liberty", "security"}),
        ("Onde fica a estação de trem?", "pt-br", "en", {"where", "train", "station"}),
    ],
)
def test_sentence_is_translated(loaded: Loaded, text: str, source: str, target: str, words: set[str]) -> None:
    assert words <= set(_translation(loaded, text, source, target).lower().strip(".?").replace(",", "").split())


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
