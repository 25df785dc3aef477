"""Comparators: what each takes for agreement, and what holds of all of them."""

import json
import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.agreement.comparator import Comparator, pairwise
from domain.agreement.exact_json import ExactJson, JsonWhereAsked
from domain.agreement.labels import LabelVote
from domain.agreement.pair import agreement_of
from domain.agreement.spans import SpanMatch
from domain.agreement.stretches import TimeOverlap
from domain.agreement.texts import TextSimilarity, words
from domain.agreement.vectors import SimilarityStructure
from domain.agreement.word_errors import WordErrors, edits
from domain.contracts import load_contract

ASKED = SimpleNamespace()
TEXT = TextSimilarity(str)
ERRORS = WordErrors(str)
LABELS = LabelVote(str)
EXACT = ExactJson(lambda answer: answer)
SPANS = SpanMatch(lambda answer: [tuple(span) for span in answer])
TIMES = TimeOverlap(lambda answer: answer)
VECTORS = SimilarityStructure(lambda answer: answer, texts=lambda asked: len(asked) if isinstance(asked, list) else 3)


def agreement(comparator: Comparator, left: Any, right: Any) -> float:
    return comparator.compare(ASKED, [left, right]).matrix[0][1]


@pytest.mark.parametrize(
    ("comparator", "left", "right", "expected"),
    [
        (LABELS, "positive", "positive", 1.0),
        (LABELS, "positive", "negative", 0.0),
        (EXACT, {"a": 1, "b": [1.0, None]}, {"b": [1, None], "a": 1.0}, 1.0),
        (EXACT, {"a": 1}, {"a": True}, 0.0),
        (EXACT, [1, 2], [2, 1], 0.0),
        (TEXT, "The mill turns.", "the MILL turns", 1.0),
        (TEXT, "the mill turns", "the mill stands", 2 / 3),
        (TEXT, "", "", 1.0),
        (TEXT, "a mill", "", 0.0),
        (TEXT, "水車は回る", "水車が回る", 4 / 5),
        (ERRORS, "the quick brown fox", "The quick, brown fox!", 1.0),
        (ERRORS, "the quick brown fox", "the quick brown box", 3 / 4),
        (ERRORS, "a b c d", "b c d e f", 2 / 5),
        (ERRORS, "", "", 1.0),
        (ERRORS, "", "word", 0.0),
        (SPANS, [(0, 4, "PER")], [(0, 4, "PER"), (9, 12, "LOC")], 2 / 3),
        (SPANS, [(0, 4, "PER")], [(0, 4, "ORG")], 0.0),
        (SPANS, [], [], 1.0),
        (TIMES, [(0.0, 2.0), (4.0, 5.0)], [(1.0, 4.5)], 1.5 / 5.0),
        (TIMES, [], [(0.0, 1.0)], 0.0),
        (TIMES, [], [], 1.0),
    ],
)
def test_two_answers_agree_as_far_as_their_kind_says(comparator: Comparator, left: Any, right: Any, expected: float) -> None:
    assert agreement(comparator, left, right) == pytest.approx(expected)
    assert agreement(comparator, right, left) == pytest.approx(expected)


def _slow_edits(left: Sequence[str], right: Sequence[str]) -> int:
    row = list(range(len(right) + 1))
    for above, item in enumerate(left, 1):
        diagonal, row[0] = row[0], above
        for place, other in enumerate(right, 1):
            diagonal, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, diagonal + (item != other))
    return row[-1]


@given(st.lists(st.sampled_from("abc"), max_size=70), st.lists(st.sampled_from("abcd"), max_size=70))
def test_edits_are_those_of_the_textbook(left: list[str], right: list[str]) -> None:
    assert edits(left, right) == _slow_edits(left, right)


ANSWERS: dict[str, tuple[Comparator, st.SearchStrategy[Any]]] = {
    "labels": (LABELS, st.sampled_from(["a", "b"])),
    "texts": (TEXT, st.text(max_size=20)),
    "words": (ERRORS, st.text("ab .", max_size=20)),
    "json": (EXACT, st.recursive(st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists, max_leaves=4)),
    "spans": (SPANS, st.lists(st.tuples(st.integers(0, 3), st.integers(4, 6), st.sampled_from(["X", "Y"])), max_size=4)),
    "vectors": (VECTORS, st.lists(st.sampled_from([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]]), min_size=3, max_size=3)),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_every_matrix_is_symmetrical_within_its_bounds_and_whole_on_the_diagonal(kind: str) -> None:
    comparator, answer = ANSWERS[kind]

    @settings(max_examples=40)
    @given(st.lists(answer, min_size=2, max_size=4))
    def holds(answers: list[Any]) -> None:
        matrix = comparator.compare(ASKED, [*answers, answers[0]]).matrix
        for row, values in enumerate(matrix):
            assert values[row] == 1.0
            assert all(0.0 <= value <= 1.0 and value == matrix[column][row] for column, value in enumerate(values))
        assert matrix[0][-1] == pytest.approx(1.0), "an answer does not agree with itself"

    holds()


def test_texts_that_can_be_embedded_are_compared_by_meaning() -> None:
    space = {"a mill": [1.0, 0.0], "a water wheel": [0.8, 0.6], "a tax form": [0.0, 1.0], "A mill!": [0.9, 0.1]}

    compared = TEXT.compare(ASKED, list(space), embed=lambda texts: [space[text] for text in texts])

    assert compared.method == "embedding_cosine"
    assert compared.matrix[0] == pytest.approx([1.0, 0.8, 0.0, 1.0]), "the same words agree in everything, whatever their vectors"
    assert TEXT.compare(ASKED, ["a mill", "..."], embed=lambda _: [[1.0], [1.0]]).method == "token_f1", "nothing is embedded that has no words"


def test_vectors_of_other_dimensions_are_compared_by_their_structure() -> None:
    two = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]
    turned_and_wider = [[0.0, 0.0, 1.0], [0.0, 0.6, 0.8], [0.0, 1.0, 0.0]]
    another_view = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.8, 0.0, 0.6]]

    assert agreement(VECTORS, two, turned_and_wider) == pytest.approx(1.0)
    assert agreement(VECTORS, two, another_view) < 0.5
    assert agreement(VECTORS, two, [[1.0, 0.0], [0.8, -0.6], [0.0, -1.0]]) == pytest.approx(1.0), "a mirrored space has the same structure"
    assert VECTORS.refusal(["one", "two"]) is not None
    assert VECTORS.refusal(["one", "two", "three"]) is None


def test_vectors_that_see_no_differences_agree_with_their_like_alone() -> None:
    flat, wide = [[1.0, 0.0]] * 3, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.8, 0.0]]
    assert agreement(VECTORS, flat, [[0.0, 0.0, 1.0]] * 3) == 1.0
    assert agreement(VECTORS, flat, wide) == 0.0


@pytest.mark.parametrize("odd", [[[1.0, 0.0]], [[1.0, 0.0]] * 4, [[1.0, 0.0], [1.0], [0.0, 1.0]], [[], [], []]])
def test_vectors_that_are_not_one_a_text_agree_with_nobody(odd: list[list[float]]) -> None:
    sound = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]
    matrix = VECTORS.compare(ASKED, [sound, odd, odd, sound]).matrix
    assert [matrix[0], matrix[1]] == [[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]]


def test_json_is_compared_as_json_only_where_it_was_asked_for() -> None:
    comparator = JsonWhereAsked(str, asks_for_json=bool, otherwise=TEXT)
    answers = ['{"a": 1}', '{ "a":1.0 }', "a 1", '{"a": 2}']

    as_json, as_text = comparator.compare(True, answers), comparator.compare(False, answers)

    assert (as_json.method, as_json.matrix[0]) == ("exact_json", [1.0, 1.0, 0.0, 0.0])
    assert (as_text.method, as_text.matrix[0][2]) == ("token_f1", 1.0)


def test_words_of_scripts_without_spaces_are_characters() -> None:
    assert words("Straße 12, ÉTANG—ﬁn") == ["strasse", "12", "étang", "fin"]
    assert words("水車は, ok") == ["水", "車", "は", "ok"]


def test_long_transcripts_are_compared_within_a_second() -> None:
    dice = random.Random(7)
    text = " ".join(f"w{dice.randrange(3_000)}" for _ in range(10_000))
    assert agreement(ERRORS, text, text.replace("w7 ", "")) > 0.99


def test_pairwise_bounds_what_a_measure_says() -> None:
    assert pairwise([1.0, -1.0], lambda left, right: left * right) == [[1.0, 0.0], [0.0, 1.0]]


MARIA = {"text": "Maria", "type": "PER", "start": 0, "end": 5, "confidence": 0.9}
MADRID = {"text": "Madrid", "type": "LOC", "start": 15, "end": 21, "confidence": 0.8}


@pytest.mark.parametrize(
    ("task", "asked", "left", "right", "expected"),
    [
        ("text_entities", {"text": "Maria lives in Madrid."}, {"entities": [MARIA, MADRID]}, {"entities": [{**MARIA, "confidence": 0.5}]}, 2 / 3),
        ("text_translation", {"text": "x", "source": "en", "target": "pt"}, {"text": "o moinho gira"}, {"text": "O moinho anda."}, 2 / 3),
    ],
)
def test_answers_of_a_task_are_compared_by_what_they_say(task: str, asked: Any, left: Any, right: Any, expected: float) -> None:
    contract = load_contract(f"domain.task_types.{task}")
    agreed = agreement_of(contract, input_json=json.dumps(asked), output_json=json.dumps(left), other_json=json.dumps(right))
    assert agreed == pytest.approx(expected)
