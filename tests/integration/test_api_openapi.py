"""The document says what the running application does."""

import json
from collections.abc import Iterator
from io import BytesIO

import jsonschema
import pytest
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from api.openapi import methods_of, path_of
from domain.ids import Prefix, decode, encode
from tests.support.api import Api, api_on
from tests.support.jobs import claim, new_job, run_sql, submit, succeed
from tests.unit.test_media import png


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    with api_on(database_url, with_redis=True) as api:
        yield api


def test_openapi_every_route_is_in_it_and_nothing_else(api: Api) -> None:
    document = api.open("/openapi.json").json
    validate(document)
    routes = {(path_of(rule), method.lower()) for rule in api.client.application.url_map.iter_rules() for method in methods_of(rule)}
    assert routes == {(path, method) for path, methods in document["paths"].items() for method in methods}


def test_openapi_every_route_under_v1_refuses_a_parameter_that_it_does_not_say(api: Api) -> None:
    job = api.post("/v1/jobs", {"task": "debug.echo", "input": {"payload": 1}}).json
    for path, methods in api.open("/openapi.json").json["paths"].items():
        for method in methods if path.startswith("/v1/") else ():
            for accept in ("*/*", "text/event-stream"):
                headers = {"Authorization": f"Bearer {api.key}", "Accept": accept}
                answer = api.open(f"{path.replace('{job_id}', job['id'])}?nonsense=1", method=method.upper(), headers=headers)
                assert (answer.status_code, answer.json["code"]) == (422, "invalid_filter"), (method, path)
                assert [(error["pointer"], error["code"]) for error in answer.json["errors"]] == [("/nonsense", "unknown_field")]


def test_openapi_answers_have_the_shape_that_it_says(api: Api) -> None:
    document = api.open("/openapi.json").json
    registry = Registry().with_resource("urn:api", Resource.from_contents(document, default_specification=DRAFT202012))
    job = api.post("/v1/jobs", {"task": "debug.echo", "input": {"payload": 1}}).json
    (done,) = submit(api.engine, new_job(tenant_id=api.principal.tenant_id))
    succeed(api.engine, claim(api.engine, done))
    feedback = api.post(f"/v1/jobs/{encode(Prefix.JOB, done)}/feedback", {"score": 0.5}).json
    batch = api.post("/v1/batches", {"jobs": [{"task": "debug.echo", "input": {"payload": 1}, "custom_id": "a"}]}).json
    whe = api.post("/v1/webhook-endpoints", {"url": "https://hooks.example.com/"}).json
    ping = api.post(whe["urls"]["test"].removeprefix("http://localhost")).json
    told = api.post("/v1/jobs", {"task": "debug.echo", "input": {"payload": 1}, "webhook": {"url": "https://hooks.example.com/"}}).json
    upload = {"data": {"file": (BytesIO(png()), "a.png")}, "headers": {"Authorization": f"Bearer {api.key}"}}
    file = api.open("/v1/files", method="POST", **upload).json
    calls = {
        "/v1/jobs": "/v1/jobs",
        "/v1/jobs/{job_id}": told["urls"]["self"],
        "/v1/jobs/{job_id}/attempts": job["urls"]["attempts"],
        "/v1/jobs/{job_id}/events": job["urls"]["events"],
        "/v1/jobs/{job_id}/feedback": feedback["urls"]["self"],
        "/v1/models/{model}/report": feedback["urls"]["report"],
        "/v1/reviews": "/v1/reviews",
        "/v1/reviews/{job_id}": f"/v1/reviews/{_in_review(api)}",
        "/v1/batches/{batch_id}": batch["urls"]["self"],
        "/v1/files": "/v1/files",
        "/v1/files/{file_id}": file["urls"]["self"],
        "/v1/tasks": "/v1/tasks",
        "/v1/tasks/{task}": "/v1/tasks/text.generation",
        "/v1/models": "/v1/models",
        "/v1/models/{model}": "/v1/models/echo",
        "/v1/queues": "/v1/queues",
        "/v1/queues/{pool}": "/v1/queues/debug",
        "/v1/webhook-endpoints": "/v1/webhook-endpoints",
        "/v1/webhook-endpoints/{endpoint_id}": whe["urls"]["self"],
        "/v1/webhook-deliveries": whe["urls"]["deliveries"],
        "/v1/webhook-deliveries/{delivery_id}": ping["urls"]["self"],
        "/v1/events": "/v1/events",
        "/healthz": "/healthz",
        "/readyz": "/readyz",
    }
    unchecked = {"/v1/batches/{batch_id}/results", "/v1/files/{file_id}/content", "/openapi.json", "/docs"}  # not JSON, or this document itself
    assert {path for path, methods in document["paths"].items() if "get" in methods} == {*calls, *unchecked}
    for path, url in calls.items():
        answer = api.get(url.removeprefix("http://localhost"))
        assert answer.status_code == 200, path
        _check(document, registry, f"{path}/get/200/application/json", answer.json)


@pytest.mark.parametrize("several", [{"consensus": {"n": 2}}, {"cascade": {}}, {"consensus": {"n": 2, "on_disagreement": "review"}}])
def test_openapi_jobs_of_several_models_have_the_shape_that_it_says(api: Api, several: dict[str, object]) -> None:
    document = api.open("/openapi.json").json
    registry = Registry().with_resource("urn:api", Resource.from_contents(document, default_specification=DRAFT202012))
    job = api.post("/v1/jobs", {"task": "text.sentiment", "input": {"text": "good"}, **several}).json
    _check(document, registry, "/v1/jobs/post/202/application/json", job)
    for job_id in (job["id"], *(child["id"] for child in job["children"] or ()), _in_review(api)):
        _check(document, registry, "/v1/jobs/{job_id}/get/200/application/json", api.get(f"/v1/jobs/{job_id}").json)


def _in_review(api: Api) -> str:
    """A job that waits for a person, as its join leaves it."""
    job = api.post("/v1/jobs", {"task": "text.sentiment", "input": {"text": "good"}, "consensus": {"n": 2}}).json
    report = {"decision": "review", "agreement": 0.5, "model": None, "leader": "vader", "method": "label_vote", "answered": ["vader"], "matrix": [[1.0]]}
    more = {"dissents": [{"model": "vader", "output": {}, "agreement": 1.0}], "failures": []}
    values = {"id": decode(Prefix.JOB, job["id"]), "tenant": api.principal.tenant_id, "report": json.dumps({**report, **more})}
    run_sql(api.engine, "INSERT INTO job_reviews (job_id, tenant_id) VALUES (:id, :tenant)", id=values["id"], tenant=values["tenant"])
    run_sql(api.engine, "UPDATE job_consensus SET report = CAST(:report AS json) WHERE job_id = :id", id=values["id"], report=values["report"])
    return str(job["id"])


def test_openapi_answers_of_webhook_actions_have_the_shape_that_it_says(api: Api) -> None:
    document = api.open("/openapi.json").json
    registry = Registry().with_resource("urn:api", Resource.from_contents(document, default_specification=DRAFT202012))
    endpoint = api.post("/v1/webhook-endpoints", {"url": "https://hooks.example.com/"}).json
    place = endpoint["urls"]["self"].removeprefix("http://localhost")
    delivery = api.post(f"{place}/test").json
    run_sql(api.engine, "UPDATE webhook_deliveries SET state = 'failed', finished_at = now()")
    answers = {
        "/v1/webhook-endpoints/post/201": endpoint,
        "/v1/webhook-endpoints/{endpoint_id}/test/post/202": delivery,
        "/v1/webhook-endpoints/{endpoint_id}/patch/200": api.patch(place, {"events": ["job.failed"], "enabled": True}).json,
        "/v1/webhook-endpoints/{endpoint_id}/rotate-secret/post/200": api.post(f"{place}/rotate-secret").json,
        "/v1/webhook-deliveries/{delivery_id}/redeliver/post/200": api.post(f"/v1/webhook-deliveries/{delivery['id']}/redeliver").json,
        "/v1/webhook-deliveries/redeliver/post/200": api.post("/v1/webhook-deliveries/redeliver", {"created_after": "2026-01-01T00:00:00Z"}).json,
    }
    for where, answer in answers.items():
        _check(document, registry, f"{where}/application/json", answer)


def test_openapi_refusals_have_the_shape_and_the_codes_that_it_says(api: Api) -> None:
    document = api.open("/openapi.json").json
    registry = Registry().with_resource("urn:api", Resource.from_contents(document, default_specification=DRAFT202012))
    job = {"task": "debug.echo", "input": {"payload": 1}}
    refused = {
        "/v1/jobs/post/422": api.post("/v1/jobs", {**job, "nonsense": 1, "priority": "x"}),
        "/v1/jobs/post/400": api.post("/v1/jobs", data=b"{", content_type="application/json"),
        "/v1/jobs/post/401": api.open("/v1/jobs", method="POST", json=job),
        "/v1/jobs/post/415": api.post("/v1/jobs", data=b"{}", content_type="text/plain"),
        "/v1/jobs/get/422": api.get("/v1/jobs?limit=0"),
        "/v1/jobs/{job_id}/get/404": api.get("/v1/jobs/nope"),
        "/v1/batches/post/422": api.post("/v1/batches", {"jobs": [{}]}),
        "/v1/queues/{pool}/get/404": api.get("/v1/queues/nope"),
        "/v1/webhook-endpoints/post/422": api.post("/v1/webhook-endpoints", {"url": "http://example.com"}),
        "/v1/events/get/410": api.get("/v1/events?after=evt_" + "0" * 26),
    }
    for place, answer in refused.items():
        assert answer.status_code == int(place[-3:]), place
        _check(document, registry, f"{place}/application/problem+json", answer.json)


def _check(document: dict[str, object], registry: Registry, place: str, value: object) -> None:
    path, method, status, kind, subtype = place.rsplit("/", 4)
    steps = ["paths", path, method, "responses", status, "content", f"{kind}/{subtype}", "schema"]
    pointer = "/".join(step.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D") for step in steps)
    schema = {"$ref": f"urn:api#/{pointer}"}
    jsonschema.Draft202012Validator(schema, registry=registry, format_checker=jsonschema.FormatChecker()).validate(value)
