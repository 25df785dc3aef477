from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from models.queries.claim import held_jobs
from models.queries.submit import JobWebhook
from models.transactions import statement
from tests.support.deliveries import deliveries, endpoint
from tests.support.jobs import TENANT, assert_promises, cancel, claim, fail, give_back, lapse_lease, look, new_job, run_sql, submit, submit_many, succeed


def test_claim_queued_jobs_takes_them_all_in_one_statement(engine: Engine) -> None:
    ids = submit_many(engine, 8)
    jobs = claim(engine, *reversed(ids))
    assert [job.id for job in jobs] == ids
    assert {(job.fence, job.attempt, job.input_json) for job in jobs} == {(1, 1, '{"payload": 1}')}
    kept = look(engine, ids[0])
    assert (kept.row.status, kept.row.lease_owner, kept.row.alone, kept.statuses) == ("running", "w:1", False, ["queued", "running"])
    assert_promises(kept)


def test_claim_one_id_says_that_it_runs_alone(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    claim(engine, job_id)
    assert look(engine, job_id).row.alone


def test_claim_one_message_delivered_five_times_at_once_takes_each_job_once(engine: Engine) -> None:
    ids = submit_many(engine, 16)
    with ThreadPoolExecutor(5) as pool:
        claims = list(pool.map(lambda number: claim(engine, *ids, owner=f"w:{number}"), range(5)))
    assert sorted(job.id for jobs in claims for job in jobs) == ids
    assert {look(engine, job_id).row.attempt for job_id in ids} == {1}


def test_claim_running_job_is_never_stolen_even_after_its_lease(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    claim(engine, job_id, owner="first:1")
    lapse_lease(engine, job_id)
    assert claim(engine, job_id, owner="second:1") == []
    assert look(engine, job_id).row.lease_owner == "first:1"


@pytest.mark.parametrize("ending", ["succeeded", "failed", "canceled"])
def test_claim_late_message_after_the_end_takes_nothing(engine: Engine, ending: str) -> None:
    (job_id,) = submit_many(engine, 1)
    jobs = claim(engine, job_id)
    {"succeeded": lambda: succeed(engine, jobs), "failed": lambda: fail(engine, jobs), "canceled": lambda: cancel(engine, job_id, 1)}[ending]()
    assert claim(engine, job_id) == []
    kept = look(engine, job_id)
    assert kept.row.status == ending
    assert_promises(kept)


def test_claim_before_its_time_takes_nothing(engine: Engine) -> None:
    (job_id,) = submit(engine, new_job(not_before=datetime.now(UTC) + timedelta(hours=1)))
    assert claim(engine, job_id) == []


def test_claim_past_its_deadline_takes_nothing(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    run_sql(engine, "UPDATE jobs SET deadline_at = now() - interval '1 second'")
    assert claim(engine, job_id) == []


def test_claim_message_of_another_model_takes_nothing(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    assert claim(engine, job_id, model="other") == []


def test_claim_solo_job_only_by_a_message_for_it_alone(engine: Engine) -> None:
    one, two = submit_many(engine, 2)
    give_back(engine, claim(engine, one, two), solo=True)
    assert claim(engine, one, two) == []
    assert [job.id for job in claim(engine, one, solo=True)] == [one]


def test_claim_unknown_id_takes_the_others(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    assert [job.id for job in claim(engine, new_job().id, job_id)] == [job_id]


def test_held_jobs_gives_what_the_owner_still_holds(engine: Engine) -> None:
    one, two, three = submit_many(engine, 3)
    jobs = claim(engine, one, two, owner="w:1")
    claim(engine, three, owner="w:2")
    succeed(engine, jobs[:1])
    with statement(engine) as connection:
        held = held_jobs(connection, ids=[one, two, three], owner="w:1")
    assert [job.id for job in held] == [two]
    assert held[0] == jobs[1]


def test_claim_tells_of_the_start_those_who_asked_for_it(engine: Engine) -> None:
    asked, _ = endpoint(engine, events=("job.started", "job.failed")), endpoint(engine)
    endpoint(engine, events=("job.started",), enabled=False)
    other = new_job().id
    ids = [*submit_many(engine, 2), *submit(engine, new_job(tenant_id=other))]
    assert len(claim(engine, *ids)) == 3
    events = run_sql(engine, "SELECT id, job_id, type, tenant_id FROM events ORDER BY id")
    assert [(event.job_id, event.type, event.tenant_id) for event in events] == [(job_id, "job.started", TENANT) for job_id in ids[:2]]
    assert sorted((row.event_id, row.endpoint_id, row.type) for row in deliveries(engine)) == [(event.id, asked, "job.started") for event in events]


def test_claim_tells_of_the_start_the_jobs_own_webhook(engine: Engine) -> None:
    hooks = [JobWebhook(url=f"https://example.com/{events}", origin="https://example.com:443", events=events) for events in (None, ("job.started",))]
    ids = submit(engine, *(new_job(webhook=hook) for hook in hooks))
    claim(engine, *ids)
    assert [(row.job_id, row.type) for row in run_sql(engine, "SELECT job_id, type FROM events")] == [(ids[1], "job.started")]
    assert [(row.job_id, row.url) for row in deliveries(engine)] == [(ids[1], hooks[1].url)]


def test_claim_without_anyone_who_asked_writes_no_event(engine: Engine) -> None:
    endpoint(engine)
    claim(engine, *submit_many(engine, 3))
    assert run_sql(engine, "SELECT * FROM events") == []
