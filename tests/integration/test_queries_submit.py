import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import orjson
import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from models.prepared import Prepared
from models.queries import submit as submit_queries
from models.queries.endpoints import origin_id
from models.queries.submit import Accepted, JobWebhook, KeyReused, NewJob, Replayed, forget_stale, originals, submit_jobs
from models.transactions import DatabaseAway, LockedRow, statement, unit_of_work
from tests.support.jobs import assert_promises, look, new_job, run_sql, submit


def keyed(key: str, body: str = "body", **fields: object) -> NewJob:
    return new_job(idempotency=(sha256(key.encode()).digest(), sha256(body.encode()).digest()), **fields)


def test_submit_several_writes_each_with_input_and_first_event(engine: Engine) -> None:
    jobs = [new_job(input_json='{"b": 1, "a": [2]}', metadata_json='{"order": "42"}'), new_job(priority="flex", custom_id="x")]
    with statement(engine) as connection:
        accepted = submit_jobs(connection, jobs=jobs)
    assert [one.id for one in accepted if one] == [job.id for job in jobs]
    for job in jobs:
        kept = look(engine, job.id)
        assert (kept.row.status, kept.row.attempt, kept.row.fence, kept.row.published_at) == ("queued", 0, 0, None)
        assert kept.statuses == ["queued"]
        assert_promises(kept)
    stored = run_sql(engine, "SELECT CAST(input AS text) AS input, metadata FROM job_inputs WHERE job_id = :id", id=jobs[0].id)[0]
    assert stored.input == '{"b": 1, "a": [2]}'  # the client's order
    assert stored.metadata == {"order": "42"}


def test_submit_not_before_ahead_delays_and_past_does_not(engine: Engine) -> None:
    ahead, past = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) - timedelta(hours=1)
    with statement(engine) as connection:
        late, now = submit_jobs(connection, jobs=[new_job(not_before=ahead), new_job(not_before=past)])
    assert isinstance(late, Accepted)
    assert isinstance(now, Accepted)
    assert late.available_at == ahead
    assert now.available_at == now.created_at


def test_submit_same_key_same_body_gives_the_first_job(engine: Engine) -> None:
    first, second = keyed("k"), keyed("k")
    assert submit(engine, first) == [first.id]
    with statement(engine) as connection:
        assert submit_jobs(connection, jobs=[second]) == [None]
        assert originals(connection, jobs=[second]) == [Replayed(first.id)]


def test_submit_same_key_other_body_is_refused(engine: Engine) -> None:
    submit(engine, keyed("k", "one"))
    with statement(engine) as connection:
        assert originals(connection, jobs=[keyed("k", "two")]) == [KeyReused()]


def test_submit_same_key_of_other_tenant_or_route_is_another_key(engine: Engine) -> None:
    jobs = [keyed("k"), keyed("k", tenant_id=new_job().id), keyed("k", route="batches")]
    assert submit(engine, *jobs) == [job.id for job in jobs]


def test_submit_same_key_twice_in_one_group_writes_one(engine: Engine) -> None:
    first, second = keyed("k"), keyed("k")
    with statement(engine) as connection:
        accepted = submit_jobs(connection, jobs=[first, second])
        answers = originals(connection, jobs=[job for job, one in zip([first, second], accepted, strict=True) if one is None])
    written = [one.id for one in accepted if one]
    assert len(written) == 1
    assert answers == [Replayed(written[0])]


def test_submit_key_over_24_hours_old_is_forgotten_and_works_again(engine: Engine) -> None:
    first, second = keyed("k"), keyed("k", "another body")
    submit(engine, first)
    run_sql(engine, "UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
    with statement(engine) as connection:
        assert originals(connection, jobs=[second]) == [None]
        forget_stale(connection, job=second)
    assert submit(engine, second) == [second.id]


def test_submit_fresh_key_is_not_forgotten(engine: Engine) -> None:
    job = keyed("k")
    submit(engine, job)
    with statement(engine) as connection:
        forget_stale(connection, job=job)
        assert originals(connection, jobs=[keyed("k")]) == [Replayed(job.id)]


def test_submit_same_key_from_20_threads_makes_one_job(engine: Engine) -> None:
    barrier = threading.Barrier(20)

    def attempt(_: int) -> object:
        job = keyed("k")
        barrier.wait()
        with statement(engine) as connection:
            written = submit_jobs(connection, jobs=[job])[0]
        if written:
            return written.id
        with statement(engine) as connection:
            replay = originals(connection, jobs=[job])[0]
        assert isinstance(replay, Replayed)
        return replay.id

    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(attempt, range(20)))
    assert len(ids) == 1
    assert run_sql(engine, "SELECT count(*) AS n FROM jobs")[0].n == 1


def test_submit_concurrent_groups_with_the_same_keys_do_not_deadlock(engine: Engine) -> None:
    """Two groups hold the same new keys in opposite orders; sorted inserts wait for each other and never in a circle.

    A trigger makes each insert of a key take 2 ms, so that the statements surely meet.
    """
    run_sql(engine, "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END $$")
    run_sql(engine, "CREATE TRIGGER slow BEFORE INSERT ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION slow()")
    group = [keyed(f"k{number}") for number in range(100)]
    mirrored = [keyed(f"k{number}") for number in reversed(range(100))]
    barrier = threading.Barrier(2)

    def attempt(jobs: list[NewJob]) -> int:
        barrier.wait()
        return len(submit(engine, *jobs))  # a deadlock is DatabaseAway

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(attempt, [group, mirrored])) == 100


def test_submit_unsorted_keys_do_deadlock(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that the test before this one can fail."""
    unsorted = submit_queries._SUBMIT.sql.replace(" ORDER BY tenant_id, route, key_hash", "")
    assert unsorted != submit_queries._SUBMIT.sql
    monkeypatch.setattr(submit_queries, "_SUBMIT", Prepared("unsorted", unsorted))
    with pytest.raises((DatabaseAway, LockedRow)):
        test_submit_concurrent_groups_with_the_same_keys_do_not_deadlock(engine)


def test_submit_two_groups_over_one_key_second_waits_for_the_first(engine: Engine) -> None:
    first, second = keyed("k"), keyed("k")
    with ThreadPoolExecutor(1) as pool, unit_of_work(engine) as connection:
        submit_jobs(connection, jobs=[first])
        waiting = pool.submit(submit, engine, second)
        assert not waiting.done()
        connection.commit()
        assert waiting.result(timeout=5) == []


@pytest.mark.parametrize("broken", [{"input_json": "{"}, {"priority": "urgent"}, {"metadata_json": "{"}])
def test_submit_one_bad_row_writes_none_of_the_group(engine: Engine, broken: dict[str, str]) -> None:
    """The submitter then runs the rows one by one."""
    good, bad = keyed("good"), keyed("bad", **broken)
    with pytest.raises(DBAPIError):
        submit(engine, good, bad)
    assert run_sql(engine, "SELECT count(*) AS n FROM jobs")[0].n == 0
    assert run_sql(engine, "SELECT count(*) AS n FROM idempotency_keys")[0].n == 0
    assert submit(engine, good) == [good.id]


def test_submit_ids_made_in_order_sort_in_order(engine: Engine) -> None:
    ids = submit(engine, *(new_job(input_json=orjson.dumps(number).decode()) for number in range(200)))
    assert ids == sorted(ids)


def hook(path: str, origin: str = "https://example.com:443", events: tuple[str, ...] | None = None) -> JobWebhook:
    return JobWebhook(url=f"https://example.com/{path}", origin=origin, events=events)


def test_submit_with_webhooks_writes_them_and_one_endpoint_an_origin(engine: Engine) -> None:
    jobs = [
        new_job(webhook=hook("a")),
        new_job(),
        new_job(webhook=hook("b", events=("job.started", "job.failed"))),
        new_job(webhook=hook("c", "https://other.example.com:443")),
        new_job(webhook=hook("d"), tenant_id=new_job().id),
    ]
    assert submit(engine, *jobs) == [job.id for job in jobs]
    rows = {row.job_id: (row.url, row.events, row.endpoint_id) for row in run_sql(engine, "SELECT * FROM job_webhooks")}
    assert rows == {
        job.id: (job.webhook.url, job.webhook.events and list(job.webhook.events), origin_id(job.tenant_id, job.webhook.origin))
        for job in jobs
        if job.webhook is not None
    }
    origins = run_sql(engine, "SELECT id, tenant_id, kind, url FROM webhook_endpoints")
    assert {(row.id, row.tenant_id, row.kind, row.url) for row in origins} == {
        (origin_id(job.tenant_id, job.webhook.origin), job.tenant_id, "origin", job.webhook.origin) for job in jobs if job.webhook is not None
    }
    assert len(origins) == 3
    submit(engine, new_job(webhook=hook("e")))
    assert len(run_sql(engine, "SELECT id FROM webhook_endpoints")) == 3


def test_submit_with_a_key_that_was_used_writes_no_second_webhook(engine: Engine) -> None:
    first, second = keyed("k", webhook=hook("a")), keyed("k", webhook=hook("b", "https://other.example.com:443"))
    assert submit(engine, first) == [first.id]
    assert submit(engine, second) == []
    assert [row.job_id for row in run_sql(engine, "SELECT job_id FROM job_webhooks")] == [first.id]
    assert len(run_sql(engine, "SELECT id FROM webhook_endpoints")) == 1


def test_submit_to_a_new_origin_by_many_at_once_makes_one(engine: Engine) -> None:
    jobs = [[new_job(webhook=hook("x", f"https://{number}.example.com:443")) for number in order] for order in ([1, 2, 3], [3, 2, 1]) * 4]
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda group: len(submit(engine, *group)), jobs))
    assert written == [3] * 8
    assert len(run_sql(engine, "SELECT id FROM webhook_endpoints")) == 3
