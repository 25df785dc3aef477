"""Where sentences end."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sentences import LONGEST_CHARS, sample, sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It cost 3.50 today. Yes", ["It cost 3.50 today.", "Yes"]),
        ("Mr. J. Lorry met Dr. Manette. They left.", ["Mr. J. Lorry met Dr. Manette.", "They left."]),
        ('"Who are you?" said the Caterpillar. Alice replied.', ['"Who are you?"', "said the Caterpillar.", "Alice replied."]),
        ("水車は回る。水は冷たい！「はい。」終わり", ["水車は回る。", "水は冷たい！", "「はい。」", "終わり"]),
        ("A heading\n\nA paragraph\nof two lines", ["A heading", "A paragraph\nof two lines"]),
        ("... and so on... Then", ["...", "and so on...", "Then"]),
        (" \n ", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(st.text(alphabet=".!? \n\u200bMrDa。x"))
def test_nothing_but_white_space_is_lost(text: str) -> None:
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@pytest.mark.parametrize("text", ["x" * 100_000, "\n" * 100_000, "a. " * 33_333, "." * 100_000, " " * 50_000 + "x", '."' * 50_000, "\n " * 50_000])
def test_hostile_text_is_split_in_time(text: str) -> None:
    started = time.monotonic()
    assert all(len(sentence) <= LONGEST_CHARS for sentence in sentences(text))
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("length", "most", "most_chars", "kept"), [(0, 3, 9, 0), (3, 3, 9, 3), (4, 3, 9, 2), (100, 10, 900, 10), (101, 10, 900, 10), (8, 8, 4, 4)]
)
def test_sample_is_even_and_small_enough(length: int, most: int, most_chars: int, kept: int) -> None:
    pieces = [str(number % 10) for number in range(length)]
    chosen = sample(pieces, most, most_chars)
    assert (len(chosen), chosen[:1]) == (kept, pieces[:1])
