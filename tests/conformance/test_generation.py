"""``text.generation`` by each of its models."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from domain.failures import CanceledByUser, ContextTooLong, InvalidInput
from domain.task_types.text_generation import MAX_SEED
from tests.conformance.harness import Heard, Loaded
from tests.fixtures.samples import articles
from workers.backends.base import Inference

TASK = "text.generation"  # every model of this task is tested

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "city": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150}},
    "required": ["name", "city", "age"],
    "additionalProperties": False,
}
STORY = {"prompt": "Write a long story about a mill pond.", "max_tokens": 20}


def _output(loaded: Loaded, value: dict[str, Any]) -> dict[str, Any]:
    return loaded.one(value).output.model_dump()


def test_question_of_fact_is_answered(loaded: Loaded) -> None:
    output = _output(loaded, {"messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 24})
    assert "Paris" in output["text"]
    assert output["finish_reason"] == "stop"


@pytest.mark.parametrize("right", ["No one shall be subjected to arbitrary arrest", "Everyone has the right to rest and leisure"])
def test_text_of_the_declaration_of_human_rights_is_repeated_as_it_stands(loaded: Loaded, store_dir: Path, right: str) -> None:
    """So small a model repeats two of eight articles word for word, and puts the others in its own words."""
    (article,) = (article for article in articles(store_dir, "en") if article.startswith(right))
    assert _output(loaded, {"prompt": f"{article}\n\nRepeat this text word for word.", "max_tokens": 64})["text"].startswith(article)


def test_prompt_is_the_same_as_one_message_of_the_user(loaded: Loaded) -> None:
    prompted = loaded.one({"prompt": "What is the capital of Japan?", "max_tokens": 24})
    assert prompted == loaded.one({"messages": [{"role": "user", "content": "What is the capital of Japan?"}], "max_tokens": 24})


def test_tokens_are_counted(loaded: Loaded) -> None:
    short = loaded.one({"prompt": "Count.", "max_tokens": 3})
    assert short.usage.output_tokens == 3
    assert loaded.one({"prompt": "Count. " * 50, "max_tokens": 3}).usage.input_tokens > short.usage.input_tokens + 50


def test_max_tokens_ends_the_answer_with_length(loaded: Loaded) -> None:
    assert _output(loaded, {**STORY, "max_tokens": 8})["finish_reason"] == "length"


def test_stop_ends_the_answer_before_it(loaded: Loaded) -> None:
    whole = _output(loaded, STORY)["text"]
    stop = whole.split()[5]
    output = _output(loaded, {**STORY, "stop": [stop]})
    assert output["finish_reason"] == "stop"
    assert output["text"] == whole[: whole.index(stop)]


def test_same_seed_gives_the_same_text_and_another_seed_another(loaded: Loaded) -> None:
    warm = {**STORY, "temperature": 1.0}
    seeded = _output(loaded, {**warm, "seed": 7})
    assert seeded == _output(loaded, {**warm, "seed": 7})
    assert seeded != _output(loaded, {**warm, "seed": MAX_SEED})


def test_seeded_texts_in_a_batch_equal_singles(loaded: Loaded) -> None:
    values = [{**STORY, "temperature": 0.8, "seed": seed} for seed in range(loaded.spec.max_batch_size)]
    together = loaded.results(values)
    assert list(together) == [loaded.one(value) for value in values]


def test_no_seed_at_high_temperature_gives_different_texts(loaded: Loaded) -> None:
    assert len({_output(loaded, {**STORY, "temperature": 1.5})["text"] for _ in range(3)}) > 1


@pytest.mark.parametrize(
    "schema",
    [
        PERSON,
        {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}, "minItems": 3, "maxItems": 3},
        {"enum": ["positive", "negative"]},
        {"$defs": {"point": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}}, "$ref": "#/$defs/point"},
        {"type": ["string", "null"], "maxLength": 20},
    ],
)
def test_answer_keeps_the_json_schema(loaded: Loaded, schema: dict[str, Any]) -> None:
    output = _output(loaded, {"prompt": "Maria Lopez, 34, lives in Madrid. Answer in JSON.", "max_tokens": 96, "json_schema": schema})
    assert output["finish_reason"] == "stop"
    jsonschema.validate(json.loads(output["text"]), schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"type": "object", "properties": 5},
        {"$ref": "#/nope"},
        {"$ref": "https://example.com/schema.json"},
        {"type": "string", "pattern": "(("},
        {"type": "object", "properties": {"a": {"$ref": "other.json"}}},
    ],
)
def test_invalid_json_schema_fails_alone_in_a_batch(loaded: Loaded, schema: dict[str, Any]) -> None:
    good = {"prompt": "Say hello.", "max_tokens": 4}
    results = loaded.results([good, {**good, "json_schema": schema}, good])
    assert isinstance(results[0], Inference)
    assert isinstance(results[1], InvalidInput), results[1]
    assert "json_schema" in results[1].message
    assert isinstance(results[2], Inference)


def test_property_named_ref_is_no_reference(loaded: Loaded) -> None:
    schema = {"type": "object", "properties": {"$ref": {"type": "integer", "maximum": 9}}, "required": ["$ref"], "additionalProperties": False}
    assert set(json.loads(_output(loaded, {"prompt": "Give a number as JSON.", "max_tokens": 32, "json_schema": schema})["text"])) == {"$ref"}


def test_prompt_over_the_context_fails_alone_in_a_batch(loaded: Loaded) -> None:
    good = {"prompt": "Say hello.", "max_tokens": 4}
    results = loaded.results([good, {"prompt": "word " * 5_000, "max_tokens": 4}, good])
    assert isinstance(results[0], Inference)
    assert isinstance(results[1], ContextTooLong)
    assert str(loaded.spec.options["context_tokens"]) in results[1].message
    assert isinstance(results[2], Inference)


def test_deltas_add_up_to_the_text(loaded: Loaded) -> None:
    heard = Heard()
    results = loaded.results([STORY, {**STORY, "prompt": "Name three birds."}], heard=heard)
    for job, result in enumerate(results):
        assert isinstance(result, Inference)
        assert "".join(heard.text[job]) == result.output.model_dump()["text"]
        assert len(heard.text[job]) > 3


def test_canceled_job_stops_writing_while_its_mate_goes_on(loaded: Loaded) -> None:
    heard = Heard()
    results = loaded.results(
        [{**STORY, "max_tokens": 400}, STORY],
        heard=heard,
        should_stop=lambda job: job == 0 and len(heard.text.get(0, [])) >= 3,
    )
    assert isinstance(results[0], CanceledByUser)
    assert len(heard.text[0]) < 20
    assert isinstance(results[1], Inference)


def test_broken_listener_fails_the_batch_and_frees_the_slots(loaded: Loaded) -> None:
    class Listener(dict[int, list[str]]):
        def setdefault(self, *_: Any) -> list[str]:
            raise ConnectionError("nobody listens")

    with pytest.raises(ConnectionError):
        loaded.results([STORY] * loaded.spec.max_batch_size, heard=Heard(text=Listener()))
    assert loaded.results([STORY] * loaded.spec.max_batch_size)


def test_conversation_that_ends_with_the_assistant_is_answered_anew(loaded: Loaded) -> None:
    messages = [{"role": "user", "content": "Name a bird."}, {"role": "assistant", "content": "Zebra crossings"}]
    assert not _output(loaded, {"messages": messages, "max_tokens": 16})["text"].startswith("Zebra crossings")


def test_batch_of_the_catalogue_fits_the_slots(loaded: Loaded) -> None:
    assert loaded.spec.max_batch_size <= loaded.spec.options["slots"]
