from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from domain.job import Outcome, Priority
from models.queries.relay import mark_published, sweep_lost, take_due, unmark_published
from models.transactions import statement, unit_of_work
from tests.support.jobs import FAILURE, claim, give_back, look, new_job, run_sql, submit, submit_many


def take(engine: Engine, *, limit: int = 100, fresh_s: float = 0.0) -> list[UUID]:
    with statement(engine) as connection:
        return sorted(job.id for job in take_due(connection, limit=limit, fresh_s=fresh_s))


def test_take_due_leaves_fresh_rows_to_the_api_for_two_seconds(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    assert take(engine, fresh_s=2.0) == []
    run_sql(engine, "UPDATE jobs SET created_at = now() - interval '2.1 seconds', available_at = now() - interval '2.1 seconds'")
    assert take(engine, fresh_s=2.0) == [job_id]


def test_take_due_retry_is_taken_at_once_and_not_before_its_time(engine: Engine) -> None:
    now, later = ids = submit_many(engine, 2)
    jobs = claim(engine, *ids)
    give_back(engine, jobs[:1], outcome=Outcome.FAILED, failure=FAILURE)
    give_back(engine, jobs[1:], outcome=Outcome.FAILED, failure=FAILURE, delay_s=60.0)
    assert take(engine, fresh_s=2.0) == [now]
    run_sql(engine, "UPDATE jobs SET available_at = now() WHERE id = :id", id=later)
    assert take(engine, fresh_s=2.0) == [later]


def test_take_due_not_before_ahead_is_left(engine: Engine) -> None:
    submit(engine, new_job(not_before=datetime.now(UTC) + timedelta(hours=1)))
    assert take(engine) == []


def test_take_due_from_many_relays_at_once_takes_each_job_once(engine: Engine) -> None:
    ids = submit_many(engine, 200)
    with ThreadPoolExecutor(6) as pool:
        taken = [job_id for part in pool.map(lambda _: take(engine, limit=20), range(12)) for job_id in part]
    assert len(taken) == len(set(taken))
    while part := take(engine):
        taken += part
    assert set(taken) == set(ids)


def test_take_due_takes_of_each_priority_so_that_urgent_jobs_pass_a_backlog(engine: Engine) -> None:
    submit_many(engine, 20, priority="flex")
    standard = submit_many(engine, 2)
    (urgent,) = submit_many(engine, 1, priority="interactive")
    taken = take(engine, limit=5)
    assert len(taken) == 8
    assert {*standard, urgent} < set(taken)


def test_take_due_gives_what_a_message_needs(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1, priority="interactive")
    give_back(engine, claim(engine, job_id), solo=True)
    with statement(engine) as connection:
        (due,) = take_due(connection, limit=10)
    assert (due.id, due.fence, due.pool, due.priority, due.model, due.solo) == (job_id, 2, "debug", Priority.INTERACTIVE, "echo", True)


def test_unmark_makes_jobs_due_again_unless_they_moved_on(engine: Engine) -> None:
    stays, moves = ids = submit_many(engine, 2)
    take(engine)
    give_back(engine, claim(engine, moves))
    assert take(engine) == [moves]
    with statement(engine) as connection:
        unmark_published(connection, unpublished=[(job_id, 0) for job_id in ids])
    assert take(engine) == [stays]


def test_mark_notes_what_is_still_queued_under_that_fence(engine: Engine) -> None:
    waits, runs, returned = ids = submit_many(engine, 3)
    claim(engine, runs)
    give_back(engine, claim(engine, returned))
    with statement(engine) as connection:
        mark_published(connection, published=[(job_id, 0) for job_id in ids])
    assert [look(engine, job_id).row.published_at is not None for job_id in ids] == [True, False, False]
    assert take(engine) == [returned]
    assert waits not in take(engine)


def test_mark_skips_a_locked_row(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    with unit_of_work(engine) as holding:
        holding.execute(text("SELECT id FROM jobs FOR UPDATE"))
        with statement(engine) as connection:
            mark_published(connection, published=[(job_id, 0)])
    assert take(engine) == [job_id]


def sweep(engine: Engine) -> int:
    with statement(engine) as connection:
        return sweep_lost(connection, pool="debug", priority=Priority.STANDARD)


@pytest.mark.parametrize(("publications", "patience_s"), [(1, 10), (2, 20), (3, 40), (5, 160), (6, 300), (60, 300), (100, 300)])
def test_sweep_backs_off_with_every_publication(engine: Engine, publications: int, patience_s: int) -> None:
    (job_id,) = submit_many(engine, 1)
    run_sql(engine, "UPDATE jobs SET available_at = now() - interval '1 day'")
    for age_s, expected in ((patience_s - 1, 0), (patience_s + 1, 1)):
        run_sql(engine, "UPDATE jobs SET published_at = now() - make_interval(secs => :age_s), publications = :n", age_s=age_s, n=publications)
        assert sweep(engine) == expected
    assert take(engine) == [job_id]
    assert look(engine, job_id).row.publications == min(100, publications + 1)


def test_sweep_takes_jobs_of_its_queue_that_wait_and_no_others(engine: Engine) -> None:
    lost, running, flex, later = ids = [*submit_many(engine, 2), *submit_many(engine, 1, priority="flex"), *submit_many(engine, 1)]
    claim(engine, running)
    run_sql(engine, "UPDATE jobs SET published_at = now() - interval '1 hour'")
    run_sql(engine, "UPDATE jobs SET available_at = now() + interval '1 hour' WHERE id = :id", id=later)
    assert sweep(engine) == 1
    assert [look(engine, job_id).row.published_at is None for job_id in ids] == [True, False, False, False]
    assert lost == ids[0]
    assert flex == ids[2]
