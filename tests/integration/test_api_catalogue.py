from collections.abc import Iterator

import jsonschema
import pytest
from sqlalchemy import Engine

from domain.job import Status
from models.queries.finish import Ending
from models.queries.queues import beat
from models.transactions import statement
from tests.support.api import Api, api_on, make_api
from tests.support.jobs import FAILURE, claim, new_job, run_sql, submit
from workers.failover import failed
from workers.run_counter import RunCounter


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    with api_on(database_url) as api:
        yield api


def beating(engine: Engine, name: str = "w1", **fields: object) -> None:
    values: dict[str, object] = {"pool": "debug", "host": "h", "pid": 1, "concurrency": 2, "ready": True, "busy": 0, "finish_per_s": 0.0}
    with statement(engine) as connection:
        beat(connection, name=name, **{**values, **fields})  # type: ignore[arg-type]


def test_tasks_every_example_keeps_the_schema_that_is_shown(api: Api) -> None:
    tasks = api.get("/v1/tasks").json["data"]
    assert {task["id"] for task in tasks} == set(api.catalogue.offered)
    for task in tasks:
        for schema in (task["input_schema"], task["output_schema"]):
            jsonschema.Draft202012Validator.check_schema(schema)
        assert task["examples"]
        for example in task["examples"]:
            jsonschema.validate(example["input"], task["input_schema"])
        assert task["default_model"] in task["models"]


def test_task_alone_is_as_in_the_list_and_unknown_is_404(api: Api) -> None:
    listed = {task["id"]: task for task in api.get("/v1/tasks").json["data"]}
    assert api.get("/v1/tasks/text.embedding").json == listed["text.embedding"]
    assert api.get("/v1/tasks/Text.Embedding").json["code"] == "not_found"


def test_models_prices_are_decimal_strings_and_tasks_fit(api: Api) -> None:
    models = {model["id"]: model for model in api.get("/v1/models").json["data"]}
    assert set(models) == set(api.catalogue.offered_models)
    assert models["minilm-l6"]["price"]["per_million_input_tokens_usd"] == "0.02"
    assert models["minilm-l6"]["price"]["per_job_usd"] == "0"
    assert (models["minilm-l6"]["task"], models["minilm-l6"]["default"], models["minilm-l6"]["backend"]) == ("text.embedding", True, "encoder_embedding")
    assert api.get("/v1/models/minilm-l6").json == models["minilm-l6"]
    assert api.get("/v1/models/nope").status_code == 404


def test_model_health_follows_weights_and_workers(api: Api) -> None:
    assert api.get("/v1/models/echo").json["health"] == {"status": "no_workers", "ready_workers": 0, "breaker": None}
    other = make_api(api.engine)
    beating(api.engine, "loading", ready=False)
    beating(api.engine, "ready")
    beating(api.engine, "silent")
    run_sql(api.engine, "UPDATE worker_processes SET seen_at = now() - interval '21 seconds' WHERE name = 'silent'")
    assert other.get("/v1/models/echo").json["health"] == {"status": "ready", "ready_workers": 1, "breaker": None}
    other.flags.missing_models.add("echo")
    missing = other.get("/v1/models/echo").json
    assert (missing["installed"], missing["health"]["status"]) == (False, "not_installed")


def test_model_latency_and_error_rate_are_of_the_last_minutes(api: Api) -> None:
    good, bad = submit(api.engine, new_job(), new_job())
    (first,), (second,) = claim(api.engine, good), claim(api.engine, bad)
    runs = RunCounter(api.engine)
    runs.count("echo", [(first.tenant_id, Ending(id=first.id, fence=first.fence, status=Status.SUCCEEDED))], run_ms=40.0)
    runs.count("echo", [(second.tenant_id, failed(second, FAILURE))], run_ms=1.0)
    runs.flush()
    model = api.get("/v1/models/echo").json
    assert model["latency"] == {"samples": 1, "run_p50_ms": pytest.approx(40, rel=0.05), "run_p95_ms": pytest.approx(40, rel=0.05)}
    assert model["error_rate"] == 0.5
    idle = api.get("/v1/models/minilm-l6").json
    assert (idle["latency"], idle["error_rate"]) == (None, None)


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/tasks/text.embedding", "/v1/models", "/v1/models/echo", "/v1/queues", "/v1/queues/debug"])
def test_catalogue_asks_for_a_key(api: Api, path: str) -> None:
    assert api.get(path).status_code == 200
    assert api.open(path).json["code"] == "missing_key"
