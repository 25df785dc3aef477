from sqlalchemy import Engine, text

from domain.job import Status
from models.queries.lease import _OVERDUE, LapsedJob, lock_held_by, lock_lapsed, lock_overdue, renew_leases
from models.transactions import statement, unit_of_work
from tests.support.jobs import TENANT, cancel, claim, give_back, lapse_lease, look, run_sql, submit_many, succeed
from tests.support.waiting import wait_until


def hot_ratio_of_renewals(engine: Engine) -> float:
    """Renews three leases three times; how much of that stayed on its page, touching no index.

    All versions of so few fit into one page: whether old ones can be cleared away depends on what else the server runs.
    """
    run_sql(engine, "TRUNCATE jobs")
    ids = submit_many(engine, 3)

    def counts() -> tuple[int, int]:
        row = run_sql(engine, "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'jobs'")[0]
        return int(row.n_tup_upd), int(row.n_tup_hot_upd)

    before = counts()[0]
    claim(engine, *ids)
    wait_until(lambda: counts()[0] >= before + 3, what="statistics of the claim")
    updates, hot = counts()
    for _ in range(3):
        with statement(engine) as connection:
            renew_leases(connection, holdings=[(job_id, "w:1") for job_id in ids], lease_s=30.0)
    wait_until(lambda: counts()[0] >= updates + 9, what="statistics of the renewals")
    updates, hot = counts()[0] - updates, counts()[1] - hot
    return hot / updates


def test_renew_stays_hot(engine: Engine) -> None:
    assert hot_ratio_of_renewals(engine) > 0.9


def test_renew_with_the_lease_indexed_is_not_hot(engine: Engine) -> None:
    """Proves that the test before this one can fail."""
    run_sql(engine, "CREATE INDEX ON jobs (lease_expires_at)")
    assert hot_ratio_of_renewals(engine) < 0.1


def test_renew_held_job_extends_its_lease(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    claim(engine, job_id)
    lapse_lease(engine, job_id)
    with statement(engine) as connection:
        (state,) = renew_leases(connection, holdings=[(job_id, "w:1")], lease_s=30.0)
    assert (state.held, state.status, state.fence) == (True, Status.RUNNING, 1)
    assert run_sql(engine, "SELECT lease_expires_at > now() + interval '25 seconds' AS renewed FROM jobs")[0].renewed


def test_renew_what_is_no_longer_ours_says_so_and_renews_nothing(engine: Engine) -> None:
    ended, canceled, returned, taken = ids = submit_many(engine, 4)
    jobs = claim(engine, *ids)
    succeed(engine, jobs[:1])
    cancel(engine, canceled, 1)
    give_back(engine, jobs[2:])
    claim(engine, taken, owner="other:1")
    before = look(engine, taken).row.lease_expires_at
    with statement(engine) as connection:
        states = {state.id: state for state in renew_leases(connection, holdings=[(job_id, "w:1") for job_id in ids], lease_s=300.0)}
    assert not any(state.held for state in states.values())
    assert [(states[job_id].status, states[job_id].fence) for job_id in ids] == [
        (Status.SUCCEEDED, 1),
        (Status.CANCELED, 2),
        (Status.QUEUED, 2),
        (Status.RUNNING, 3),
    ]
    assert look(engine, taken).row.lease_expires_at == before
    assert {ended, returned} <= set(states)


def test_renew_skips_a_locked_row_and_renews_the_others(engine: Engine) -> None:
    locked, free = ids = submit_many(engine, 2)
    claim(engine, *ids)
    lapse_lease(engine, *ids)
    with unit_of_work(engine) as holding:
        holding.execute(text("SELECT id FROM jobs WHERE id = :id FOR UPDATE"), {"id": locked})
        with statement(engine) as connection:
            states = renew_leases(connection, holdings=[(job_id, "w:1") for job_id in ids], lease_s=30.0)
    assert all(state.held for state in states)
    lapsed = run_sql(engine, "SELECT id FROM jobs WHERE lease_expires_at < now()")
    assert [row.id for row in lapsed] == [locked]
    assert free not in {row.id for row in lapsed}


def test_lock_lapsed_gives_leases_over_their_grace_and_skips_what_is_locked(engine: Engine) -> None:
    fresh, lapsed, other = submit_many(engine, 3)
    claim(engine, fresh)
    claim(engine, lapsed)
    claim(engine, other)
    lapse_lease(engine, fresh, by_s=2)
    lapse_lease(engine, lapsed, other)
    with unit_of_work(engine) as first:
        assert lock_lapsed(first, grace_s=5.0, limit=1) == [LapsedJob(lapsed, 1, alone=True, crashes=0, model="echo", counts_for=TENANT)]
        with unit_of_work(engine) as second:
            assert [job.id for job in lock_lapsed(second, grace_s=5.0, limit=10)] == [other]


def test_lock_overdue_gives_queued_and_running_jobs_but_no_final_one(engine: Engine) -> None:
    queued, running, ended, _ = submit_many(engine, 4)
    claim(engine, running)
    succeed(engine, claim(engine, ended))
    run_sql(engine, "UPDATE jobs SET deadline_at = now() - interval '1 second' WHERE id = ANY (:ids)", ids=[queued, running, ended])
    with unit_of_work(engine) as connection:
        assert [job.id for job in lock_overdue(connection, limit=10)] == [queued, running]


def test_lock_overdue_does_not_walk_the_final_jobs(engine: Engine) -> None:
    """Most rows have a deadline in the past, so an order by id makes the planner look for them along the primary key: all of it, where none is live."""
    jobs = submit_many(engine, 400)
    run_sql(
        engine,
        """
        INSERT INTO jobs (id, tenant_id, key_id, deadline_at, finished_at, timeout_s, retention_s, max_attempts, task, model, pool, priority, status)
        SELECT gen_random_uuid(), tenant_id, key_id, now() - interval '1 day', now(), timeout_s, retention_s, max_attempts, task, model, pool, priority,
            'succeeded'
        FROM jobs, generate_series(1, 20) WHERE jobs.id = ANY (:ids)
        """,
        ids=jobs,
    )
    run_sql(engine, "ANALYZE jobs")
    with unit_of_work(engine) as connection:
        plan = "\n".join(connection.execute(text(f"EXPLAIN {_OVERDUE.text}"), {"children": False, "limit": 20}).scalars())
    assert "jobs_live" in plan
    assert "jobs_pkey" not in plan


def test_lock_held_by_takes_all_dispatches_of_the_worker_and_of_no_other(engine: Engine) -> None:
    one, two, three, four = submit_many(engine, 4)
    claim(engine, one, owner="text-1:1")
    claim(engine, two, owner="text-1:2")
    claim(engine, three, owner="text-12:1")
    claim(engine, four, owner="text-1")
    with unit_of_work(engine) as connection:
        assert [job.id for job in lock_held_by(connection, worker="text-1")] == [one, two]


def test_lock_lapsed_when_the_database_has_just_started_waits_for_the_holders(engine: Engine) -> None:
    (lapsed,) = submit_many(engine, 1)
    claim(engine, lapsed)
    lapse_lease(engine, lapsed)
    with unit_of_work(engine) as connection:
        assert lock_lapsed(connection, grace_s=5.0, settle_s=1e9, limit=1) == []
        assert [job.id for job in lock_lapsed(connection, grace_s=5.0, settle_s=0.001, limit=1)] == [lapsed]
