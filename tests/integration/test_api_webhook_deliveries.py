"""Webhook deliveries over HTTP: lists, tries, sending again; and the webhook of a single job."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.delivery import Again, Failed
from domain.ids import Prefix, decode, encode
from models.identity import new_id
from tests.support.api import Api, Reply, api_on, make_api
from tests.support.deliveries import end_jobs, endpoint, record, take, tried
from tests.support.jobs import claim, fail, run_sql, succeed
from tests.support.rigs import Rig, rig_of

PATH = "/v1/webhook-deliveries"
URL = "https://hooks.example.com/in"
ECHO = {"task": "debug.echo", "input": {"payload": 1}}
UNKNOWN = encode(Prefix.DELIVERY, UUID(int=1 << 100))


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    with api_on(database_url) as api:
        yield api


@pytest.fixture(scope="module")
def still_api(request: pytest.FixtureRequest, rigs: Callable[[str], Rig]) -> Iterator[Api]:
    """One for all tests that change nothing; it holds two deliveries."""
    with rigs(rig_of(request.node)).database() as url, api_on(url) as api:
        made(api, 2)
        yield api


def made(api: Api, count: int, *, endpoint_id: UUID | None = None) -> UUID:
    """Jobs that ended, each with a delivery to one endpoint; the endpoint."""
    tenant_id = api.principal.tenant_id
    endpoint_id = endpoint_id or endpoint(api.engine, tenant_id=tenant_id, standing="good")
    end_jobs(api.engine, count, tenant_id=tenant_id)
    return endpoint_id


def listed(api: Api, query: str = "") -> list[dict[str, Any]]:
    answer = api.get(f"{PATH}?{query}")
    assert answer.status_code == 200, answer.text
    deliveries: list[dict[str, Any]] = answer.json["data"]
    return deliveries


def fail_all(api: Api, endpoint_id: UUID) -> None:
    claimed = take(api.engine, endpoint_id).deliveries
    record(api.engine, *(tried(one, Failed()) for one in claimed))


def assert_refused(answer: Reply, status: int, code: str, pointer: str | None = None) -> None:
    assert (answer.status_code, answer.json["code"]) == (status, code), answer.text
    if pointer is not None:
        assert [error["pointer"] for error in answer.json["errors"]] == [pointer]


# --- looking ----------------------------------------------------------------------------------------------------------


def test_list_shows_where_each_event_goes_the_newest_first(api: Api) -> None:
    endpoint_id = made(api, 3)
    deliveries = listed(api)
    assert [one["id"] for one in deliveries] == sorted((one["id"] for one in deliveries), reverse=True)
    assert {(one["type"], one["state"], one["tries"], one["url"], one["status_code"], one["error"]) for one in deliveries} == {
        ("job.succeeded", "pending", 0, URL, None, None)
    }
    assert {one["endpoint_id"] for one in deliveries} == {encode(Prefix.ENDPOINT, endpoint_id)}
    assert len({one["event_id"] for one in deliveries}) == len({one["job_id"] for one in deliveries}) == 3
    assert all(one["next_try_at"] is not None and one["last_try_at"] is None and one["finished_at"] is None for one in deliveries)
    assert api.get(deliveries[0]["urls"]["job"].removeprefix("http://localhost")).json["id"] == deliveries[0]["job_id"]


def test_list_is_in_pages_that_keep_their_filters(api: Api) -> None:
    made(api, 5)
    seen, place = [], f"{PATH}?limit=2&state=pending"
    while place:
        answer = api.get(place)
        seen.append([one["id"] for one in answer.json["data"]])
        place = answer.headers.get("Link", "").partition("<")[2].partition(">")[0].removeprefix("http://localhost")
        assert not place or "state=pending" in place
    assert [len(page) for page in seen] == [2, 2, 1]
    assert len({one for page in seen for one in page}) == 5


def test_list_narrows_by_every_filter(api: Api) -> None:
    first = made(api, 2)
    fail_all(api, first)
    second = endpoint(api.engine, tenant_id=api.principal.tenant_id, events=("job.failed",))
    job = api.post("/v1/jobs", ECHO).json
    fail(api.engine, claim(api.engine, UUID(str(decode(Prefix.JOB, job["id"])))))
    whole = listed(api)
    assert len(whole) == 4
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+", "%2B")
    for query, count in (
        (f"endpoint_id={encode(Prefix.ENDPOINT, first)}", 3),
        (f"endpoint_id={encode(Prefix.ENDPOINT, second)}", 1),
        (f"endpoint_id={encode(Prefix.ENDPOINT, new_id())}", 0),
        (f"job_id={job['id']}", 2),
        (f"job_id={job['id']}&endpoint_id={encode(Prefix.ENDPOINT, second)}", 1),
        (f"event_id={whole[0]['event_id']}", 2),
        ("state=failed", 2),
        ("state=pending", 2),
        ("state=sending", 0),
        ("type=job.failed", 2),
        ("type=job.succeeded", 2),
        ("type=ping", 0),
        (f"created_after={later}", 0),
        (f"created_before={later}", 4),
    ):
        assert len(listed(api, query)) == count, query


def test_delivery_shows_every_try(api: Api) -> None:
    endpoint_id = made(api, 1)
    (claimed,) = take(api.engine, endpoint_id).deliveries
    record(api.engine, tried(claimed, Again(0.0), status_code=503, error="http_status", detail="503 Service Unavailable", answer="try later"))
    (claimed,) = take(api.engine, endpoint_id).deliveries
    assert listed(api)[0]["state"] == "sending"
    record(api.engine, tried(claimed))
    shown = api.get(f"{PATH}/{encode(Prefix.DELIVERY, claimed.id)}").json
    assert (shown["state"], shown["tries"], shown["status_code"], shown["error"], shown["next_try_at"]) == ("delivered", 2, 200, None, None)
    assert shown["finished_at"] >= shown["last_try_at"]
    assert [(one["number"], one["status_code"], one["error"], one["detail"], one["answer"], one["duration_ms"]) for one in shown["history"]] == [
        (1, 503, "http_status", "503 Service Unavailable", "try later", 12.5),
        (2, 200, None, None, "ok", 12.5),
    ]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/limit"),
        ("cursor=x", "/cursor"),
        ("endpoint_id=x", "/endpoint_id"),
        (f"endpoint_id={encode(Prefix.JOB, UUID(int=1 << 100))}", "/endpoint_id"),
        ("job_id=job_1", "/job_id"),
        ("event_id=%00", "/event_id"),
        ("state=sent", "/state"),
        ("state=failed&state=pending", "/state"),
        ("type=job.exploded", "/type"),
        ("created_after=yesterday", "/created_after"),
        ("tenant_id=x", "/tenant_id"),
    ],
)
def test_list_bad_parameters_are_refused_where_they_stand(still_api: Api, query: str, pointer: str) -> None:
    assert_refused(still_api.get(f"{PATH}?{query}"), 422, "invalid_filter", pointer)


# --- sending again ----------------------------------------------------------------------------------------------------


def test_redeliver_sends_the_same_event_again_from_the_start_of_the_schedule(api: Api) -> None:
    endpoint_id = made(api, 1)
    fail_all(api, endpoint_id)
    (before,) = listed(api)
    answer = api.post(f"{PATH}/{before['id']}/redeliver")
    assert answer.status_code == 200
    assert (answer.json["state"], answer.json["tries"], answer.json["event_id"]) == ("pending", 1, before["event_id"])
    (claimed,) = take(api.engine, endpoint_id).deliveries
    assert (claimed.schedule_step, encode(Prefix.EVENT, claimed.event_id)) == (0, before["event_id"])
    assert api.post(f"{PATH}/{before['id']}/redeliver").json["state"] == "sending"


def test_redeliver_to_an_endpoint_that_is_disabled_or_gone_is_refused(api: Api) -> None:
    endpoint_id = made(api, 1)
    fail_all(api, endpoint_id)
    (delivery,) = listed(api)
    place = f"/v1/webhook-endpoints/{delivery['endpoint_id']}"
    api.patch(place, {"enabled": False})
    assert_refused(api.post(f"{PATH}/{delivery['id']}/redeliver"), 409, "endpoint_disabled")
    api.patch(place, {"enabled": True})
    api.delete(place)
    assert_refused(api.post(f"{PATH}/{delivery['id']}/redeliver"), 409, "endpoint_disabled")
    assert listed(api)[0]["state"] == "failed"


def test_redeliver_range_takes_what_failed_in_it(api: Api) -> None:
    endpoint_id = made(api, 3)
    fail_all(api, endpoint_id)
    made(api, 1, endpoint_id=endpoint_id)  # not over
    (oldest,) = listed(api, "state=failed")[-1:]
    since = {"created_after": "2026-01-01T00:00:00Z"}
    assert api.post(f"{PATH}/redeliver", {**since, "created_before": oldest["created_at"]}).json == {"object": "webhook_redelivery", "count": 0, "more": False}
    assert api.post(f"{PATH}/redeliver", {**since, "endpoint_id": encode(Prefix.ENDPOINT, new_id())}).json["count"] == 0
    assert api.post(f"{PATH}/redeliver", {**since, "state": "delivered"}).json["count"] == 0
    assert api.as_tenant("other").post(f"{PATH}/redeliver", since).json["count"] == 0
    assert api.post(f"{PATH}/redeliver", {**since, "endpoint_id": encode(Prefix.ENDPOINT, endpoint_id)}).json["count"] == 3
    assert {one["state"] for one in listed(api)} == {"pending"}


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/created_after", "required"),
        ({"created_after": "yesterday"}, "/created_after", "invalid_datetime"),
        ({"created_after": "2026-01-01T00:00:00Z", "created_before": 1}, "/created_before", "wrong_type"),
        ({"created_after": "2026-01-01T00:00:00Z", "state": "pending"}, "/state", "invalid_value"),
        ({"created_after": "2026-01-01T00:00:00Z", "endpoint_id": "x"}, "/endpoint_id", "invalid_value"),
        ({"created_after": "2026-01-01T00:00:00Z", "tenant_id": "x"}, "/tenant_id", "unknown_field"),
    ],
)
def test_redeliver_range_that_is_wrong_is_named(still_api: Api, body: dict[str, Any], pointer: str, code: str) -> None:
    assert_refused(still_api.post(f"{PATH}/redeliver", body), 422, code, pointer)


def test_delivery_of_another_tenant_answers_as_an_unknown_one(still_api: Api) -> None:
    other, theirs = still_api.as_tenant("other"), listed(still_api)[0]["id"]
    for call in (other.get, lambda place: other.post(f"{place}/redeliver")):
        answer, unknown = call(f"{PATH}/{theirs}"), call(f"{PATH}/{UNKNOWN}")
        assert_refused(answer, 404, "not_found")
        assert answer.json["detail"] == unknown.json["detail"]
    assert listed(other) == []
    assert listed(other, f"endpoint_id={listed(still_api)[0]['endpoint_id']}") == []


# --- a job's own webhook ----------------------------------------------------------------------------------------------


def submit(api: Api, **webhook: Any) -> dict[str, Any]:
    answer = api.post("/v1/jobs", {**ECHO, "webhook": {"url": URL, **webhook}})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json
    return job


def uuid_of(job: dict[str, Any]) -> UUID:
    return UUID(str(decode(Prefix.JOB, job["id"])))


def state(api: Api, job: dict[str, Any]) -> Any:
    shown = api.get(f"/v1/jobs/{job['id']}").json["webhook"]
    (in_list,) = [one["webhook"] for one in api.get("/v1/jobs").json["data"] if one["id"] == job["id"]]
    assert shown == in_list
    return shown


def test_job_shows_how_its_webhook_stands_and_keeps_its_own_status(api: Api) -> None:
    job = submit(api)
    assert job["webhook"] == state(api, job) == {"state": "waiting", "tries": 0, "next_try_at": None}
    succeed(api.engine, claim(api.engine, uuid_of(job)))
    assert state(api, job)["state"] == "pending"
    (delivery,) = listed(api, f"job_id={job['id']}")
    assert delivery["url"] == URL
    endpoint_id = UUID(str(decode(Prefix.ENDPOINT, delivery["endpoint_id"])))
    (claimed,) = take(api.engine, endpoint_id).deliveries
    record(api.engine, tried(claimed, Again(60.0)))
    waiting = state(api, job)
    assert (waiting["state"], waiting["tries"]) == ("pending", 1)
    assert waiting["next_try_at"] > job["created_at"]
    run_sql(api.engine, "UPDATE webhook_deliveries SET available_at = now()")
    (claimed,) = take(api.engine, endpoint_id).deliveries
    record(api.engine, tried(claimed, Failed()))
    assert state(api, job) == {"state": "failed", "tries": 2, "next_try_at": None}
    assert api.get(f"/v1/jobs/{job['id']}").json["status"] == "succeeded"


def test_job_without_a_webhook_shows_none_though_an_endpoint_hears_of_it(api: Api) -> None:
    made(api, 0)
    job = api.post("/v1/jobs", ECHO).json
    succeed(api.engine, claim(api.engine, uuid_of(job)))
    assert (job["webhook"], state(api, job)) == (None, None)
    assert len(listed(api, f"job_id={job['id']}")) == 1


def test_job_whose_end_was_not_asked_for_has_no_delivery(api: Api) -> None:
    job = submit(api, events=["job.failed"])
    succeed(api.engine, claim(api.engine, uuid_of(job)))
    assert state(api, job) == {"state": "unwanted", "tries": 0, "next_try_at": None}
    assert listed(api) == []


def test_job_that_asks_for_its_start_gets_both_events(api: Api) -> None:
    job = submit(api, events=["job.started", "job.succeeded"])
    claimed = claim(api.engine, uuid_of(job))
    assert [one["type"] for one in listed(api)] == ["job.started"]
    succeed(api.engine, claimed)
    assert [one["type"] for one in listed(api)] == ["job.succeeded", "job.started"]


def test_job_etag_changes_with_its_webhook(api: Api) -> None:
    job = submit(api)
    succeed(api.engine, claim(api.engine, uuid_of(job)))
    tag = api.get(f"/v1/jobs/{job['id']}").headers["ETag"]
    assert api.get(f"/v1/jobs/{job['id']}", If_None_Match=tag).status_code == 304
    endpoint_id = UUID(str(decode(Prefix.ENDPOINT, listed(api)[0]["endpoint_id"])))
    record(api.engine, tried(take(api.engine, endpoint_id).deliveries[0]))
    changed = api.get(f"/v1/jobs/{job['id']}", If_None_Match=tag)
    assert (changed.status_code, changed.json["webhook"]["state"]) == (200, "delivered")


def test_job_webhook_makes_the_default_secret_once(api: Api) -> None:
    submit(api)
    submit(make_api(api.engine))  # another process
    assert run_sql(api.engine, "SELECT count(*) AS many FROM webhook_secrets WHERE endpoint_id IS NULL")[0].many == 1


def test_batch_takes_webhooks_of_its_jobs(api: Api) -> None:
    answer = api.post("/v1/batches", {"jobs": [{**ECHO, "webhook": {"url": URL}}, ECHO]})
    assert answer.status_code == 202, answer.text
    assert [job["webhook"] and job["webhook"]["state"] for job in api.get("/v1/jobs").json["data"]] == [None, "waiting"]
    assert run_sql(api.engine, "SELECT count(*) AS many FROM webhook_secrets")[0].many == 1


def test_rerun_and_replay_of_a_job_with_a_webhook(api: Api) -> None:
    body = {**ECHO, "webhook": {"url": URL}}
    job = api.post("/v1/jobs", body, Idempotency_Key="k").json
    again = api.post("/v1/jobs", body, Idempotency_Key="k")
    assert (again.headers["Idempotency-Replayed"], again.json) == ("true", job)
    rerun = api.post(f"/v1/jobs/{job['id']}/rerun").json
    assert (rerun["rerun_of"], rerun["webhook"]) == (job["id"], None)


@pytest.mark.parametrize(
    ("webhook", "pointer", "code"),
    [
        ({}, "/webhook/url", "required"),
        ("https://example.com", "/webhook", "wrong_type"),
        ({"url": URL, "events": []}, "/webhook/events", "too_few"),
        ({"url": URL, "events": ["batch.completed"]}, "/webhook/events", "invalid_value"),
        ({"url": URL, "events": ["job.failed", "job.failed"]}, "/webhook/events", "invalid_value"),
        ({"url": URL, "secret": "whsec_x"}, "/webhook/secret", "unknown_field"),
    ],
)
def test_job_webhook_that_is_wrong_is_named(still_api: Api, webhook: Any, pointer: str, code: str) -> None:
    assert_refused(still_api.post("/v1/jobs", {**ECHO, "webhook": webhook}), 422, code, pointer)
