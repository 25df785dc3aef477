from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

from sqlalchemy import Engine

from models.identity import new_id
from models.queries.event_feed import add_ping, store_bodies
from models.queries.events import NewEvent, append_events
from models.queries.prune import delete_empty_batches, delete_erased, delete_old_events, erase_expired, forget_idempotency_keys
from models.queries.submit import JobWebhook
from models.transactions import statement, unit_of_work
from tests.support.deliveries import deliveries, end_jobs, endpoint, record, take, tried
from tests.support.jobs import TENANT, claim, look, new_job, run_sql, submit, submit_many, succeed

DAY_S = 86_400.0


def erase(engine: Engine, limit: int = 500) -> int:
    with statement(engine) as connection:
        return erase_expired(connection, limit=limit)


def delete(engine: Engine) -> int:
    with statement(engine) as connection:
        return delete_erased(connection, kept_s=30 * DAY_S, limit=500)


def test_erase_after_retention_takes_content_and_keeps_the_row(engine: Engine) -> None:
    job_id, other = submit(engine, new_job(metadata_json='{"order": "42"}'), new_job())
    (job, _) = jobs = claim(engine, job_id, other)
    with statement(engine) as connection:
        append_events(connection, events=[NewEvent(job_id, job.fence, "output.delta", {"text": "private"})])
    succeed(engine, jobs)
    run_sql(engine, "UPDATE jobs SET expires_at = now() WHERE id = :id", id=job_id)
    assert (erase(engine), erase(engine)) == (1, 0)
    kept = look(engine, job_id)
    assert (kept.row.status, kept.row.erased_at is None, kept.outputs) == ("succeeded", False, [])
    assert run_sql(engine, "SELECT job_id FROM job_inputs") == [(other,)]
    assert [(event.type, event.data) for event in kept.events] == [("status", None), ("status", None), ("output.delta", None), ("status", None)]
    assert len(kept.attempts) == 1


def test_erase_before_retention_or_the_end_takes_nothing(engine: Engine) -> None:
    waiting, running, ended = submit_many(engine, 3, retention_s=0.001)
    claim(engine, running)
    succeed(engine, claim(engine, ended))
    run_sql(engine, "UPDATE jobs SET expires_at = now() + interval '1 minute' WHERE id = :id", id=ended)
    assert erase(engine) == 0
    assert len(run_sql(engine, "SELECT job_id FROM job_inputs")) == 3
    assert waiting


def test_erase_works_in_batches_and_pruners_do_not_meet(engine: Engine) -> None:
    ids = submit_many(engine, 60)
    succeed(engine, claim(engine, *ids))
    run_sql(engine, "UPDATE jobs SET expires_at = now()")
    with ThreadPoolExecutor(4) as pool:
        erased = list(pool.map(lambda _: erase(engine, limit=10), range(8)))
    assert max(erased) <= 10
    while part := erase(engine, limit=10):
        erased.append(part)
    assert sum(erased) == 60


def test_delete_30_days_after_erasure_takes_everything(engine: Engine) -> None:
    old, young = ids = submit_many(engine, 2)
    succeed(engine, claim(engine, *ids))
    run_sql(engine, "UPDATE jobs SET expires_at = now()")
    erase(engine)
    run_sql(engine, "UPDATE jobs SET erased_at = now() - interval '31 days' WHERE id = :id", id=old)
    assert (delete(engine), delete(engine)) == (1, 0)
    for table, column in (("jobs", "id"), ("job_attempts", "job_id"), ("job_events", "job_id")):
        assert {row[0] for row in run_sql(engine, f"SELECT {column} FROM {table}")} == {young}


def test_forget_keys_over_24_hours_old(engine: Engine) -> None:
    submit(engine, *(new_job(idempotency=(sha256(bytes([number])).digest(), bytes(32))) for number in range(3)))
    run_sql(engine, "UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key_hash <> :kept", kept=sha256(bytes([1])).digest())
    with statement(engine) as connection:
        assert forget_idempotency_keys(connection, limit=1) == 1
        assert forget_idempotency_keys(connection, limit=5) == 1
    assert [bytes(row.key_hash) for row in run_sql(engine, "SELECT key_hash FROM idempotency_keys")] == [sha256(bytes([1])).digest()]


def test_delete_batches_whose_jobs_are_gone(engine: Engine) -> None:
    empty, full, young = batches = [new_id(), new_id(), new_id()]
    for batch in batches:
        run_sql(
            engine,
            "INSERT INTO batches (id, tenant_id, key_id, total, created_at) VALUES (:id, :tenant, :tenant, 1, now() - interval '40 days')",
            id=batch,
            tenant=TENANT,
        )
    run_sql(engine, "UPDATE batches SET created_at = now() WHERE id = :id", id=young)
    submit_many(engine, 1, batch_id=full)
    with statement(engine) as connection:
        assert delete_empty_batches(connection, older_than_s=30 * DAY_S, limit=10) == 1
    assert {row.id for row in run_sql(engine, "SELECT id FROM batches")} == {full, young}
    assert empty not in {full, young}


def test_erase_takes_the_stored_bodies_of_the_jobs_events(engine: Engine) -> None:
    erased, kept = end_jobs(engine, 2)
    events = {row.job_id: row.id for row in run_sql(engine, "SELECT id, job_id FROM events")}
    with unit_of_work(engine) as connection:
        store_bodies(connection, bodies=dict.fromkeys(events.values(), b"private"))
    run_sql(engine, "UPDATE jobs SET expires_at = now() WHERE id = :id", id=erased)
    assert erase(engine) == 1
    assert {row.job_id: row.body and bytes(row.body) for row in run_sql(engine, "SELECT job_id, body FROM events")} == {erased: None, kept: b"private"}


def test_erase_waits_for_deliveries_that_are_not_over(engine: Engine) -> None:
    target = endpoint(engine, standing="good")
    first, second, third = end_jobs(engine, 3)
    run_sql(engine, "UPDATE webhook_deliveries SET available_at = now() + interval '1 hour' WHERE job_id = :id", id=third)
    of_first, of_second = take(engine, target).deliveries
    record(engine, tried(of_first))
    run_sql(engine, "UPDATE jobs SET expires_at = now()")
    assert erase(engine) == 1
    assert [row.id for row in run_sql(engine, "SELECT id FROM jobs WHERE erased_at IS NOT NULL")] == [first]
    record(engine, tried(of_second))
    assert erase(engine) == 1
    run_sql(engine, "UPDATE webhook_deliveries SET state = 'failed', finished_at = now() WHERE job_id = :id", id=third)
    assert (erase(engine), erase(engine)) == (1, 0)
    assert second != third


def test_delete_takes_events_deliveries_tries_and_the_webhook_of_the_job(engine: Engine) -> None:
    target = endpoint(engine, standing="good")
    hook = JobWebhook(url="https://example.com/x", origin="https://example.com:443")
    old, young = end_jobs(engine, 2, webhook=hook)
    record(engine, *(tried(delivery) for delivery in take(engine, target).deliveries))
    run_sql(engine, "UPDATE jobs SET erased_at = now() - interval '31 days' WHERE id = :id", id=old)
    assert delete(engine) == 1
    for table in ("job_webhooks", "events"):
        assert [row.job_id for row in run_sql(engine, f"SELECT job_id FROM {table}")] == [young]
    left = deliveries(engine)
    assert {row.job_id for row in left} == {young}
    assert len(left) == 2
    assert [row.delivery_id for row in run_sql(engine, "SELECT delivery_id FROM webhook_tries")] == [row.id for row in left if row.endpoint_id == target]


def test_delete_old_events_takes_those_of_no_job_after_their_time(engine: Engine) -> None:
    target = endpoint(engine, standing="good")
    end_jobs(engine, 1)
    with unit_of_work(engine) as connection:
        old, young = (add_ping(connection, tenant_id=TENANT, endpoint_id=target) for _ in range(2))
    record(engine, *(tried(delivery) for delivery in take(engine, target).deliveries))
    run_sql(engine, "UPDATE events SET created_at = now() - interval '31 days' WHERE job_id IS NOT NULL")
    run_sql(engine, "UPDATE events SET created_at = now() - interval '31 days' WHERE id = (SELECT event_id FROM webhook_deliveries WHERE id = :id)", id=old)

    def delete_old() -> int:
        with statement(engine) as connection:
            return delete_old_events(connection, kept_s=30 * DAY_S, limit=10)

    assert (delete_old(), delete_old()) == (1, 0)
    assert [(row.type, row.job_id is None) for row in run_sql(engine, "SELECT type, job_id FROM events ORDER BY id")] == [
        ("job.succeeded", False),
        ("ping", True),
    ]
    assert young in {row.id for row in deliveries(engine)}
    assert old not in {row.delivery_id for row in run_sql(engine, "SELECT delivery_id FROM webhook_tries")}
    assert len(run_sql(engine, "SELECT delivery_id FROM webhook_tries")) == 2
