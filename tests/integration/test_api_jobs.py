import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
import psycopg2
import pytest
from sqlalchemy import Engine, event

from api.context import EXTENSION, ApiContext
from domain.catalogue import Catalogue
from domain.ids import Prefix, decode
from domain.job import Outcome
from models.queries.submit import NewJob
from settings import load_catalogue, load_settings
from tests.support.api import Api, Reply, make_api
from tests.support.jobs import claim, fail, give_back, look, run_sql, succeed
from tests.support.waiting import wait_until

ECHO: dict[str, Any] = {"task": "debug.echo", "input": {"payload": {"b": 1, "a": [1.5, "é"]}}}


@pytest.fixture
def api(engine: Engine) -> Iterator[Api]:
    api = make_api(engine)
    context_of(api).watcher.start()
    yield api
    context_of(api).watcher.stop()


def context_of(api: Api) -> ApiContext:
    context = api.client.application.extensions[EXTENSION]
    assert isinstance(context, ApiContext)
    return context


def uuid_of(job: dict[str, Any]) -> Any:
    return decode(Prefix.JOB, job["id"])


def submit(api: Api, **fields: Any) -> dict[str, Any]:
    answer = api.post("/v1/jobs", {**ECHO, **fields})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json
    return job


def path(job: dict[str, Any], suffix: str = "") -> str:
    return f"/v1/jobs/{job['id']}{suffix}"


def run(api: Api, job: dict[str, Any], output: object = None) -> None:
    succeed(api.engine, claim(api.engine, uuid_of(job)), orjson.dumps({"payload": output}).decode())


def post_beside(api: Api, body: dict[str, Any] = ECHO, **headers: str) -> Reply:
    """A submit with a client of its own, for a thread of its own."""
    given = {"Authorization": f"Bearer {api.key}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return cast("Reply", api.client.application.test_client().post("/v1/jobs", json=body, headers=given))


def in_background(action: Callable[[], Reply]) -> "Background":
    return Background(action)


class Background:
    """A request on its way, in a thread."""

    def __init__(self, action: Callable[[], Reply]) -> None:
        self._answers: list[Reply] = []
        self._thread = threading.Thread(target=lambda: self._answers.append(action()))
        self._thread.start()

    def answer(self) -> Reply:
        self._thread.join(30)
        return self._answers[0]


# --- submit -----------------------------------------------------------------------------------------------------------


def test_submit_answers_the_job_and_where_it_is(api: Api) -> None:
    answer = api.post("/v1/jobs", {**ECHO, "metadata": {"order": "42"}, "priority": "flex", "max_attempts": 5, "deadline_s": 60})
    assert answer.status_code == 202
    job = answer.json
    assert (job["object"], job["status"], job["task"], job["model"], job["priority"]) == ("job", "queued", "debug.echo", "echo", "flex")
    assert (job["input"], job["output"], job["error"], job["usage"], job["attempt"], job["max_attempts"]) == (ECHO["input"], None, None, None, 0, 5)
    assert (job["metadata"], job["cached"], job["rerun_of"], job["batch_id"]) == ({"order": "42"}, False, None, None)
    assert answer.headers["Location"] == job["urls"]["self"] == f"http://localhost/v1/jobs/{job['id']}"
    assert answer.headers["Retry-After"] == "1"
    created, deadline = (datetime.fromisoformat(job[name]) for name in ("created_at", "deadline_at"))
    assert deadline - created == timedelta(seconds=60)
    assert job["available_at"] == job["created_at"]


def test_submit_and_get_show_the_same_job(api: Api) -> None:
    job = submit(api, metadata={"z": "1", "a": "2"})
    assert api.get(path(job)).json == job


def test_submit_keeps_the_order_of_the_clients_keys(api: Api) -> None:
    answer = api.post("/v1/jobs", data=b'{"task":"debug.echo","input":{"payload":{"z":1,"a":1.50,"m":[]}}}', content_type="application/json")
    for body in (answer.text, api.get(path(answer.json)).text):
        assert '"input":{"payload":{"z":1,"a":1.5,"m":[]}}' in body


def test_submit_writes_and_publishes_it(api: Api) -> None:
    job = submit(api, priority="interactive")
    kept = look(api.engine, uuid_of(job))
    assert (kept.row.tenant_id, kept.row.key_id, kept.row.status) == (api.principal.tenant_id, api.principal.key_id, "queued")
    assert kept.statuses == ["queued"]
    assert [(str(item.queue), item.model, item.id) for item in api.published] == [("debug.interactive", "echo", uuid_of(job))]


def test_submit_not_before_waits_for_the_relay(api: Api) -> None:
    start = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    answer = api.post("/v1/jobs", {**ECHO, "not_before": start.isoformat()})
    assert datetime.fromisoformat(answer.json["available_at"]) == start
    assert answer.headers["Retry-After"] == "60"
    assert api.published == []


def test_submit_not_before_in_the_past_starts_now(api: Api) -> None:
    job = submit(api, not_before="2001-01-01T00:00:00+02:00")
    assert job["available_at"] == job["created_at"]
    assert len(api.published) == 1


def test_submit_keeps_a_trace_and_drops_a_malformed_one(api: Api) -> None:
    trace = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    for header, kept in ((trace, trace), ("nonsense", None)):
        job = api.post("/v1/jobs", ECHO, traceparent=header).json
        assert run_sql(api.engine, "SELECT traceparent FROM job_inputs WHERE job_id = :id", id=uuid_of(job))[0].traceparent == kept


def test_submit_defaults_written_out_are_accepted(api: Api) -> None:
    submit(
        api,
        model=None,
        route={"policy": "balanced", "fallbacks": True, "max_cost_usd": None},
        timeout_s=None,
        deadline_s=None,
        not_before=None,
        max_attempts=None,
        cache="use",
        webhook=None,
        metadata={},
    )


def test_submit_model_not_installed_says_what_to_run(api: Api) -> None:
    api.flags.missing_models.add("echo")
    answer = api.post("/v1/jobs", ECHO)
    assert (answer.status_code, answer.json["code"]) == (503, "model_not_installed")
    assert "millpond models pull echo" in answer.json["detail"]


def test_submit_to_an_optional_pool_that_does_not_run_says_what_brings_it(api: Api) -> None:
    """Whether the request names one of the task's models or leaves the choice to the route."""
    api.flags.missing_models.update({"whisper-base", "pocketsphinx"})
    for model in ({}, {"model": "pocketsphinx"}):
        answer = api.post("/v1/jobs", {"task": "audio.transcription", "input": {"audio": {"url": "https://example.com/a.wav"}}, **model})
        assert (answer.status_code, answer.json["code"]) == (503, "model_not_installed")
        assert "`make run POOLS=audio`" in answer.json["detail"]


def test_submit_queue_full_is_503(api: Api) -> None:
    api.flags.queue_is_full = True
    answer = api.post("/v1/jobs", ECHO)
    assert (answer.status_code, answer.json["code"], answer.json["retryable"]) == (503, "overloaded", True)
    assert int(answer.headers["Retry-After"]) >= 1


def test_submit_many_at_once_share_statements_and_each_gets_its_own_answer(api: Api) -> None:
    def one(number: int) -> tuple[int, Reply]:
        return number, post_beside(api, {"task": "debug.echo", "input": {"payload": number}})

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(one, range(200)))
    assert all(answer.status_code == 202 and answer.json["input"]["payload"] == number for number, answer in answers)
    assert len({answer.json["id"] for _, answer in answers}) == 200
    assert len({item.id for item in api.published}) == len(api.published) == 200
    transactions = run_sql(api.engine, "SELECT count(DISTINCT created_at) AS transactions, count(*) AS jobs FROM jobs")[0]
    assert transactions.jobs == 200
    assert transactions.transactions < 200


def test_database_away_is_503_and_a_held_wait_answers_what_it_knows(api: Api) -> None:
    job = submit(api)
    held = in_background(lambda: post_beside(api, Prefer="wait=30"))
    wait_until(lambda: context_of(api).watcher.held == 1, 10)
    url = api.engine.url
    server = psycopg2.connect(url.set(drivername="postgresql", database="postgres").render_as_string(hide_password=False))
    server.autocommit = True
    with closing(server), server.cursor() as cursor:
        cursor.execute(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS false')
        ours = "datname = %s AND backend_type = 'client backend'"  # nobody may end an autovacuum
        cursor.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}", (url.database,))
        started = time.monotonic()
        assert held.answer().status_code == 202  # accepted is accepted
        assert time.monotonic() - started < 10
        for answer in (api.post("/v1/jobs", ECHO), api.get(path(job)), api.post(path(job, "/cancel"))):
            assert (answer.status_code, answer.json["code"], answer.json["retryable"]) == (503, "service_unavailable", True)
            assert int(answer.headers["Retry-After"]) >= 1
        cursor.execute(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS true')
    wait_until(lambda: api.post("/v1/jobs", ECHO).status_code == 202, 10)


# --- Idempotency-Key --------------------------------------------------------------------------------------------------


def test_idempotency_same_key_and_body_replays_the_original(api: Api) -> None:
    first = api.post("/v1/jobs", ECHO, Idempotency_Key="k1")
    reordered = b'{"input": {"payload": {"a": [1.5, "\\u00e9"], "b": 1}}, "task": "debug.echo"}'
    again = api.post("/v1/jobs", data=reordered, content_type="application/json", Idempotency_Key='"k1"')
    assert (again.status_code, again.json["id"], again.headers["Idempotency-Replayed"]) == (202, first.json["id"], "true")
    assert "Idempotency-Replayed" not in first.headers
    assert len(api.published) == 1
    run(api, first.json, "done")
    final = api.post("/v1/jobs", ECHO, Idempotency_Key="k1")
    assert (final.status_code, final.json["status"], final.json["output"]) == (200, "succeeded", {"payload": "done"})
    assert run_sql(api.engine, "SELECT count(*) AS n FROM jobs")[0].n == 1


def test_idempotency_same_key_other_body_is_refused(api: Api) -> None:
    api.post("/v1/jobs", ECHO, Idempotency_Key="k1")
    answer = api.post("/v1/jobs", {**ECHO, "priority": "flex"}, Idempotency_Key="k1")
    assert (answer.status_code, answer.json["code"]) == (422, "idempotency_key_reused")


def test_idempotency_other_tenant_and_other_route_are_independent(api: Api) -> None:
    first = api.post("/v1/jobs", ECHO, Idempotency_Key="k1").json
    other = api.as_tenant("other").post("/v1/jobs", {**ECHO, "priority": "flex"}, Idempotency_Key="k1")
    assert other.status_code == 202
    rerun = api.post(path(first, "/rerun"), {}, Idempotency_Key="k1")
    assert (rerun.status_code, rerun.json["rerun_of"]) == (202, first["id"])
    assert api.post(path(first, "/rerun"), {}, Idempotency_Key="k1").json["id"] == rerun.json["id"]


def test_idempotency_key_over_a_day_old_is_new_again(api: Api) -> None:
    first = api.post("/v1/jobs", ECHO, Idempotency_Key="k1").json
    run_sql(api.engine, "UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
    again = api.post("/v1/jobs", {**ECHO, "priority": "flex"}, Idempotency_Key="k1")
    assert again.status_code == 202
    assert again.json["id"] != first["id"]
    assert api.post("/v1/jobs", {**ECHO, "priority": "flex"}, Idempotency_Key="k1").json["id"] == again.json["id"]


def without_echo(engine: Engine) -> Api:
    """The API after a release whose catalogue has lost the task."""
    whole = load_catalogue(load_settings())
    tasks = {name: task for name, task in whole.tasks.items() if name != "debug.echo"}
    return make_api(engine, catalogue=Catalogue(pools=whole.pools, tasks=tasks, models={name: whole.models[name] for name in whole.models if name != "echo"}))


def without_weights(engine: Engine) -> Api:
    api = make_api(engine)
    api.flags.missing_models.add("echo")
    return api


def with_a_full_queue(engine: Engine) -> Api:
    api = make_api(engine)
    api.flags.queue_is_full = True
    return api


@pytest.mark.parametrize(("changed", "code"), [(with_a_full_queue, "overloaded"), (without_weights, "model_not_installed"), (without_echo, "unknown_task")])
def test_idempotency_replays_what_would_be_refused_now(api: Api, changed: Callable[[Engine], Api], code: str) -> None:
    job = api.post("/v1/jobs", ECHO, Idempotency_Key="k1").json
    rerun = api.post(path(job, "/rerun"), {}, Idempotency_Key="k1").json
    later = changed(api.engine)
    for where, body, other, made in (("/v1/jobs", ECHO, {**ECHO, "priority": "flex"}, job), (path(job, "/rerun"), {}, {"model": "echo"}, rerun)):
        again = later.post(where, body, Idempotency_Key="k1")
        assert (again.status_code, again.json["id"], again.headers["Idempotency-Replayed"]) == (202, made["id"], "true")
        assert later.post(where, other, Idempotency_Key="k1").json["code"] == "idempotency_key_reused"
        assert later.post(where, body, Idempotency_Key="k2").json["code"] == later.post(where, body).json["code"] == code
    run_sql(api.engine, "UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
    assert later.post("/v1/jobs", ECHO, Idempotency_Key="k1").json["code"] == code


def test_idempotency_only_a_refusal_with_a_key_asks_for_the_original(api: Api) -> None:
    asked: list[str] = []
    event.listen(api.engine, "before_cursor_execute", lambda *call: asked.extend([call[2]] if "FROM idempotency_keys" in call[2] else []))
    api.post("/v1/jobs", ECHO, Idempotency_Key="k1")
    api.flags.queue_is_full = True
    api.post("/v1/jobs", ECHO)
    assert asked == []
    api.post("/v1/jobs", ECHO, Idempotency_Key="k2")
    assert len(asked) == 1


def test_idempotency_many_at_once_make_one_job(api: Api) -> None:
    def one(_: int) -> Reply:
        return post_beside(api, Idempotency_Key="k1")

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(64)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert run_sql(api.engine, "SELECT count(*) AS n FROM jobs")[0].n == 1


def test_idempotency_first_still_in_progress_is_409_and_holds_up_no_mate_for_good(api: Api) -> None:
    answer = api.post("/v1/jobs", ECHO, Idempotency_Key="slow")
    fingerprint = run_sql(api.engine, "SELECT * FROM idempotency_keys")[0]
    run_sql(api.engine, "DELETE FROM idempotency_keys")
    other = psycopg2.connect(api.engine.url.render_as_string(hide_password=False).replace("+psycopg2", ""))
    try:
        with other.cursor() as cursor:  # another process, in the middle of its transaction
            cursor.execute(
                "INSERT INTO idempotency_keys (tenant_id, route, key_hash, fingerprint, subject_id) VALUES (%s, 'jobs', %s, %s, %s)",
                (str(fingerprint.tenant_id), bytes(fingerprint.key_hash), bytes(fingerprint.fingerprint), str(fingerprint.subject_id)),
            )
        held = in_background(lambda: api.post("/v1/jobs", ECHO, Idempotency_Key="slow"))
        mates = [in_background(lambda: post_beside(api)) for _ in range(3)]
        refused = held.answer()
        assert (refused.status_code, refused.json["code"], refused.json["retryable"]) == (409, "idempotency_in_progress", True)
        assert refused.headers["Retry-After"] == "1"
        assert [mate.answer().status_code for mate in mates] == [202] * 3
    finally:
        other.rollback()
        other.close()
    assert answer.status_code == 202


def test_submit_row_that_cannot_be_written_hurts_no_mate(api: Api) -> None:
    """A row that the database refuses fails alone, though it shared its statement with others."""
    submitter = context_of(api).submitter
    taken = uuid_of(submit(api))
    outcomes: list[object] = []

    def new(**fields: Any) -> NewJob:
        from tests.support.jobs import new_job  # noqa: PLC0415 - beside its one use

        return new_job(tenant_id=api.principal.tenant_id, key_id=api.principal.key_id, **fields)

    def one(job: NewJob) -> None:
        try:
            outcomes.append(submitter.submit(job))
        except Exception as error:  # noqa: BLE001 - what came of it is what the test looks at
            outcomes.append(error)

    jobs = [new(id=taken), *(new() for _ in range(8))]
    threads = [threading.Thread(target=one, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sum(isinstance(outcome, Exception) for outcome in outcomes) == 1
    assert run_sql(api.engine, "SELECT count(*) AS n FROM jobs")[0].n == 9


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_wait_is_in_hand_as_long_as_it_is_held(api: Api) -> None:
    held = in_background(lambda: api.post("/v1/jobs", ECHO, Prefer="wait=20"))
    (item,) = wait_until(lambda: list(api.published), 10)
    wait_until(lambda: api.in_hand.longest_s() > 0.3, 10, what="the request to be in hand, its body read")
    succeed(api.engine, claim(api.engine, item.id), "{}")
    assert held.answer().status_code == 200
    assert api.in_hand.longest_s() == 0.0


def test_wait_on_submit_ends_when_the_job_does(api: Api) -> None:
    request = in_background(lambda: api.post("/v1/jobs", ECHO, Prefer="wait=20"))
    (item,) = wait_until(lambda: list(api.published), 10)
    succeed(api.engine, claim(api.engine, item.id), '{"payload": 7}')
    answer = request.answer()
    assert (answer.status_code, answer.json["status"], answer.json["output"]) == (200, "succeeded", {"payload": 7})
    assert answer.headers["Preference-Applied"] == "wait=20"
    assert "Retry-After" not in answer.headers
    assert answer.headers["Location"] == answer.json["urls"]["self"]
    timing = answer.json["timing"]
    assert timing["total_ms"] >= timing["queue_ms"] >= 0


def test_wait_that_runs_out_answers_202(api: Api) -> None:
    answer = api.post("/v1/jobs", ECHO, Prefer="wait=1")
    assert (answer.status_code, answer.json["status"], answer.headers["Preference-Applied"]) == (202, "queued", "wait=1")


def test_wait_on_get_and_conditional_get(api: Api) -> None:
    job = submit(api)
    first = api.get(path(job))
    assert first.headers["ETag"] == '"0-1-queued"'
    unchanged = api.get(path(job), If_None_Match=first.headers["ETag"])
    assert (unchanged.status_code, unchanged.data, unchanged.headers["ETag"], unchanged.headers["Retry-After"]) == (304, b"", first.headers["ETag"], "1")
    waiting = in_background(lambda: api.get(path(job), Prefer="wait=20", If_None_Match=first.headers["ETag"]))
    run(api, job)
    final = waiting.answer()
    assert (final.status_code, final.json["status"]) == (200, "succeeded")
    assert final.headers["ETag"] != first.headers["ETag"]
    assert "Retry-After" not in final.headers


def test_wait_on_a_final_job_answers_at_once(api: Api) -> None:
    job = submit(api)
    run(api, job)
    answer = api.get(path(job), Prefer="wait=60")
    assert (answer.status_code, answer.json["status"]) == (200, "succeeded")


def test_wait_degrades_when_as_many_are_held_as_may_be(api: Api) -> None:
    held = [in_background(lambda: post_beside(api, Prefer="wait=20")) for _ in range(8)]
    wait_until(lambda: context_of(api).watcher.held == 8, 10)
    answer = api.post("/v1/jobs", ECHO, Prefer="wait=20")
    assert (answer.status_code, "Preference-Applied" in answer.headers) == (202, False)
    assert answer.headers["Retry-After"] == "1"
    context_of(api).watcher.stop()
    assert [request.answer().status_code for request in held] == [202] * 8


# --- look, cancel, run again ------------------------------------------------------------------------------------------


def test_get_shows_a_failure_as_stored(api: Api) -> None:
    job = submit(api)
    fail(api.engine, claim(api.engine, uuid_of(job)))
    shown = api.get(path(job)).json
    assert (shown["status"], shown["error"]) == ("failed", {"code": "model_error", "message": "it failed", "retryable": True})
    assert shown["output"] is None


def test_get_a_job_that_waits_for_its_retry(api: Api) -> None:
    job = submit(api)
    give_back(api.engine, claim(api.engine, uuid_of(job)), outcome=Outcome.FAILED, delay_s=30, failure_counts=True)
    answer = api.get(path(job))
    assert (answer.json["status"], answer.json["attempt"]) == ("queued", 1)
    assert 25 <= int(answer.headers["Retry-After"]) <= 31


def test_get_after_retention_is_410(api: Api) -> None:
    job = submit(api)
    run(api, job)
    run_sql(api.engine, "UPDATE jobs SET erased_at = now()")
    for answer in (api.get(path(job)), api.post(path(job, "/rerun"))):
        assert (answer.status_code, answer.json["code"]) == (410, "result_expired")
    assert api.post(path(job, "/cancel")).json["code"] == "already_final"


@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("GET", "/attempts"), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/rerun")])
def test_another_tenants_job_is_404(api: Api, method: str, suffix: str) -> None:
    job = submit(api)
    other = api.as_tenant("other")
    unknown = {**job, "id": job["id"][:-4] + "0000"}
    answers = [other.get(path(one, suffix)) if method == "GET" else other.post(path(one, suffix)) for one in (job, unknown)]
    bodies = [{name: value for name, value in answer.json.items() if name not in ("request_id", "instance")} for answer in answers]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert bodies[0] == bodies[1]


def test_cancel_queued_and_running_is_final_at_once_and_again_the_same(api: Api) -> None:
    queued, running = submit(api), submit(api)
    (claimed,) = claim(api.engine, uuid_of(running))
    for job in (queued, running):
        answers = [api.post(path(job, "/cancel")), api.post(path(job, "/cancel"), {})]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json == answers[1].json
        assert (answers[0].json["status"], answers[0].json["error"]["code"]) == ("canceled", "canceled_by_user")
    assert succeed(api.engine, [claimed]) == set()  # the fence refuses the late result
    assert look(api.engine, uuid_of(running)).statuses == ["queued", "running", "canceled"]


def test_cancel_after_the_end_is_409(api: Api) -> None:
    job = submit(api)
    run(api, job)
    answer = api.post(path(job, "/cancel"))
    assert (answer.status_code, answer.json["code"]) == (409, "already_final")
    assert api.get(path(job)).json["status"] == "succeeded"


def test_cancel_takes_no_fields(api: Api) -> None:
    answer = api.post(path(submit(api), "/cancel"), {"why": "x"})
    assert (answer.status_code, answer.json["code"]) == (422, "unknown_field")


def test_rerun_makes_a_new_job_from_the_same_input(api: Api) -> None:
    job = submit(api, metadata={"a": "b"}, priority="flex", max_attempts=2, timeout_s=5, deadline_s=100)
    run(api, job)
    answer = api.post(path(job, "/rerun"))
    again = answer.json
    assert answer.status_code == 202
    assert again["id"] != job["id"]
    assert again["rerun_of"] == job["id"]
    for name in ("task", "model", "priority", "max_attempts", "input", "metadata"):
        assert again[name] == job[name]
    kept = look(api.engine, uuid_of(again)).row
    assert (kept.timeout_s, (kept.deadline_at - kept.created_at).total_seconds()) == (5.0, 100.0)
    assert {item.id for item in api.published} == {uuid_of(job), uuid_of(again)}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"model": "vader"}, "unknown_model"),
        ({"model": "nope"}, "unknown_model"),
        ({"input": {}}, "unknown_field"),
        ({"route": {"policy": "x"}}, "unknown_policy"),
    ],
)
def test_rerun_refuses_what_it_cannot_change(api: Api, body: dict[str, Any], code: str) -> None:
    answer = api.post(path(submit(api), "/rerun"), body)
    assert (answer.status_code, answer.json["code"]) == (422, code)


def test_attempts_show_ended_ones_and_the_one_that_runs(api: Api) -> None:
    job = submit(api)
    assert api.get(path(job, "/attempts")).json == {"data": [], "next_cursor": None}
    give_back(api.engine, claim(api.engine, uuid_of(job)), outcome=Outcome.LOST)
    claim(api.engine, uuid_of(job), owner="w:2")
    first, second = api.get(path(job, "/attempts")).json["data"]
    assert (first["number"], first["outcome"], first["worker"], first["id"][:4]) == (1, "lost", "w:1", "att_")
    assert first["timing"]["run_ms"] >= 0
    assert (second["number"], second["outcome"], second["worker"], second["ended_at"], second["id"]) == (2, None, "w:2", None, None)


# --- events -----------------------------------------------------------------------------------------------------------


def test_events_list_pages_in_order(api: Api) -> None:
    job = submit(api)
    run(api, job)
    first = api.get(path(job, "/events?limit=2"))
    assert [(event["seq"], event["status"]) for event in first.json["data"]] == [(1, "queued"), (2, "running")]
    assert first.json["next_cursor"] in first.headers["Link"]
    rest = api.get(path(job, f"/events?limit=2&cursor={first.json['next_cursor']}"))
    assert [(event["seq"], event["status"]) for event in rest.json["data"]] == [(3, "succeeded")]
    assert rest.json["next_cursor"] is None
    assert api.get(path(job, "/events?limit=0")).json["code"] == "invalid_filter"


def frames(answer: Reply) -> list[dict[str, str]]:
    blocks = [block for block in answer.text.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


def test_events_stream_follows_a_job_to_its_end(api: Api) -> None:
    job = submit(api)
    request = in_background(lambda: api.get(path(job, "/events"), Accept="text/event-stream"))
    wait_until(lambda: context_of(api).watcher.held == 1, 10)
    run(api, job, "x")
    answer = request.answer()
    assert answer.content_type.startswith("text/event-stream")
    found = frames(answer)
    assert [(frame["event"], frame["id"]) for frame in found] == [("status", "1"), ("status", "2"), ("status", "3"), ("completed", "3")]
    assert orjson.loads(found[-1]["data"]) == api.get(path(job)).json
    answer.close()
    assert context_of(api).watcher.held == 0


def test_events_stream_resumes_after_the_last_event(api: Api) -> None:
    job = submit(api)
    run(api, job)
    answer = api.get(path(job, "/events"), Accept="text/event-stream", Last_Event_ID="2")
    assert [(frame["event"], frame["id"]) for frame in frames(answer)] == [("status", "3"), ("completed", "3")]
    done = api.get(path(job, "/events"), Accept="text/event-stream", Last_Event_ID="3")
    assert [(frame["event"], frame["id"]) for frame in frames(done)] == [("completed", "3")]
    assert api.get(path(job, "/events"), Accept="text/event-stream", Last_Event_ID="x").json["code"] == "invalid_header"


def test_events_stream_beyond_the_most_held_is_503(api: Api) -> None:
    job = submit(api)
    slots = [context_of(api).watcher.watch(uuid_of(job), seen=1) for _ in range(8)]
    for slot in slots:
        slot.__enter__()
    answer = api.get(path(job, "/events"), Accept="text/event-stream")
    assert (answer.status_code, answer.json["code"]) == (503, "overloaded")
    for slot in slots:
        slot.__exit__(None, None, None)


def test_events_stream_ends_when_the_process_stops(api: Api) -> None:
    job = submit(api)
    request = in_background(lambda: api.get(path(job, "/events"), Accept="text/event-stream"))
    wait_until(lambda: context_of(api).watcher.held == 1, 10)
    context_of(api).watcher.stop()
    assert [frame["event"] for frame in frames(request.answer())] == ["status"]
