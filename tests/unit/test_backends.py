"""Backends' own rules, and the echo, without any weights."""

import math
import multiprocessing
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.failures import CanceledByUser, InferenceError, InvalidInput, ModelError
from domain.task_types.debug_echo import Input, Output
from workers.backends.base import Inference, Run
from workers.backends.echo import Echo
from workers.backends.vader import PIECE_CHARS, pieces, spread
from workers.json_schema import checked_schema, mismatch
from workers.sentence_encoder import by_length


def run_of(*attempts: int, should_stop: Callable[[int], bool] = lambda _: False) -> Run:
    return Run(attempts=attempts, should_stop=should_stop, emit_text=lambda *_: None, emit_progress=lambda *_: None)


# --- echo ---------------------------------------------------------------------------------------------------------------


def test_echo_gives_payloads_back_in_order() -> None:
    payloads: list[Any] = [None, True, 1, 1.5, "x", [1, [2]], {"a": {"b": None}}]
    results = Echo().infer([Input(payload=payload) for payload in payloads], run_of(*[1] * len(payloads)))
    assert results == [Inference(Output(payload=payload)) for payload in payloads]


@pytest.mark.parametrize(("fail", "error"), [("retryable", ModelError), ("fatal", InvalidInput)])
def test_echo_that_fails_fails_alone(fail: Any, error: type[InferenceError]) -> None:
    first, second, third = Echo().infer([Input(payload=1), Input(payload=2, fail=fail), Input(payload=3)], run_of(1, 1, 1))
    assert isinstance(first, Inference)
    assert isinstance(second, error)
    assert second.retryable is (fail == "retryable")
    assert isinstance(third, Inference)


def test_echo_fails_only_the_first_attempts_when_so_asked() -> None:
    value = Input(payload=1, fail="retryable", fail_attempts=2)
    results = Echo().infer([value] * 4, run_of(1, 2, 3, 9))
    assert [isinstance(result, Inference) for result in results] == [False, False, True, True]


def test_echo_out_of_memory_fails_the_whole_micro_batch() -> None:
    with pytest.raises(MemoryError):
        Echo().infer([Input(payload=1), Input(payload=2, fail="oom")], run_of(1, 1))
    (result,) = Echo().infer([Input(payload=2, fail="oom", fail_attempts=1)], run_of(2))
    assert isinstance(result, Inference)


def _infer(value: Input) -> None:
    Echo().infer([value], run_of(1, should_stop=lambda _: False))


def test_echo_that_crashes_takes_its_process_along() -> None:
    process = multiprocessing.get_context("spawn").Process(target=_infer, args=(Input(payload=1, fail="crash"),))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL


def _hang(entered: Any, asked_after: Any) -> None:
    """Hangs; the stop flag is up from the start, so whoever listened to it while hanging would end."""
    calls = 0

    def should_stop(_: int) -> bool:
        nonlocal calls
        calls += 1
        entered.set()
        if calls > 2:
            asked_after.set()
        return False

    Echo().infer([Input(payload=1, fail="hang")], run_of(1, should_stop=should_stop))


def test_echo_that_hangs_ends_only_by_a_kill() -> None:
    context = multiprocessing.get_context("spawn")
    entered, asked_after = context.Event(), context.Event()
    process = context.Process(target=_hang, args=(entered, asked_after))
    process.start()
    assert entered.wait(30)
    process.join(0.5)
    assert process.is_alive()
    assert not asked_after.is_set()
    process.kill()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL


def test_echo_sleeps_once_for_the_longest_delay() -> None:
    started = time.monotonic()
    Echo().infer([Input(payload=1, delay_ms=400), Input(payload=2, delay_ms=500), Input(payload=3, delay_ms=400)], run_of(1, 1, 1))
    assert 0.5 <= time.monotonic() - started < 1.3


def test_echo_wakes_when_nobody_wants_it_any_more() -> None:
    asked: list[int] = []

    def canceled_meanwhile(job: int) -> bool:
        asked.append(job)
        return len(asked) > 4

    started = time.monotonic()
    results = Echo().infer([Input(payload=1, delay_ms=60_000)] * 2, run_of(1, 1, should_stop=canceled_meanwhile))
    assert time.monotonic() - started < 5
    assert all(isinstance(result, CanceledByUser) for result in results)


# --- embedding ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(min_value=2, max_value=256), max_size=300), st.integers(min_value=8, max_value=4_096))
def test_runs_hold_every_text_once_and_keep_the_bounds(lengths: list[int], tokens_per_run: int) -> None:
    runs = list(by_length(lengths, tokens_per_run))
    assert sorted(text for members in runs for text in members) == list(range(len(lengths)))
    for members in runs:
        longest, shortest = lengths[members[-1]], lengths[members[0]]
        assert longest == max(lengths[text] for text in members)
        assert len(members) * longest <= tokens_per_run or len(members) == 1
        assert longest <= shortest * 9 // 8 + 2


def test_texts_of_one_length_share_a_run_up_to_the_bound() -> None:
    assert [len(members) for members in by_length([16] * 40, 512)] == [32, 8]


# --- sentiment ----------------------------------------------------------------------------------------------------------


@given(st.floats(min_value=-1, max_value=1))
def test_scores_sum_to_one_and_agree_with_the_threshold(compound: float) -> None:
    scores = spread(compound)
    assert math.isclose(sum(scores.values()), 1.0)
    label = max(scores, key=scores.__getitem__)
    assert label == ("positive" if compound > 0.05 else "negative" if compound < -0.05 else label)
    assert abs(compound) >= 0.05 or label == "neutral"


@given(st.text(alphabet=st.sampled_from("ab \n"), max_size=6_000))
def test_pieces_make_up_the_text_and_keep_the_bound(text: str) -> None:
    cut = list(pieces(text))
    assert "".join(cut) == text
    assert all(len(piece) <= PIECE_CHARS for piece in cut)


def test_text_is_cut_between_words() -> None:
    assert all(piece == "wheel " * (len(piece) // 6) for piece in pieces("wheel " * 1_000))


# --- generation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "nonsense"}, r"json_schema\.type"),
        ({"type": "object", "properties": {"a": {"minimum": "x"}}}, r"json_schema\.properties\.a\.minimum"),
        ({"$ref": "#/nope"}, "names nothing"),
        ({"$ref": "#nope"}, "names nothing"),
        ({"$ref": "file:///etc/passwd"}, "names nothing"),
        ({"items": [{"$ref": "http://example.com"}]}, "json_schema"),
        ({"type": "string", "pattern": "(("}, "pattern"),
    ],
)
def test_schema_that_cannot_be_kept_is_refused(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        checked_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"$ref": "#"},
        {"$defs": {"a/b": {"type": "null"}}, "$ref": "#/$defs/a~1b"},
        {"enum": [{"$ref": "not a reference"}]},
        {"properties": {"$ref": {"type": "null"}}},
    ],
)
def test_schema_that_can_be_kept_is_taken(schema: dict[str, Any]) -> None:
    assert checked_schema(schema) is schema


def test_mismatch_names_what_is_wrong() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert mismatch('{"a": 1}', schema) is None
    assert "Expecting" in (mismatch('{"a": ', schema) or "")
    assert "$.a" in (mismatch('{"a": "x"}', schema) or "")
