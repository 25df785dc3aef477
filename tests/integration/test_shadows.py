"""Shadows: a candidate runs what others answer, nobody sees it, and what it would have said is compared."""

import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from domain.catalogue import Catalogue, ShadowSpec, parse_catalogue
from domain.errors import ConfigurationError
from domain.failures import Failure
from domain.ids import Prefix, decode, encode
from domain.job import Priority, Status
from models.queries.claim import ClaimedJob
from models.queries.files import list_files
from models.queries.finish import Ending, finish_jobs
from models.queries.model_stats import live_facts
from models.transactions import make_engine, statement
from tests.support.api import Api, make_api
from tests.support.echoes import echo_catalogue_of
from tests.support.jobs import assert_promises, claim, lapse_lease, look, run_sql, succeed
from workers.maintenance.orphan_canceler import OrphanCanceler
from workers.maintenance.reaper import Reaper
from workers.maintenance.shadows import Compared, Shadows
from workers.run_counter import RunCounter

DOCUMENT = tomllib.loads((Path(__file__).resolve().parents[2] / "catalogue.toml").read_text(encoding="utf-8"))
JOB = {"task": "text.sentiment", "input": {"text": "lovely"}, "model": "vader"}
CANDIDATE = "minilm-l6-tone"
HAPPY = {"label": "positive", "score": 0.9, "scores": {"positive": 0.9, "neutral": 0.1, "negative": 0.0}}
UNHAPPY = {"label": "negative", "score": 0.9, "scores": {"positive": 0.0, "neutral": 0.1, "negative": 0.9}}


def with_shadow(model: str, share: object) -> Catalogue:
    task = {**DOCUMENT["tasks"]["text.sentiment"], "shadow": {"model": model, "share": share}}
    return parse_catalogue({**DOCUMENT, "tasks": {**DOCUMENT["tasks"], "text.sentiment": task}})


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    engine = make_engine(database_url, pool_size=8)
    yield make_api(engine, catalogue=with_shadow(CANDIDATE, 1.0))
    engine.dispose()


@pytest.fixture
def duty(api: Api) -> Shadows:
    return Shadows(api.engine, api.catalogue, every_s=1.0)


def submitted(api: Api, **changes: Any) -> tuple[UUID, list[UUID]]:
    """A job, and its shadows."""
    answer = api.post("/v1/jobs", {**JOB, **changes})
    assert answer.status_code == 202, answer.json
    job_id = decode(Prefix.JOB, answer.json["id"])
    assert job_id is not None
    return job_id, [row.id for row in run_sql(api.engine, "SELECT id FROM jobs WHERE parent_id = :id", id=job_id)]


def taken(api: Api, job_id: UUID, model: str) -> ClaimedJob:
    (job,) = claim(api.engine, job_id, model=model)
    return job


def answer(api: Api, job_id: UUID, model: str, output: Any, **usage: Any) -> None:
    job = taken(api, job_id, model)
    with statement(api.engine) as connection:
        ending = Ending(id=job.id, fence=job.fence, status=Status.SUCCEEDED, output_json=orjson.dumps(output).decode(), **usage)
        assert finish_jobs(connection, endings=[ending]) == {job_id}


def test_job_that_gives_what_the_candidate_lacks_has_none(api: Api) -> None:
    catalogue = echo_catalogue_of({"usual": {}, "new": {"lacks": ["fail_attempts"]}}, shadow={"model": "new", "share": 1.0})
    echo = make_api(api.engine, catalogue=catalogue)
    job = {"task": "debug.echo", "model": "usual"}
    assert len(submitted(echo, **job, input={"payload": 1, "fail_attempts": None})[1]) == 1
    assert submitted(echo, **job, input={"payload": 1, "fail_attempts": 1})[1] == []


def report(api: Api, model: str = CANDIDATE) -> Any:
    return api.get(f"/v1/models/{model}/report?days=1").json


def test_shadow_is_written_with_its_job_and_seen_by_nobody(api: Api) -> None:
    api.post("/v1/webhook-endpoints", {"url": "https://hooks.example.com/", "events": ["job.started", "job.succeeded"]})
    job_id, (shadow_id,) = submitted(api, webhook={"url": "https://hooks.example.com/"}, metadata={"a": "b"}, priority="interactive", max_attempts=5)
    row = look(api.engine, shadow_id).row
    assert (row.model, row.priority, row.max_attempts, row.child_role) == (CANDIDATE, "flex", 1, "shadow")
    assert [(each.id, each.model, each.queue.priority) for each in api.published] == [
        (job_id, "vader", Priority.INTERACTIVE),
        (shadow_id, CANDIDATE, Priority.FLEX),
    ]
    answer(api, shadow_id, CANDIDATE, HAPPY)
    assert_promises(look(api.engine, shadow_id))
    assert [job["model"] for job in api.get("/v1/jobs").json["data"]] == ["vader"]
    assert look(api.engine, job_id).row.status == "queued", "nobody waits for a shadow, and nobody is counted down by it"
    for table in ("events", "webhook_deliveries"):
        assert run_sql(api.engine, f"SELECT FROM {table} WHERE job_id = :id", id=shadow_id) == []


def test_files_that_a_shadow_reads_are_kept_for_it_and_those_that_it_gives_are_seen_by_nobody(api: Api, duty: Shadows) -> None:
    job_id, (shadow_id,) = submitted(api)
    run_sql(api.engine, "INSERT INTO job_files (job_id, file_id) VALUES (:id, :id)", id=shadow_id)
    for each, model in ((job_id, "vader"), (shadow_id, CANDIDATE)):
        run_sql(
            api.engine,
            """
            INSERT INTO files (id, tenant_id, job_id, fence, expires_at, size_bytes, state, object_key, content_type, sha256)
            VALUES (:id, :tenant_id, :id, 1, now() + interval '1 hour', 1, 'ready', 'k', 'audio/wav', 'x')
            """,
            id=each,
            tenant_id=api.principal.tenant_id,
        )
        answer(api, each, model, HAPPY)
    with statement(api.engine) as connection:
        assert [file.job_id for file in list_files(connection, tenant_id=api.principal.tenant_id, before=None, limit=9)] == [job_id]
    duty.run_once()
    assert run_sql(api.engine, "SELECT FROM job_files") == []


def test_shadow_is_of_jobs_that_run_now_and_on_other_models(api: Api) -> None:
    assert submitted(api, model=CANDIDATE)[1] == []
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert submitted(api, not_before=soon)[1] == []
    api.flags.missing_models.add(CANDIDATE)
    assert submitted(api)[1] == []


def test_shadow_of_a_batch_and_of_a_replay(api: Api) -> None:
    assert [api.post("/v1/jobs", JOB, Idempotency_Key="k").status_code for _ in range(2)] == [202, 202]
    assert api.post("/v1/batches", {"jobs": [JOB, JOB]}).status_code == 202
    (counted,) = run_sql(
        api.engine, "SELECT count(*) FILTER (WHERE parent_id IS NULL) AS jobs, count(parent_id) AS shadows, count(batch_id) AS batched FROM jobs"
    )
    assert tuple(counted) == (3, 3, 2)


def test_comparison_is_kept_once_and_shown_to_the_tenant_of_the_job(api: Api, duty: Shadows) -> None:
    for output in (HAPPY, HAPPY, UNHAPPY):
        job_id, (shadow_id,) = submitted(api)
        answer(api, shadow_id, CANDIDATE, output, input_tokens=4, output_tokens=0, cost_usd="0.25")
        assert duty.run_once() == Compared(), "its job has not ended"
        answer(api, job_id, "vader", HAPPY, cost_usd="0.5")
        assert duty.run_once() == Compared(1)
        assert duty.run_once() == Compared()
        for table in ("job_inputs", "job_outputs", "job_attempts", "job_events"):
            assert run_sql(api.engine, f"SELECT FROM {table} WHERE job_id = :id", id=shadow_id) == []
    assert run_sql(api.engine, "SELECT FROM jobs WHERE parent_id IS NOT NULL") == []
    shown = report(api)["total"]["shadow"]
    assert {name: shown[name] for name in ("jobs", "compared", "agreement", "failed", "cost_usd", "primary_cost_usd")} == {
        "jobs": 3, "compared": 3, "agreement": 0.6667, "failed": 0, "cost_usd": "0.75", "primary_cost_usd": "1.5",
    }  # fmt: skip
    assert shown["run_p50_ms"] > 0
    assert [day["shadow"] for day in report(api)["days"]] == [shown]
    assert (report(api)["total"]["jobs"], report(api)["total"]["cost_usd"]) == (0, "0")
    assert report(api, "vader")["total"]["shadow"] is None
    assert report(api.as_tenant("other"))["total"]["shadow"] is None


def test_comparison_of_what_failed_says_so(api: Api, duty: Shadows) -> None:
    job_id, (shadow_id,) = submitted(api)
    job = taken(api, shadow_id, CANDIDATE)
    with statement(api.engine) as connection:
        failure = Failure("model_error", "no", retryable=True)
        finish_jobs(connection, endings=[Ending(id=job.id, fence=job.fence, status=Status.FAILED, failure=failure, failure_counts=True)])
    succeed(api.engine, [taken(api, job_id, "vader")], orjson.dumps(HAPPY).decode())
    assert duty.run_once() == Compared(1)
    shown = report(api)["total"]["shadow"]
    assert (shown["jobs"], shown["compared"], shown["agreement"], shown["failed"], shown["primary_failed"], shown["run_p50_ms"]) == (1, 0, None, 1, 0, None)


def test_shadow_of_a_canceled_job_is_canceled_too_and_says_nothing(api: Api, duty: Shadows) -> None:
    canceler = OrphanCanceler(api.engine, every_s=1.0)
    answered, canceled = submitted(api), submitted(api)
    answer(api, answered[0], "vader", HAPPY)
    api.post(f"/v1/jobs/{encode(Prefix.JOB, canceled[0])}/cancel")
    assert canceler.run_once().jobs == 1
    assert [look(api.engine, shadow).row.status for (shadow,) in (answered[1], canceled[1])] == ["queued", "canceled"]
    assert duty.run_once() == Compared(1)
    assert run_sql(api.engine, "SELECT FROM shadow_comparisons") == []
    assert report(api)["total"]["shadow"] is None


def test_runs_of_a_shadow_are_the_models_and_no_tenants(api: Api) -> None:
    job_id, (shadow_id,) = submitted(api)
    shadow, job = taken(api, shadow_id, CANDIDATE), taken(api, job_id, "vader")
    assert (shadow.counts_for, job.counts_for) == (None, api.principal.tenant_id)
    lapse_lease(api.engine, shadow_id)
    Reaper(api.engine, grace_s=5.0, every_s=1.0).run_once()
    runs = RunCounter(api.engine)
    runs.count(CANDIDATE, [(None, Ending(id=shadow_id, fence=1, status=Status.SUCCEEDED))], run_ms=1.0)
    runs.flush()
    with statement(api.engine) as connection:
        assert live_facts(connection)[CANDIDATE].runs == 2
    assert run_sql(api.engine, "SELECT FROM model_days") == []


@pytest.mark.parametrize(("share", "expected"), [(0.05, 500), (0.5, 5_000), (1.0, 10_000)])
def test_share_is_of_the_inputs_and_always_the_same_ones(share: float, expected: int) -> None:
    keys = [number.to_bytes(4) for number in range(10_000)]
    took = [ShadowSpec(model="a", share=share).takes(key) for key in keys]
    assert sum(took) == pytest.approx(expected, abs=200)
    assert took == [ShadowSpec(model="a", share=share).takes(key) for key in keys]
    assert share == 1.0 or took != [ShadowSpec(model="b", share=share).takes(key) for key in keys], "another candidate is tried on other inputs"


@pytest.mark.parametrize(("model", "share"), [("vader", 0.1), ("lid176", 0.1), ("nobody", 0.1), (CANDIDATE, 0), (CANDIDATE, 1.1)])
def test_catalogue_refuses_a_shadow_that_cannot_be(model: str, share: float) -> None:
    with pytest.raises(ConfigurationError, match=r"tasks\.text\.sentiment\.shadow"):
        with_shadow(model, share)
