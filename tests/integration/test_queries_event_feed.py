import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import orjson
from sqlalchemy import Engine, text

from domain.event_types import EventType
from domain.ids import Prefix, encode
from models.event_body import OUTPUT_BYTES, ensure_bodies, render_bodies
from models.identity import new_id
from models.queries.batches import NewBatch, insert_batch
from models.queries.event_feed import FeedEvent, add_ping, complete_batches, read_feed, store_bodies
from models.queries.fan_out import NewEvent, add_events
from models.transactions import statement, unit_of_work
from tests.support.deliveries import deliveries, end_jobs, endpoint
from tests.support.jobs import TENANT, claim, fail, new_job, run_sql, submit, submit_many, succeed
from tests.support.waiting import wait_until

BASE = "https://api.example.com"


def settled(engine: Engine) -> bool:
    """Whether nothing that is running, in any database of the server, keeps an event from being shown."""
    return not run_sql(engine, "SELECT FROM events WHERE xid >= pg_snapshot_xmin(pg_current_snapshot()) LIMIT 1")


def feed(engine: Engine, after: UUID | None = None, *, limit: int = 1_000, tenant_id: UUID = TENANT, settle: bool = True) -> list[FeedEvent]:
    if settle:
        wait_until(lambda: settled(engine), what="older transactions end")
    with statement(engine) as connection:
        events = read_feed(connection, tenant_id=tenant_id, after=after, limit=limit)
    assert events is not None
    return events


def test_feed_gives_every_event_in_order_page_by_page(engine: Engine) -> None:
    jobs = [job_id for _ in range(4) for job_id in end_jobs(engine, 3)]
    end_jobs(engine, 1, tenant_id=new_id())
    whole = feed(engine)
    assert [event.job_id for event in whole] == jobs
    assert {event.type for event in whole} == {"job.succeeded"}
    paged: list[FeedEvent] = []
    while page := feed(engine, paged[-1].id if paged else None, limit=5):
        paged += page
    assert paged == whole


def test_feed_after_an_unknown_event_or_anothers_is_none(engine: Engine) -> None:
    end_jobs(engine, 1)
    (event,) = feed(engine)
    with statement(engine) as connection:
        assert read_feed(connection, tenant_id=TENANT, after=new_id(), limit=10) is None
        assert read_feed(connection, tenant_id=new_id(), after=event.id, limit=10) is None
        assert read_feed(connection, tenant_id=TENANT, after=event.id, limit=10) == []


def test_feed_waits_for_a_transaction_that_began_earlier_and_skips_nothing(engine: Engine) -> None:
    with engine.connect() as slow, slow.begin() as transaction:
        slow.execute(text("SELECT pg_current_xact_id()"))
        end_jobs(engine, 2)  # a later transaction that has ended
        assert feed(engine, settle=False) == []
        slow.execute(
            text("INSERT INTO events (id, tenant_id, type) VALUES (:id, :tenant, 'ping')"),
            {"id": new_id(), "tenant": TENANT},
        )
        transaction.commit()
    assert [event.type for event in feed(engine)] == ["ping", "job.succeeded", "job.succeeded"]


def test_feed_read_while_many_write_gives_each_event_once_and_none_is_skipped(engine: Engine) -> None:
    done = threading.Event()

    def write(number: int) -> list[UUID]:
        written = []
        for turn in range(15):
            with unit_of_work(engine) as connection:
                written += add_events(connection, events=[NewEvent(TENANT, EventType.BUDGET_THRESHOLD)])
                if (turn + number) % 3 == 0:  # some transactions take longer than others
                    connection.execute(text("SELECT pg_sleep(0.01)"))
                written += add_events(connection, events=[NewEvent(TENANT, EventType.BUDGET_EXHAUSTED)])
        return written

    def read() -> list[UUID]:
        seen: list[UUID] = []
        while True:
            last = done.is_set()
            page = feed(engine, seen[-1] if seen else None, limit=7, settle=last)
            seen += [event.id for event in page]
            if last and not page:
                return seen

    with ThreadPoolExecutor(8) as pool:
        reading = pool.submit(read)
        written = [event_id for part in pool.map(write, range(6)) for event_id in part]
        done.set()
        seen = reading.result(30)
    assert len(seen) == len(set(seen))
    assert set(seen) == set(written)
    assert seen == [event.id for event in feed(engine)]


def test_bodies_are_stored_once_and_never_change(engine: Engine) -> None:
    end_jobs(engine, 2)
    first, second = (event.id for event in feed(engine))
    with unit_of_work(engine) as connection:
        assert store_bodies(connection, bodies={first: b"one"}) == {first: b"one"}
    with unit_of_work(engine) as connection:
        assert store_bodies(connection, bodies={first: b"other", second: b"two", new_id(): b"nobody"}) == {first: b"one", second: b"two"}
        assert store_bodies(connection, bodies={}) == {}
    assert [event.body for event in feed(engine)] == [b"one", b"two"]


def test_bodies_stored_by_many_at_once_are_the_same_for_all(engine: Engine) -> None:
    end_jobs(engine, 5)
    ids = [event.id for event in feed(engine)]

    def store(number: int) -> list[bytes]:
        order = ids if number % 2 else ids[::-1]
        with unit_of_work(engine) as connection:
            stored = store_bodies(connection, bodies={event_id: bytes([number]) for event_id in order})
        return [stored[event_id] for event_id in ids]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(store, range(1, 17)))
    assert all(answer == answers[0] for answer in answers)


def test_ensured_body_of_an_erased_job_is_none_rather_than_another(engine: Engine) -> None:
    erased, kept = end_jobs(engine, 2)
    run_sql(engine, "UPDATE jobs SET erased_at = now() WHERE id = :id", id=erased)
    ids = {event.job_id: event.id for event in feed(engine)}
    with unit_of_work(engine) as connection:
        assert list(ensure_bodies(connection, event_ids=list(ids.values()), base_url=BASE)) == [ids[kept]]


def test_ensured_bodies_tell_of_the_job_without_its_input(engine: Engine) -> None:
    small, large = submit_many(engine, 2)
    small_job, large_job = claim(engine, small, large)
    succeed(engine, [small_job], '{"b": 1, "a": 2}')
    succeed(engine, [large_job], orjson.dumps({"text": "x" * OUTPUT_BYTES}).decode())
    ids = [event.id for event in feed(engine)]
    with unit_of_work(engine) as connection:
        bodies = ensure_bodies(connection, event_ids=[*ids, new_id()], base_url=BASE)
    assert list(bodies) == ids
    parsed = [orjson.loads(bodies[event_id]) for event_id in ids]
    assert [body["type"] for body in parsed] == ["job.succeeded"] * 2
    assert [(body["data"]["id"], body["data"]["output"], body["data"]["output_truncated"]) for body in parsed] == [
        (encode(Prefix.JOB, small), {"b": 1, "a": 2}, False),
        (encode(Prefix.JOB, large), None, True),
    ]
    assert all("input" not in body["data"] for body in parsed)
    assert b'{"b": 1, "a": 2}' in bodies[ids[0]]  # as it is stored
    run_sql(engine, "UPDATE job_outputs SET output = '1'")
    with unit_of_work(engine) as connection:
        assert ensure_bodies(connection, event_ids=ids, base_url="https://elsewhere") == bodies
    assert [event.body for event in feed(engine)] == list(bodies.values())


def test_rendered_bodies_are_those_that_would_be_stored_and_store_nothing(engine: Engine) -> None:
    endpoint(engine, events=("job.started", "job.failed"))
    failed = submit_many(engine, 1)
    fail(engine, claim(engine, *failed))
    target = endpoint(engine)
    with unit_of_work(engine) as connection:
        add_ping(connection, tenant_id=TENANT, endpoint_id=target)
    events = feed(engine)
    assert [event.type for event in events] == ["job.started", "job.failed", "ping"]
    with statement(engine) as connection:
        rendered = render_bodies(connection, events=events, base_url=BASE)
    assert all(event.body is None for event in feed(engine))
    started, ended, ping = (orjson.loads(rendered[event.id])["data"] for event in events)
    assert (started["status"], started["finished_at"], started["error"], started["timing"]["total_ms"]) == ("running", None, None, None)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "model_error")
    assert (ping["id"], ping["object"]) == (encode(Prefix.ENDPOINT, target), "webhook_endpoint")
    with unit_of_work(engine) as connection:
        assert ensure_bodies(connection, event_ids=[event.id for event in events], base_url=BASE) == rendered


def test_bodies_of_a_job_that_is_gone_name_it(engine: Engine) -> None:
    (job_id,) = end_jobs(engine, 1)
    run_sql(engine, "DELETE FROM jobs")
    with statement(engine) as connection:
        (body,) = render_bodies(connection, events=feed(engine), base_url=BASE).values()
    assert orjson.loads(body)["data"] == {"id": encode(Prefix.JOB, job_id), "object": "job"}


def test_ping_goes_to_the_endpoint_tested_alone_whatever_its_filter(engine: Engine) -> None:
    target, other, off = endpoint(engine, events=("job.failed",)), endpoint(engine), endpoint(engine, enabled=False)
    with unit_of_work(engine) as connection:
        delivery_id = add_ping(connection, tenant_id=TENANT, endpoint_id=target)
        assert add_ping(connection, tenant_id=TENANT, endpoint_id=off) is None
        assert add_ping(connection, tenant_id=new_id(), endpoint_id=target) is None
    assert [(row.id, row.endpoint_id, row.type, row.job_id) for row in deliveries(engine)] == [(delivery_id, target, "ping", None)]
    assert [(event.type, event.endpoint_id) for event in feed(engine)] == [("ping", target)]
    assert other != off


def test_batch_without_a_live_job_completes_once_and_is_told(engine: Engine) -> None:
    target, _ = endpoint(engine), endpoint(engine, events=("job.failed",))
    batch = NewBatch(id=new_id(), tenant_id=TENANT, key_id=TENANT, total=3)
    with unit_of_work(engine) as connection:
        insert_batch(connection, batch=batch)
    ids = submit(engine, *(new_job(batch_id=batch.id) for _ in range(3)))

    def complete() -> int:
        with unit_of_work(engine) as connection:
            return complete_batches(connection, limit=10)

    assert complete() == 0
    jobs = claim(engine, *ids)
    succeed(engine, jobs[:2])
    assert complete() == 0
    fail(engine, jobs[2:])
    assert (complete(), complete()) == (1, 0)
    (event,) = [event for event in feed(engine) if event.type == "batch.completed"]
    assert event.batch_id == batch.id
    assert [row.endpoint_id for row in deliveries(engine) if row.type == "batch.completed"] == [target]
    with statement(engine) as connection:
        data = orjson.loads(render_bodies(connection, events=[event], base_url=BASE)[event.id])["data"]
    assert (data["id"], data["counts"]["succeeded"], data["counts"]["failed"]) == (encode(Prefix.BATCH, batch.id), 2, 1)
    assert data["finished_at"] is not None


def test_batches_completed_by_many_at_once_are_told_once(engine: Engine) -> None:
    for _ in range(9):
        batch = NewBatch(id=new_id(), tenant_id=TENANT, key_id=TENANT, total=1)
        with unit_of_work(engine) as connection:
            insert_batch(connection, batch=batch)
        succeed(engine, claim(engine, *submit(engine, new_job(batch_id=batch.id))))

    def complete(_: int) -> int:
        with unit_of_work(engine) as connection:
            return complete_batches(connection, limit=2)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(complete, range(12))) == 9
    assert len([event for event in feed(engine) if event.type == "batch.completed"]) == 9
