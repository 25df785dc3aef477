"""The catalogue that ships, the rules that every catalogue keeps, and the task types that it names."""

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from domain.catalogue import Catalogue, Price, QueueName, parse_catalogue
from domain.contracts import TaskContract
from domain.errors import ConfigurationError
from domain.job import Priority
from domain.usage import Usage

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENT = tomllib.loads((PROJECT / "catalogue.toml").read_text(encoding="utf-8"))
CATALOGUE = parse_catalogue(DOCUMENT)

# --- the catalogue that ships -------------------------------------------------------------------------------------------


def test_catalogue_offers_what_the_readme_promises() -> None:
    texts = {"embedding", "sentiment", "language", "zero_shot", "summarization", "entities", "translation", "generation"}
    media = {"image.ocr", "image.classification", "image.moderation", "audio.transcription", "audio.voice_activity", "audio.speech"}
    assert set(CATALOGUE.offered) == {"debug.echo", *media, *(f"text.{task}" for task in texts)}


def test_vectors_compare_within_one_model_alone_so_no_other_stands_in() -> None:
    assert [name for name, task in CATALOGUE.tasks.items() if not task.interchangeable] == ["text.embedding"]


def test_production_leaves_out_the_echo_and_its_pool() -> None:
    production = CATALOGUE.for_production()
    assert set(production.tasks) == set(CATALOGUE.tasks) - {"debug.echo"}
    assert set(production.pools) == set(CATALOGUE.pools) - {"debug"}
    assert "echo" not in production.models


@pytest.mark.parametrize("name", CATALOGUE.models)
def test_model_tells_what_a_reader_must_know(name: str) -> None:
    model = CATALOGUE.models[name]
    assert model.version
    assert model.description.endswith(".")
    assert model.license
    assert 1 <= model.ids_per_message <= model.max_batch_size


@pytest.mark.parametrize("task", CATALOGUE.contracts)
def test_task_type_has_a_summary_and_examples_that_validate(task: str) -> None:
    contract = CATALOGUE.contracts[task]
    assert contract.summary.endswith(".")
    assert contract.input.__doc__
    assert contract.output.__doc__
    assert contract.examples
    for example in contract.examples:
        assert example.title
        assert contract.count_items(contract.input.model_validate(example.input)) >= 1


def _schemas(contract: TaskContract) -> list[dict[str, Any]]:
    return [contract.input.model_json_schema(mode="validation"), contract.output.model_json_schema(mode="serialization")]


@pytest.mark.parametrize("task", CATALOGUE.contracts)
def test_task_type_has_json_schemas_that_hold_its_examples(task: str) -> None:
    contract = CATALOGUE.contracts[task]
    for schema in _schemas(contract):
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["additionalProperties"] is False
        assert schema["description"]
    for example in contract.examples:
        jsonschema.validate(dict(example.input), _schemas(contract)[0])


@pytest.mark.parametrize("task", CATALOGUE.contracts)
def test_task_type_refuses_unknown_fields(task: str) -> None:
    contract = CATALOGUE.contracts[task]
    with pytest.raises(ValueError, match="no_such_field"):
        contract.input.model_validate({**contract.examples[0].input, "no_such_field": 1})


@pytest.mark.parametrize(
    ("task", "value"),
    [
        ("text.embedding", {"texts": []}),
        ("text.embedding", {"texts": ["x"] * 257}),
        ("text.embedding", {"texts": ["  "]}),
        ("text.embedding", {"texts": "x"}),
        ("text.embedding", {"texts": [1]}),
        ("text.sentiment", {"text": ""}),
        ("text.sentiment", {"text": "x" * 100_001}),
        ("text.language", {}),
        ("text.zero_shot", {"text": "x", "labels": []}),
        ("text.zero_shot", {"text": "x", "labels": ["one"]}),
        ("text.zero_shot", {"text": "x", "labels": ["one", "two", "one "]}),
        ("text.zero_shot", {"text": "x", "labels": ["one", "  "]}),
        ("text.zero_shot", {"text": "x", "labels": [str(label) for label in range(201)]}),
        ("text.summarization", {"text": "x", "max_sentences": 0}),
        ("text.translation", {"text": "x", "source": "en"}),
        ("text.translation", {"text": "x", "source": "en", "target": "en_GB; drop"}),
        ("text.entities", {"text": "\n"}),
        ("text.generation", {}),
        ("text.generation", {"prompt": "x", "messages": [{"role": "user", "content": "x"}]}),
        ("text.generation", {"messages": []}),
        ("text.generation", {"messages": [{"role": "wizard", "content": "x"}]}),
        ("text.generation", {"prompt": "x", "max_tokens": 0}),
        ("text.generation", {"prompt": "x", "temperature": 2.1}),
        ("text.generation", {"prompt": "x", "temperature": float("nan")}),
        ("text.generation", {"prompt": "x", "seed": 2**32 - 1}),
        ("text.generation", {"prompt": "x", "stop": [""]}),
        ("text.generation", {"prompt": "x", "stop": ["a"] * 5}),
        ("debug.echo", {}),
        ("debug.echo", {"payload": 1, "fail": "maybe"}),
        ("debug.echo", {"payload": 1, "delay_ms": -1}),
    ],
)
def test_input_outside_the_contract_is_refused(task: str, value: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        CATALOGUE.contracts[task].input.model_validate(value)


def test_output_refuses_what_is_not_a_number() -> None:
    output = CATALOGUE.contracts["text.embedding"].output
    output.model_validate({"embeddings": [[0.5]], "dimensions": 1})
    with pytest.raises(ValueError, match="finite"):
        output.model_validate({"embeddings": [[float("nan")]], "dimensions": 1})


# --- the rules of every catalogue ---------------------------------------------------------------------------------------


def _catalogue(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "pools": {"debug": {}},
        "tasks": {"debug.echo": {"contract": "domain.task_types.debug_echo", "default_model": "echo"}},
        "models": {"echo": {"task": "debug.echo", "pool": "debug", "backend": "workers.backends.echo:Echo", "version": "1"}},
    }
    for dotted, value in changes.items():
        place = document
        *path, last = dotted.split("__")
        for part in path:
            place = place.setdefault(part.replace("debug_echo", "debug.echo"), {})
        place[last] = value
    return document


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"models__echo__colour": "red"}, r"models\.echo\.colour"),
        ({"models__echo__task": "no.task"}, r"models\.echo\.task: there is no task"),
        ({"models__echo__pool": "nowhere"}, r"models\.echo\.pool: there is no pool"),
        ({"models__echo__backend": "workers.backends.echo"}, r"models\.echo\.backend"),
        ({"models__echo__max_batch_size": 0}, r"models\.echo\.max_batch_size"),
        ({"models__echo__price": {"per_job_usd": "-1"}}, r"models\.echo\.price\.per_job_usd"),
        ({"tasks__debug_echo__default_model": "nobody"}, r"tasks\.debug\.echo\.default_model"),
        ({"tasks__debug_echo__contract": "domain.task_types.nothing"}, r"tasks\.debug\.echo\.contract"),
        ({"tasks__debug_echo__timeout_s": 700}, r"tasks\.debug\.echo\.timeout_s"),
        ({"pools__idle": {}}, r"pools\.idle: no model"),
        ({"pools__debug": {"concurrency": 0}}, r"pools\.debug\.concurrency"),
        ({"pipes": {}}, "pipes"),
        ({"models__Echo": {}}, "Echo"),
        ({"models__echo__weights_of": "nobody"}, r"models\.echo\.weights_of"),
        ({"models__echo__weights_of": "echo"}, r"models\.echo\.weights_of"),
    ],
)
def test_catalogue_with_a_mistake_is_refused_naming_the_entry(changes: dict[str, Any], says: str) -> None:
    parse_catalogue(_catalogue())
    with pytest.raises(ConfigurationError, match=says):
        parse_catalogue(_catalogue(**changes))


def test_queues_come_pool_by_pool_most_urgent_first() -> None:
    assert [str(queue) for queue in CATALOGUE.queues()][:3] == ["text.interactive", "text.standard", "text.flex"]
    assert len(list(CATALOGUE.queues())) == len(CATALOGUE.pools) * len(Priority)
    assert str(QueueName("text", Priority.FLEX)) == "text.flex"


@pytest.mark.parametrize(("size", "ids"), [(1, 1), (4, 1), (5, 2), (32, 8), (64, 16), (1_024, 256)])
def test_message_holds_a_quarter_of_a_batch(size: int, ids: int) -> None:
    catalogue: Catalogue = parse_catalogue(_catalogue(models__echo__max_batch_size=size))
    assert catalogue.models["echo"].ids_per_message == ids


def test_price_is_exact_to_nine_places() -> None:
    price = CATALOGUE.models["smollm2-135m"].price
    assert price.cost_usd(Usage(input_tokens=1_000_000, output_tokens=500_000)) == Decimal("0.1")
    assert price.cost_usd(Usage(input_tokens=1)) == Decimal("0.00000005")
    assert str(price.cost_usd(Usage())) == "0E-9"
    assert str(Price(per_job_usd=Decimal("0.5")).cost_usd(Usage())) == "0.500000000"


def _with_optional_pools() -> Catalogue:
    document = tomllib.loads((PROJECT / "catalogue.toml").read_text(encoding="utf-8"))
    for name in ("debug", "generation"):
        document["pools"][name]["optional"] = True
    return parse_catalogue(document)


@pytest.mark.parametrize(
    ("wanted", "pools"),
    [
        ("", {"text"}),
        ("debug", {"text", "debug"}),
        (" generation,debug, ", {"text", "debug", "generation"}),
        ("all", {"text", "debug", "generation"}),
        ("all,-text", {"debug", "generation"}),
        ("-text, debug,-debug", set()),
    ],
)
def test_pools_wanted_are_those_that_are_not_optional_and_those_asked_for(wanted: str, pools: set[str]) -> None:
    assert _with_optional_pools().pools_wanted(wanted) & {"text", "debug", "generation"} == pools


def test_pools_wanted_with_unknown_name_names_it() -> None:
    for wanted in ("debug,nosuch", "-nosuch"):
        with pytest.raises(ConfigurationError, match="no pool nosuch"):
            CATALOGUE.pools_wanted(wanted)
