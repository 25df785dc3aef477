"""What every model of the catalogue must do, whatever it is."""

import math
from pathlib import Path
from typing import Any

import orjson
import pytest

from domain.contracts import Contract
from domain.failures import InferenceError
from domain.media import MediaKind, decode_base64
from tests.conformance.harness import Loaded, make_backend
from tests.fixtures import hostile
from weights.store import model_files
from workers.backends.base import Inference

# A batch may compute in another order than a single run; vectors and scores then differ in their last digits.
TOLERANCE = 1e-3


def _alike(left: object, right: object) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, abs_tol=TOLERANCE)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_alike(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(_alike(a, b) for a, b in zip(left, right, strict=True))
    return left == right


def _dump(output: Contract) -> dict[str, Any]:
    dumped: dict[str, Any] = orjson.loads(orjson.dumps(output.model_dump(mode="json")))
    return dumped


def _examples(loaded: Loaded) -> list[dict[str, Any]]:
    """The task's examples, those that fail on purpose left out."""
    return [dict(example.input) for example in loaded.contract.examples if not example.input.get("fail")]


def test_example_run_alone_keeps_the_contract(loaded: Loaded) -> None:
    for value in _examples(loaded):
        result = loaded.one(value)
        assert isinstance(result.output, loaded.contract.output)
        again = loaded.contract.output.model_validate_json(orjson.dumps(result.output.model_dump(mode="json")))
        assert _alike(_dump(again), _dump(result.output))
        assert result.usage.input_tokens >= 0
        assert result.usage.output_tokens >= 0
        assert loaded.spec.price.cost_usd(result.usage) >= 0


def test_full_batch_gives_in_order_what_singles_give(loaded: Loaded) -> None:
    examples = _examples(loaded)
    alone = [loaded.one(value) for value in examples]
    turns = [index % len(examples) for index in range(loaded.spec.max_batch_size)]
    together = loaded.results([examples[turn] for turn in turns])
    assert len(together) == len(turns)
    for turn, result in zip(turns, together, strict=True):
        assert isinstance(result, Inference), result
        assert _alike(_dump(result.output), _dump(alone[turn].output)), loaded.name
        assert result.usage == alone[turn].usage


def test_examples_fit_into_one_micro_batch(loaded: Loaded) -> None:
    for value in _examples(loaded):
        assert 1 <= loaded.contract.count_items(loaded.read(value)) <= loaded.spec.max_batch_items


def test_unwanted_job_is_left_out_and_its_mates_are_served(loaded: Loaded) -> None:
    example = _examples(loaded)[0]
    results = loaded.results([example, example, example], should_stop=lambda job: job == 1)
    assert isinstance(results[0], Inference)
    assert isinstance(results[1], InferenceError)
    assert isinstance(results[2], Inference)


def test_load_with_unknown_option_is_refused(loaded: Loaded, store_dir: Path) -> None:
    with pytest.raises(ValueError, match="no_such_option"):
        make_backend(loaded.spec.backend).load({"no_such_option": 1}, model_files(loaded.name, loaded.spec, store_dir))


def test_hostile_content_fails_by_its_own_code_and_its_mates_are_served(loaded: Loaded) -> None:
    for field, kind in loaded.contract.media.items():
        cases = hostile.IMAGES if kind is MediaKind.IMAGE else hostile.RECORDINGS
        good = decode_base64(_examples(loaded)[0][field]["base64"])
        assert good is not None
        *refused, served = loaded.on(*(blob for blob, _ in cases), good)
        assert [result.code for result in refused if isinstance(result, InferenceError)] == [code for _, code in cases]
        assert isinstance(served, Inference)


def _saying(loaded: Loaded, text: str) -> list[dict[str, Any]]:
    """An input with this text, if the task takes texts at all; what else it needs is the first example's. Voices have tests of their own for odd ones."""
    if loaded.spec.task == "audio.speech":
        return []
    fields = loaded.contract.input.model_fields
    needed = {name: value for name, value in _examples(loaded)[0].items() if fields[name].is_required()}
    short = {"max_tokens": 4} if "max_tokens" in fields else {}
    return [{**needed, field: [text] if field == "texts" else text, **short} for field in fields.keys() & {"text", "texts", "prompt", "payload"}]


def test_longest_text_is_served_or_refused_by_an_error_of_its_own(loaded: Loaded) -> None:
    for value in _saying(loaded, "good but bad terrible nice " * 3_703):
        (result,) = loaded.results([value])
        assert isinstance(result, Inference | InferenceError)


@pytest.mark.parametrize("text", ["\U0001f642", "12345", ".", "\r\n a \r b", "\u202e\u200babc", "ab" * 400, "ÀÉ\u0301 水車 \u2028 \x85"])
def test_odd_text_is_served(loaded: Loaded, text: str) -> None:
    for value in _saying(loaded, text):
        loaded.one(value)
