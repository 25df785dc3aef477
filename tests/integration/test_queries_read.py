from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from domain.job import Priority, Status
from models.identity import new_id
from models.queries.read import JobFilters, attempts_of, events_after, get_job, get_jobs, list_jobs, watch
from models.transactions import statement
from tests.support.jobs import TENANT, cancel, claim, fail, give_back, new_job, run_sql, submit, submit_many, succeed

OTHER = UUID(int=99)


def test_get_job_finished_has_input_and_output_as_they_were_written(engine: Engine) -> None:
    (job_id,) = submit(engine, new_job(input_json='{"b": 1, "a": [2.50]}', metadata_json='{"order": "42"}'))
    succeed(engine, claim(engine, job_id), output_json='{"z": 1.0, "a": null}')
    with statement(engine) as connection:
        job = get_job(connection, tenant_id=TENANT, job_id=job_id)
    assert job is not None
    assert (job.status, job.input_json, job.output_json, job.metadata_json) == (
        Status.SUCCEEDED,
        '{"b": 1, "a": [2.50]}',
        '{"z": 1.0, "a": null}',
        '{"order": "42"}',
    )
    assert (job.priority, job.attempt, job.event_seq, job.error_json) == (Priority.STANDARD, 1, 3, None)


def test_get_job_of_another_tenant_is_none(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    with statement(engine) as connection:
        assert get_job(connection, tenant_id=OTHER, job_id=job_id) is None
        assert get_jobs(connection, tenant_id=OTHER, ids=[job_id]) == []
        assert list_jobs(connection, tenant_id=OTHER, filters=JobFilters(), limit=10) == []
        assert get_job(connection, tenant_id=TENANT, job_id=new_id()) is None


def test_get_jobs_several_come_in_the_order_of_their_ids(engine: Engine) -> None:
    ids = submit_many(engine, 3)
    with statement(engine) as connection:
        jobs = get_jobs(connection, tenant_id=TENANT, ids=[ids[2], ids[0], new_id()])
    assert [job.id for job in jobs] == [ids[0], ids[2]]
    assert all(job.input_json for job in jobs)


def test_list_jobs_pages_through_all_the_newest_first(engine: Engine) -> None:
    ids = submit_many(engine, 7)
    seen: list[UUID] = []
    before: UUID | None = None
    with statement(engine) as connection:
        while page := list_jobs(connection, tenant_id=TENANT, filters=JobFilters(), before=before, limit=3):
            assert all(job.input_json is None and job.output_json is None for job in page)
            seen += [job.id for job in page]
            before = page[-1].id
    assert seen == sorted(ids, reverse=True)


NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (JobFilters(), "abcd"),
        (JobFilters(statuses=[Status.FAILED]), "b"),
        (JobFilters(statuses=[Status.FAILED, Status.QUEUED]), "bcd"),
        (JobFilters(task="text.embedding"), "c"),
        (JobFilters(task="text%"), ""),
        (JobFilters(model="minilm-l6"), "c"),
        (JobFilters(priority=Priority.FLEX), "d"),
        (JobFilters(error_code="model_error"), "b"),
        (JobFilters(error_code="' OR 1=1 --"), ""),
        (JobFilters(metadata={"order": "42"}), "ad"),
        (JobFilters(metadata={"order": "42", "env": "prod"}), "d"),
        (JobFilters(metadata={"order": "4"}), ""),
        (JobFilters(metadata={'o"r%': "x"}), "c"),
        (JobFilters(created_after=NOW - timedelta(hours=1)), "abcd"),
        (JobFilters(created_after=NOW + timedelta(hours=1)), ""),
        (JobFilters(created_before=NOW - timedelta(hours=1)), ""),
        (JobFilters(created_before=NOW + timedelta(hours=1), statuses=[Status.SUCCEEDED]), "a"),
        (JobFilters(created_after=datetime(1, 1, 1, tzinfo=UTC), created_before=datetime(9999, 12, 31, tzinfo=UTC)), "abcd"),
    ],
)
def test_list_jobs_filters_narrow(engine: Engine, filters: JobFilters, expected: str) -> None:
    fields: dict[str, dict[str, Any]] = {
        "a": {"metadata_json": '{"order": "42"}'},
        "b": {},
        "c": {"task": "text.embedding", "model": "minilm-l6", "metadata_json": '{"o\\"r%": "x"}'},
        "d": {"priority": "flex", "metadata_json": '{"order": "42", "env": "prod"}'},
    }
    jobs = {name: new_job(**given) for name, given in fields.items()}
    submit(engine, *jobs.values())
    succeed(engine, claim(engine, jobs["a"].id))
    fail(engine, claim(engine, jobs["b"].id))
    with statement(engine) as connection:
        found = {job.id for job in list_jobs(connection, tenant_id=TENANT, filters=filters, limit=10)}
    assert "".join(name for name, job in jobs.items() if job.id in found) == expected


def test_list_jobs_created_bounds_go_by_the_databases_clock(engine: Engine) -> None:
    """An id may be minutes off created_at, since another host made it; the bounds stay exact, the lower included."""
    submit_many(engine, 1)
    created_at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    run_sql(
        engine, "UPDATE jobs SET id = :id, created_at = :at", id=UUID(int=(int((created_at + timedelta(minutes=5)).timestamp() * 1000)) << 80), at=created_at
    )
    tick = timedelta(microseconds=1)
    with statement(engine) as connection:

        def count(after: datetime, before: datetime) -> int:
            return len(list_jobs(connection, tenant_id=TENANT, filters=JobFilters(created_after=after, created_before=before), limit=10))

        assert count(created_at, created_at + tick) == 1
        assert count(created_at + tick, created_at + timedelta(days=1)) == 0
        assert count(created_at - timedelta(days=1), created_at) == 0


def test_watch_says_status_and_event_and_leaves_out_what_is_gone(engine: Engine) -> None:
    queued, running = submit_many(engine, 2)
    claim(engine, running)
    with statement(engine) as connection:
        seen = {each.id: (each.status, each.event_seq) for each in watch(connection, ids=[queued, running, new_id()])}
    assert seen == {queued: (Status.QUEUED, 1), running: (Status.RUNNING, 2)}


def test_attempts_of_lists_ended_ones_and_the_one_that_runs(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    give_back(engine, claim(engine, job_id, owner="w1:1"))
    claim(engine, job_id, owner="w2:2")
    with statement(engine) as connection:
        first, second = attempts_of(connection, job_id=job_id)
    assert (first.attempt, first.worker, first.outcome, first.id is None) == (1, "w1:1", "released", False)
    assert (second.attempt, second.worker, second.outcome, second.id, second.ended_at) == (2, "w2:2", None, None, None)


def test_events_after_resumes_and_is_limited(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    give_back(engine, claim(engine, job_id))
    cancel(engine, job_id, fence=2)
    with statement(engine) as connection:
        everything = events_after(connection, job_id=job_id, after_seq=0, limit=100)
        assert [event.status for event in everything] == ["queued", "running", "queued", "canceled"]
        assert [event.seq for event in events_after(connection, job_id=job_id, after_seq=2, limit=1)] == [3]
        assert events_after(connection, job_id=job_id, after_seq=4, limit=10) == []
