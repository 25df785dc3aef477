from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import orjson
import pytest
from sqlalchemy import Engine

from domain.ids import Prefix, decode
from models.queries.batches import batch_results
from models.transactions import statement
from tests.integration.test_api_jobs import with_a_full_queue, without_echo, without_weights
from tests.support.api import Api, api_on
from tests.support.jobs import assert_promises, claim, fail, look, new_job, run_sql, submit, succeed

NDJSON = "application/x-ndjson"


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    with api_on(database_url) as api:
        yield api


def echo(payload: object = 1, **fields: object) -> dict[str, Any]:
    return {"task": "debug.echo", "input": {"payload": payload}, **fields}


def lines(*jobs: object) -> bytes:
    return b"\n".join(orjson.dumps(job) for job in jobs) + b"\n"


def path(url: str) -> str:
    return url.removeprefix("http://localhost")


def results(api: Api, batch: dict[str, Any]) -> list[dict[str, Any]]:
    answer = api.get(path(batch["urls"]["results"]))
    assert (answer.status_code, answer.content_type) == (200, NDJSON)
    return [orjson.loads(line) for line in answer.data.splitlines()]


def count(api: Api) -> int:
    return int(run_sql(api.engine, "SELECT count(*) AS jobs FROM jobs")[0].jobs)


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_batch_is_accepted_whole_and_offered_to_the_publisher(api: Api, form: str) -> None:
    jobs = [echo(place, custom_id=f"line-{place}", metadata={"n": str(place)}, priority="flex") for place in range(1_201)]
    answer = api.post("/v1/batches", {"jobs": jobs}) if form == "json" else api.post("/v1/batches", data=lines(*jobs), content_type=NDJSON)
    assert answer.status_code == 202, answer.text
    batch = answer.json
    assert (batch["object"], batch["total"], batch["counts"]["queued"], batch["finished_at"]) == ("batch", 1_201, 1_201, None)
    assert answer.headers["Location"] == batch["urls"]["self"]
    assert "Retry-After" in answer.headers
    assert api.get(path(batch["urls"]["self"])).json == batch
    assert len(api.published) == 1_201
    found = results(api, batch)
    assert [line["custom_id"] for line in found] == [f"line-{place}" for place in range(1_201)]  # the order of the input
    assert {(line["status"], line["output"], line["error"]) for line in found} == {("queued", None, None)}
    job = api.get(f"/v1/jobs/{found[7]['job_id']}").json
    assert (job["input"], job["metadata"], job["batch_id"], job["custom_id"]) == ({"payload": 7}, {"n": "7"}, batch["id"], "line-7")


def test_batch_results_say_what_each_job_gave(api: Api) -> None:
    batch = api.post("/v1/batches", {"jobs": [echo(place) for place in range(4)]}).json
    ids = [decode(Prefix.JOB, line["job_id"]) for line in results(api, batch)]
    succeed(api.engine, claim(api.engine, *(job_id for job_id in ids[:1] if job_id)), '{"payload": {"b": 1.50, "a": "é"}}')
    fail(api.engine, claim(api.engine, *(job_id for job_id in ids[1:2] if job_id)))
    succeed(api.engine, claim(api.engine, *(job_id for job_id in ids[2:3] if job_id)))
    run_sql(api.engine, "UPDATE jobs SET erased_at = now() WHERE id = :id", id=ids[2])
    run_sql(api.engine, "DELETE FROM job_outputs WHERE job_id = :id", id=ids[2])
    raw = api.get(path(batch["urls"]["results"])).data.splitlines()
    assert b'"output":{"payload": {"b": 1.50, "a": "\xc3\xa9"}}' in raw[0]  # as it was stored
    first, second, third, fourth = (orjson.loads(line) for line in raw)
    assert (first["status"], first["error"]) == ("succeeded", None)
    assert (second["status"], second["output"], second["error"]["code"]) == ("failed", None, "model_error")
    assert (third["status"], third["output"], third["error"]["code"]) == ("succeeded", None, "result_expired")
    assert fourth["status"] == "queued"
    counts = api.get(path(batch["urls"]["self"])).json["counts"]
    assert counts == {"queued": 1, "running": 0, "succeeded": 2, "failed": 1, "canceled": 0, "expired": 0}


def test_batch_is_finished_when_its_last_job_is(api: Api) -> None:
    batch = api.post("/v1/batches", {"jobs": [echo(), echo()]}).json
    ids = [job_id for line in results(api, batch) if (job_id := decode(Prefix.JOB, line["job_id"]))]
    succeed(api.engine, claim(api.engine, ids[0]))
    assert api.get(path(batch["urls"]["self"])).json["finished_at"] is None
    succeed(api.engine, claim(api.engine, ids[1]))
    done = api.get(path(batch["urls"]["self"]))
    assert done.json["finished_at"] is not None
    assert "Retry-After" not in done.headers


def test_batch_cancel_ends_what_is_left_and_nothing_else(api: Api) -> None:
    batch = api.post("/v1/batches", {"jobs": [echo(place) for place in range(1_100)]}).json
    ids = [job_id for line in results(api, batch) if (job_id := decode(Prefix.JOB, line["job_id"]))]
    succeed(api.engine, claim(api.engine, ids[0]))
    claim(api.engine, ids[1])
    (stranger,) = submit(api.engine, new_job())
    answer = api.post(path(batch["urls"]["cancel"]))
    assert answer.status_code == 200
    assert answer.json["counts"] == {"queued": 0, "running": 0, "succeeded": 1, "failed": 0, "canceled": 1_099, "expired": 0}
    assert answer.json["canceled_at"] is not None
    assert api.post(path(batch["urls"]["cancel"]), {}).json == answer.json  # again: the same
    assert look(api.engine, stranger).row.status == "queued"
    for job_id in ids[:3]:
        assert_promises(look(api.engine, job_id))
    assert results(api, batch)[1]["error"]["code"] == "canceled_by_user"


@pytest.mark.parametrize("call", ["", "/results", "/cancel"])
def test_batch_of_another_tenant_or_no_batch_is_404(api: Api, call: str) -> None:
    batch = api.post("/v1/batches", {"jobs": [echo()]}).json
    other = api.as_tenant("other")
    for url in (path(batch["urls"]["self"]), "/v1/batches/bat_00000000000000000000000000", "/v1/batches/nonsense", f"/v1/batches/{batch['id'].upper()}"):
        answer = (other.post if call == "/cancel" else other.get)(url + call)
        assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert api.get(path(batch["urls"]["self"])).json["canceled_at"] is None


def test_batch_same_key_gives_the_same_batch_in_whatever_form(api: Api) -> None:
    jobs = [echo(1), echo(2)]
    first = api.post("/v1/batches", {"jobs": jobs}, Idempotency_Key="k")
    again = api.post("/v1/batches", data=lines(*jobs), content_type=NDJSON, Idempotency_Key="k")
    assert (again.status_code, again.json["id"], again.headers["Idempotency-Replayed"]) == (202, first.json["id"], "true")
    assert again.headers["Location"] == first.headers["Location"]
    assert (count(api), len(api.published)) == (2, 2)
    reused = api.post("/v1/batches", {"jobs": [echo(3)]}, Idempotency_Key="k")
    assert (reused.status_code, reused.json["code"]) == (422, "idempotency_key_reused")
    assert api.post("/v1/jobs", echo(1), Idempotency_Key="k").status_code == 202  # another route, another key
    assert api.as_tenant("other").post("/v1/batches", {"jobs": jobs}, Idempotency_Key="k").json["id"] != first.json["id"]
    api.post(path(first.json["urls"]["cancel"]))
    assert api.post("/v1/batches", {"jobs": jobs}, Idempotency_Key="k").status_code == 200


def test_batch_key_works_again_after_a_refusal_and_after_a_day(api: Api) -> None:
    assert api.post("/v1/batches", {"jobs": [{}]}, Idempotency_Key="k").status_code == 422
    first = api.post("/v1/batches", {"jobs": [echo()]}, Idempotency_Key="k").json
    run_sql(api.engine, "UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
    second = api.post("/v1/batches", {"jobs": [echo()]}, Idempotency_Key="k").json
    assert first["id"] != second["id"]


@pytest.mark.parametrize(("changed", "code"), [(with_a_full_queue, "overloaded"), (without_weights, "model_not_installed"), (without_echo, "invalid_batch")])
def test_batch_key_replays_what_would_be_refused_now(api: Api, changed: Callable[[Engine], Api], code: str) -> None:
    first = api.post("/v1/batches", {"jobs": [echo()]}, Idempotency_Key="k")
    later = changed(api.engine)
    again = later.post("/v1/batches", data=lines(echo()), content_type=NDJSON, Idempotency_Key="k")
    assert (again.status_code, again.json["id"], again.headers["Idempotency-Replayed"]) == (202, first.json["id"], "true")
    assert later.post("/v1/batches", {"jobs": [echo(2)]}, Idempotency_Key="k").json["code"] == "idempotency_key_reused"
    assert later.post("/v1/batches", {"jobs": [echo()]}, Idempotency_Key="other").json["code"] == code
    assert later.post("/v1/batches", {"jobs": [echo()]}).json["code"] == code


def test_batch_while_the_queue_is_full_is_refused_unread(api: Api) -> None:
    api.flags.queue_is_full = True
    assert api.post("/v1/batches", data=b"{", content_type="application/json").json["code"] == "overloaded"


def test_batch_same_key_at_the_same_moment_makes_one(api: Api) -> None:
    def send(_: int) -> tuple[int, str]:
        client = api.client.application.test_client()
        answer = client.post("/v1/batches", json={"jobs": [echo()] * 50}, headers={"Authorization": f"Bearer {api.key}", "Idempotency-Key": "k"})
        return answer.status_code, orjson.loads(answer.data).get("id", "")

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(send, range(12)))
    assert {status for status, _ in answers} == {202}
    assert len({batch_id for _, batch_id in answers}) == 1
    assert count(api) == 50


BAD: list[tuple[object, list[tuple[str, str]]]] = [
    ({}, [("/jobs", "required")]),
    ({"jobs": []}, [("/jobs", "too_few")]),
    ({"jobs": {}}, [("/jobs", "wrong_type")]),
    ({"jobs": [echo()], "name": 1}, [("/name", "unknown_field")]),
    ({"jobs": [echo()] * 10_001}, [("/jobs", "too_many_items")]),
    ({"jobs": [echo(), 7, None]}, [("/jobs/1", "not_an_object"), ("/jobs/2", "not_an_object")]),
    ({"jobs": [echo(), {"task": "text.sentiment", "input": {"text": ""}}]}, [("/jobs/1/input/text", "too_short")]),
    ({"jobs": [echo(), echo(nonsense=1)]}, [("/jobs/1/nonsense", "unknown_field")]),
    ({"jobs": [{"task": "nope", "input": {}}]}, [("/jobs/0/task", "unknown_task")]),
    ({"jobs": [echo(custom_id="a"), echo(custom_id="b"), echo(custom_id="a")]}, [("/jobs/2/custom_id", "invalid_value")]),
    (
        {"jobs": [echo(custom_id=1), echo(custom_id=""), echo(custom_id="x" * 256)]},
        [(f"/jobs/{n}/custom_id", c) for n, c in enumerate(("wrong_type", "too_short", "too_long"))],
    ),
    ({"jobs": [echo(), echo("\x00")]}, [("/jobs/1/input/payload", "invalid_characters")]),
    ({"jobs": [echo(), echo("x" * 1_048_576)]}, [("/jobs/1/input", "too_long")]),
]


def test_batch_with_one_bad_job_takes_none_and_says_which(api: Api) -> None:
    for body, expected in BAD:
        answer = api.post("/v1/batches", body, Idempotency_Key="k")
        assert (answer.status_code, answer.json["code"]) == (422, "invalid_batch"), expected
        assert [(error["pointer"], error["code"]) for error in answer.json["errors"]] == expected
    assert count(api) == 0
    assert run_sql(api.engine, "SELECT 1 FROM batches") == run_sql(api.engine, "SELECT 1 FROM idempotency_keys") == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\n \n\r\n", [("/jobs", "too_few")]),
        (lines(echo()) + b"{oops\n" + lines(echo(nonsense=1)), [("/jobs/1", "invalid_json")]),
        (lines(echo()) + b"\n\n[1]\n", [("/jobs/1", "not_an_object")]),
        (lines(echo()) + b'{"task": NaN}', [("/jobs/1", "invalid_number")]),
        (lines(echo()) + b'{"task": "debug.echo", "input": {"payload": "\\u0000"}}', [("/jobs/1/input/payload", "invalid_characters")]),
        (lines(echo()) + b"\xff\xfe", [("/jobs/1", "unsupported_media_type")]),
        (lines(echo()) * 10_001, [("/jobs", "too_many_items")]),
    ],
)
def test_batch_bad_lines_are_named(api: Api, data: bytes, expected: list[tuple[str, str]]) -> None:
    answer = api.post("/v1/batches", data=data, content_type=NDJSON)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_batch")
    assert [(error["pointer"], error["code"]) for error in answer.json["errors"]] == expected


def test_batch_body_that_is_no_batch_at_all(api: Api) -> None:
    assert api.post("/v1/batches", data=b"{", content_type="application/json").json["code"] == "invalid_json"
    assert api.post("/v1/batches", data=b"x", content_type="text/plain").status_code == 415
    assert api.post("/v1/batches", [echo()]).status_code == 422
    assert api.post("/v1/batches", data=b" " * (32 * 1_048_576 + 1), content_type=NDJSON).status_code == 413
    api.flags.missing_models.add("echo")
    assert api.post("/v1/batches", {"jobs": [echo()]}).json["code"] == "model_not_installed"


def test_batch_jobs_that_start_later_are_not_offered_yet(api: Api) -> None:
    api.post("/v1/batches", {"jobs": [echo(), echo(not_before="2999-01-01T00:00:00Z", deadline_s=1)]})
    assert count(api) == 0  # not before its deadline: refused
    answer = api.post("/v1/batches", {"jobs": [echo(), echo(not_before="2000-01-01T00:00:00Z")]})
    assert (answer.status_code, len(api.published)) == (202, 2)


def test_batch_results_that_break_off_say_so(api: Api) -> None:
    batch = api.post("/v1/batches", {"jobs": [echo(place) for place in range(150)]}).json
    answer = api.open(path(batch["urls"]["results"]), headers={"Authorization": f"Bearer {api.key}"}, buffered=False)
    pages = cast("Iterator[bytes]", iter(answer.response))
    assert next(pages).count(b"\n") == 100
    run_sql(api.engine, "ALTER TABLE job_outputs RENAME TO elsewhere")  # any further look fails …
    run_sql(api.engine, "CREATE FUNCTION away() RETURNS json LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'down' USING ERRCODE = '57P01'; END $$")
    run_sql(
        api.engine, "CREATE VIEW job_outputs AS SELECT job_id, away() AS output, CAST(NULL AS uuid) AS file_id FROM job_inputs"
    )  # … as if the server were stopping
    (line,) = list(pages)
    assert orjson.loads(line)["job_id"] is None
    assert orjson.loads(line)["error"]["code"] == "service_unavailable"


def test_results_pages_are_bounded_by_bytes_and_by_number(engine: Engine) -> None:
    (batch_id,) = submit(engine, new_job())
    ids = submit(engine, *(new_job(batch_id=batch_id) for _ in range(130)))
    random = run_sql(engine, "SELECT string_agg(md5(random()::text), '') AS text FROM generate_series(1, 1000)")[0].text
    succeed(engine, claim(engine, *ids[:10]), orjson.dumps(random).decode())  # 32 KB that do not compress
    seen, sizes, after = [], [], None
    with statement(engine) as connection:
        while page := batch_results(connection, batch_id=batch_id, after=after, page_bytes=100_000):
            seen += [result.id for result in page]
            sizes.append(len(page))
            after = page[-1].id
        assert seen == ids
        assert sizes[0] <= 5
        assert max(sizes) == 100
        assert len(batch_results(connection, batch_id=batch_id, page_bytes=1)) == 1  # one job alone may have more
