"""Jobs that leave the choice of their model to the route: what they are given, what they are told of it, and what is refused."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from domain.catalogue import parse_catalogue
from domain.ids import Prefix, decode
from domain.job import Outcome
from domain.routing.facts import ModelFacts
from models.transactions import make_engine
from tests.support.api import Api, make_api
from tests.support.echoes import echo_catalogue_of
from tests.support.jobs import FAILURE, claim, give_back, look

MODELS: dict[str, dict[str, Any]] = {
    "usual": {"pool": "one", "price": {"per_job_usd": "0.01"}, "quality": 0.5},
    "cheap": {"pool": "two", "price": {"per_job_usd": "0.001"}, "quality": 0.3},
    "fine": {"pool": "two", "price": {"per_job_usd": "0.1"}, "quality": 0.9},
}
READY = ModelFacts(latency_ms=1.0, workers=1)
Make = Callable[..., Api]


@pytest.fixture
def make(database_url: str) -> Iterator[Make]:
    engine: Engine = make_engine(database_url, pool_size=4)
    yield lambda **task: make_api(engine, catalogue=echo_catalogue_of(MODELS, **task))
    engine.dispose()


def submit(api: Api, path: str = "/v1/jobs", **fields: Any) -> Any:
    answer = api.post(path, {"task": "debug.echo", "input": {"payload": 1}, **fields} if path == "/v1/jobs" else fields)
    assert answer.status_code == 202, answer.text
    return answer.json


def problem(api: Api, **fields: Any) -> tuple[str, str]:
    answer = api.post("/v1/jobs", {"task": "debug.echo", "input": {"payload": 1}, **fields})
    assert answer.status_code == 422, answer.text
    return answer.json["code"], answer.json["errors"][0]["pointer"] if "errors" in answer.json else ""


def test_route_says_on_the_job_what_was_chosen_and_why(make: Make) -> None:
    api = make()
    job = submit(api, route={"policy": "cheapest"})
    routing = job["routing"]
    assert (job["model"], routing["model"], routing["policy"], routing["fallbacks"]) == ("cheap", "cheap", "cheapest", ["usual", "fine"])
    assert routing["reasons"][0] == "cheapest: cheap, estimated at $0.001"
    assert [(each["model"], each["estimated_cost_usd"]) for each in routing["candidates"]] == [("cheap", "0.001"), ("usual", "0.01"), ("fine", "0.1")]
    assert (routing["failovers"], routing["excluded"]) == ([], [])
    assert job["max_attempts"] == 3
    assert api.get(f"/v1/jobs/{job['id']}").json == job
    assert api.get("/v1/jobs").json["data"][0]["routing"] == routing
    row = look(api.engine, decode(Prefix.JOB, job["id"])).row  # type: ignore[arg-type]
    assert (row.model, row.pool) == ("cheap", "two")


@pytest.mark.parametrize(
    ("fields", "model", "fallbacks"),
    [
        ({}, "usual", ["cheap", "fine"]),  # nothing is known yet: balanced takes the default model
        ({"route": {"policy": "best", "fallbacks": False}}, "fine", []),
        ({"route": {"policy": "best", "fallbacks": ["cheap", "fine"]}}, "fine", ["cheap"]),
        ({"model": "fine", "route": {"fallbacks": ["usual"]}}, "fine", ["usual"]),
        ({"route": {"policy": "best", "max_cost_usd": "0.05"}}, "usual", ["cheap"]),
    ],
)
def test_route_as_it_is_asked_for(make: Make, fields: dict[str, Any], model: str, fallbacks: list[str]) -> None:
    routing = submit(make(), **fields)["routing"]
    assert (routing["model"], routing["fallbacks"]) == (model, fallbacks)


@pytest.mark.parametrize("fields", [{"model": "fine"}, {"model": "fine", "route": {"policy": "balanced", "fallbacks": True, "max_cost_usd": None}}])
def test_route_with_nothing_to_choose_is_null(make: Make, fields: dict[str, Any]) -> None:
    job = submit(make(), **fields)
    assert (job["model"], job["routing"]) == ("fine", None)


def test_route_that_cannot_be_kept_is_refused_with_its_field(make: Make) -> None:
    api = make()
    assert problem(api, route={"max_cost_usd": "0.0009"}) == ("max_cost_too_low", "/route/max_cost_usd")
    assert problem(api, model="fine", route={"max_cost_usd": "0.05"}) == ("max_cost_too_low", "/route/max_cost_usd")
    api.flags.missing_models.update(MODELS)
    answer = api.post("/v1/jobs", {"task": "debug.echo", "input": {"payload": 1}})
    assert (answer.status_code, answer.json["code"]) == (503, "model_not_installed")


def test_route_goes_by_what_is_known_and_around_what_is_not_there(make: Make) -> None:
    api = make()
    known = {name: ModelFacts(latency_ms=ms, workers=1) for name, ms in {"usual": 100.0, "cheap": 900.0, "fine": 5.0}.items()}
    api.flags.facts.update(known)
    assert submit(api, route={"policy": "fastest"})["routing"]["fallbacks"] == ["usual", "cheap"]
    api.flags.facts["fine"] = ModelFacts(latency_ms=5.0, workers=1, breaker_open=True)
    api.flags.missing_models.add("cheap")
    routing = submit(api, route={"policy": "fastest"})["routing"]
    assert (routing["model"], routing["fallbacks"]) == ("usual", [])
    assert [(each["model"], each["why"].split(":")[0]) for each in routing["excluded"]] == [
        ("cheap", "its weights are not installed"),
        ("fine", "its breaker is open"),
    ]


def test_weights_give_the_same_tenant_and_key_the_same_model(make: Make) -> None:
    api = make(weights={"usual": 50, "fine": 50})
    by_key = {key: {submit(api, metadata={"route_key": key}, input={"payload": turn})["model"] for turn in range(2)} for key in map(str, range(12))}
    assert all(len(models) == 1 for models in by_key.values())
    assert {model for models in by_key.values() for model in models} == {"usual", "fine"}
    assert "parts of the task's jobs" in submit(api)["routing"]["reasons"][0]
    assert submit(api, route={"policy": "cheapest"})["model"] == "cheap"


def test_models_that_are_not_interchangeable_stand_in_only_where_the_request_says_so(make: Make) -> None:
    api = make(interchangeable=False)
    api.flags.facts |= {"usual": ModelFacts(breaker_open=True, error_rate=1.0), "cheap": READY, "fine": READY}
    assert api.get("/v1/tasks/debug.echo").json["interchangeable"] is False
    for fallbacks in (True, False):
        job = submit(api, route={"fallbacks": fallbacks})
        assert (job["model"], job["routing"], job["max_attempts"]) == ("usual", None, 3)
    assert submit(api)["model"] == "usual"

    def routed(**fields: Any) -> tuple[str, list[str]]:
        routing = submit(api, **fields)["routing"]
        return routing["model"], routing["fallbacks"]

    assert routed(route={"policy": "cheapest"}) == ("cheap", [])
    assert routed(route={"policy": "best", "fallbacks": ["cheap"]}) == ("fine", ["cheap"])
    assert routed(route={"fallbacks": ["fine", "cheap"]}) == ("usual", ["fine", "cheap"])
    assert routed(model="fine", route={"fallbacks": ["cheap"]}) == ("fine", ["cheap"])
    assert routed(route={"max_cost_usd": "0.01"}) == ("usual", [])
    assert problem(api, route={"max_cost_usd": "0.009"}) == ("max_cost_too_low", "/route/max_cost_usd")
    api.flags.missing_models.add("usual")
    for listed in ([], ["fine"]):
        answer = api.post("/v1/jobs", {"task": "debug.echo", "input": {"payload": 1}, "route": {"fallbacks": listed}})
        assert (answer.status_code, answer.json["code"]) == (503, "model_not_installed")
        assert "usual" in answer.json["detail"]


def test_weights_of_models_that_are_not_interchangeable_part_tenants_and_route_keys_but_no_inputs(make: Make) -> None:
    api = make(interchangeable=False, weights={"usual": 50, "fine": 50})
    assert len({submit(api, input={"payload": turn})["model"] for turn in range(8)}) == 1
    by_key = {key: {submit(api, metadata={"route_key": key}, input={"payload": turn})["model"] for turn in range(2)} for key in map(str, range(12))}
    assert sorted(map(len, by_key.values())) == [1] * 12
    assert {model for models in by_key.values() for model in models} == {"usual", "fine"}
    chosen = submit(api)["routing"]
    api.flags.facts[chosen["model"]] = ModelFacts(breaker_open=True)
    assert submit(api)["routing"]["model"] == chosen["model"]


def test_models_that_lack_what_the_input_gives_are_no_candidates(database_url: str) -> None:
    remote = {"task": "text.generation", "pool": "one", "backend": "workers.backends.openai_remote:OpenaiRemote", "version": "1"}
    lacks: dict[str, tuple[str, ...]] = {"old": ("messages", "json_schema"), "plain": ("json_schema",), "new": ()}
    task = {"contract": "domain.task_types.text_generation", "default_model": "old"}
    models = {name: {**remote, "lacks": fields} for name, fields in lacks.items()}
    engine = make_engine(database_url, pool_size=4)
    api = make_api(engine, catalogue=parse_catalogue({"pools": {"one": {}}, "tasks": {"text.generation": task}, "models": models}))
    messages = {"messages": [{"role": "user", "content": "Hi"}]}

    def write(job_input: dict[str, Any], **fields: Any) -> Any:
        return api.post("/v1/jobs", {"task": "text.generation", "input": job_input, **fields}).json

    assert api.get("/v1/models/old").json["lacks"] == ["messages", "json_schema"]
    assert write({"prompt": "Hi"})["model"] == "old"
    routing = write(messages)["routing"]
    assert (routing["model"], routing["fallbacks"], routing["excluded"]) == ("new", ["plain"], [{"model": "old", "why": "it takes no messages"}])
    routing = write({**messages, "json_schema": {}}, route={"policy": "cheapest", "fallbacks": ["old", "plain"]})["routing"]
    assert (routing["model"], routing["fallbacks"]) == ("new", [])
    api.flags.missing_models.add("new")
    refused = [write({**messages, "json_schema": {}}), write(messages, model="old"), write(messages, model="old", route={"fallbacks": ["plain"]})]
    assert [[(error["pointer"], error["code"], error["message"]) for error in answer["errors"]] for answer in refused] == [
        [("/input/messages", "unsupported_by_model", "is not taken by old"), ("/input/json_schema", "unsupported_by_model", "is not taken by old, plain")],
        [("/input/messages", "unsupported_by_model", "is not taken by old")],
        [("/input/messages", "unsupported_by_model", "is not taken by old")],
    ]
    assert write(messages, model="plain")["model"] == "plain"
    engine.dispose()


def test_cascade_that_names_no_models_leaves_out_those_that_lack_what_the_input_gives(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=4)
    models = {**MODELS, "cheap": {**MODELS["cheap"], "lacks": ["fail_attempts"]}}
    api = make_api(engine, catalogue=echo_catalogue_of(models))
    assert submit(api, cascade={})["cascade"]["models"] == ["cheap", "usual", "fine"]
    assert submit(api, cascade={}, input={"payload": 1, "fail_attempts": 1})["cascade"]["models"] == ["usual", "fine"]
    answer = api.post("/v1/jobs", {"task": "debug.echo", "input": {"payload": 1, "fail_attempts": 1}, "cascade": {"models": ["cheap", "fine"]}})
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/input/fail_attempts")
    engine.dispose()


def test_rerun_chooses_again_by_the_same_route_and_may_be_given_another(make: Make) -> None:
    api = make()
    job = submit(api, route={"policy": "best", "max_cost_usd": "0.05", "fallbacks": ["cheap"]})
    api.flags.facts["usual"] = ModelFacts(breaker_open=True)
    path = f"/v1/jobs/{job['id']}/rerun"

    again = submit(api, path)
    assert (job["model"], again["model"], again["routing"]["requested"]) == ("usual", "cheap", job["routing"]["requested"])
    pinned = submit(api, path, model="usual")
    assert (pinned["model"], pinned["routing"]["fallbacks"]) == ("usual", ["cheap"])
    assert submit(api, path, route={"policy": "best"})["model"] == "fine"
    plain = submit(api, model="fine")
    assert submit(api, f"/v1/jobs/{plain['id']}/rerun")["model"] == "fine"
    assert submit(api, f"/v1/jobs/{plain['id']}/rerun", route={"policy": "cheapest"})["model"] == "cheap"


def test_job_that_was_moved_shows_its_last_model_and_every_move(make: Make) -> None:
    api = make()
    job = submit(api)
    job_id: Any = decode(Prefix.JOB, job["id"])
    give_back(api.engine, claim(api.engine, job_id, model="usual"), model="cheap", pool="two", outcome=Outcome.FAILED, failure=FAILURE)
    shown = api.get(f"/v1/jobs/{job['id']}").json
    assert (shown["model"], shown["routing"]["model"]) == ("cheap", "usual")
    (move,) = shown["routing"]["failovers"]
    assert (list(move), move["from"], move["to"], move["code"]) == (["from", "to", "code", "at"], "usual", "cheap", "model_error")


def test_batch_jobs_are_each_routed_beside_those_that_are_not(make: Make) -> None:
    api = make()
    jobs = [{"task": "debug.echo", "input": {"payload": 1}, **fields} for fields in ({"model": "fine"}, {"route": {"policy": "cheapest"}})]
    assert api.post("/v1/batches", {"jobs": jobs}).status_code in {200, 202}
    shown = api.get("/v1/jobs").json["data"]
    assert sorted((job["model"], job["routing"] is None) for job in shown) == [("cheap", False), ("fine", True)]
