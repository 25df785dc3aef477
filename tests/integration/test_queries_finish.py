from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from domain.failures import Failure
from domain.job import Outcome, Status
from models.queries import finish
from models.queries.claim import ClaimedJob
from models.queries.events import NewEvent, append_events
from models.queries.finish import Ending, Return, finish_jobs, return_jobs
from models.queries.submit import JobWebhook
from models.transactions import statement
from tests.support.deliveries import deliveries, endpoint
from tests.support.echo_variants import FENCE, without
from tests.support.jobs import FAILURE, KEY, TENANT, assert_promises, cancel, claim, fail, give_back, look, new_job, run_sql, submit, submit_many, succeed


def stale_write_after_the_job_changed_hands(engine: Engine) -> tuple[ClaimedJob, ClaimedJob]:
    """A worker that was thought dead finishes a job that another one runs by now; returns both of them."""
    (job_id,) = submit_many(engine, 1)
    (stale,) = claim(engine, job_id, owner="dead:1")
    give_back(engine, [stale], outcome=Outcome.LOST)
    (owner,) = claim(engine, job_id, owner="new:1")
    succeed(engine, [stale], '{"payload": "stale"}')
    return stale, owner


def test_finish_succeeded_writes_output_attempt_and_event_once(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    (job,) = claim(engine, job_id)
    ending = Ending(job.id, job.fence, Status.SUCCEEDED, output_json='{"b": 1, "a": 2}', input_tokens=3, output_tokens=4, cost_usd=Decimal("0.000000001"))
    for expected in ({job_id}, set()):  # not knowing whether a commit happened, one may run it again
        with statement(engine) as connection:
            assert finish_jobs(connection, endings=[ending]) == expected
    kept = look(engine, job_id)
    assert (kept.row.status, kept.row.input_tokens, kept.row.output_tokens, kept.row.cost_usd) == ("succeeded", 3, 4, Decimal("0.000000001"))
    assert kept.row.expires_at - kept.row.finished_at == (kept.row.expires_at - kept.row.finished_at).__class__(seconds=600)
    assert run_sql(engine, "SELECT CAST(output AS text) AS output FROM job_outputs")[0].output == '{"b": 1, "a": 2}'
    assert [(attempt.outcome, attempt.worker) for attempt in kept.attempts] == [("succeeded", "w:1")]
    assert kept.statuses == ["queued", "running", "succeeded"]
    assert_promises(kept)


def test_finish_by_a_stale_owner_is_refused_by_the_fence(engine: Engine) -> None:
    _, owner = stale_write_after_the_job_changed_hands(engine)
    kept = look(engine, owner.id)
    assert (kept.row.status, kept.row.lease_owner, kept.row.fence) == ("running", "new:1", owner.fence)
    assert succeed(engine, [owner], '{"payload": "right"}') == {owner.id}
    kept = look(engine, owner.id)
    assert kept.outputs[0].output == {"payload": "right"}
    assert [attempt.outcome for attempt in kept.attempts] == ["lost", "succeeded"]
    assert_promises(kept)


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.EXPIRED])
@pytest.mark.parametrize("then", [Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.EXPIRED])
def test_finish_final_job_never_changes(engine: Engine, status: Status, then: Status) -> None:
    (job_id,) = submit_many(engine, 1)
    (job,) = claim(engine, job_id)

    def end(status: Status) -> set[object]:
        failure = None if status is Status.SUCCEEDED else FAILURE
        with statement(engine) as connection:
            return set(finish_jobs(connection, endings=[Ending(job.id, job.fence, status, output_json="1" if failure is None else None, failure=failure)]))

    assert end(status) == {job_id}
    before = look(engine, job_id)
    assert end(then) == set()
    assert look(engine, job_id) == before


@pytest.mark.parametrize("change", ["status = 'failed', error = '{}'", "finished_at = now() + interval '1 s'", "status = 'queued', finished_at = NULL"])
def test_finish_final_status_is_guarded_by_the_database_itself(engine: Engine, change: str) -> None:
    (job_id,) = submit_many(engine, 1)
    succeed(engine, claim(engine, job_id))
    with pytest.raises(IntegrityError, match="a final status never changes"):
        run_sql(engine, f"UPDATE jobs SET {change} WHERE id = :id", id=job_id)


@pytest.mark.parametrize(
    "broken",
    [
        "status = 'running'",
        "status = 'succeeded'",
        "status = 'done'",
        "status = 'failed', finished_at = now()",
        "failures = 4",
        "crashes = 4",
        "priority = 'urgent'",
    ],
)
def test_finish_impossible_rows_are_refused_by_constraints(engine: Engine, broken: str) -> None:
    submit_many(engine, 1)
    with pytest.raises(IntegrityError):
        run_sql(engine, f"UPDATE jobs SET {broken}")


def test_finish_some_of_a_batch_lost_meanwhile_ends_the_others(engine: Engine) -> None:
    ids = submit_many(engine, 8)
    jobs = claim(engine, *ids)
    cancel(engine, ids[3], jobs[3].fence)
    assert succeed(engine, jobs) == set(ids) - {ids[3]}
    assert look(engine, ids[3]).row.status == "canceled"
    for job_id in ids:
        assert_promises(look(engine, job_id))


def test_finish_cancel_of_a_running_job_bumps_the_fence_and_refuses_its_result(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    (job,) = claim(engine, job_id)
    assert cancel(engine, job_id, job.fence) == {job_id}
    assert succeed(engine, [job]) == set()
    kept = look(engine, job_id)
    assert (kept.row.status, kept.row.fence, kept.outputs) == ("canceled", job.fence + 1, [])
    assert [attempt.outcome for attempt in kept.attempts] == ["canceled"]


def test_finish_cancel_of_a_queued_job_leaves_no_attempt(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    assert cancel(engine, job_id, 0) == {job_id}
    kept = look(engine, job_id)
    assert (kept.row.status, kept.attempts, kept.statuses) == ("canceled", [], ["queued", "canceled"])


def test_finish_cancel_with_an_old_fence_is_refused(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    claim(engine, job_id)
    assert cancel(engine, job_id, 0) == set()
    assert look(engine, job_id).row.status == "running"


def test_finish_cancel_and_complete_at_once_one_wins(engine: Engine) -> None:
    ids = submit_many(engine, 40)
    jobs = claim(engine, *ids)
    with ThreadPoolExecutor(8) as pool:
        completed = [pool.submit(succeed, engine, [job]) for job in jobs]
        canceled = [pool.submit(cancel, engine, job.id, job.fence) for job in jobs]
    for job, complete, end in zip(jobs, completed, canceled, strict=True):
        assert (complete.result() == {job.id}) != (end.result() == {job.id})
        assert_promises(look(engine, job.id))


def test_return_for_a_retry_waits_and_counts(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    (job,) = claim(engine, job_id)
    assert give_back(engine, [job], outcome=Outcome.FAILED, failure=FAILURE, failure_counts=True, delay_s=60.0) == {job_id}
    kept = look(engine, job_id)
    assert (kept.row.status, kept.row.failures, kept.row.fence, kept.row.published_at, kept.row.lease_owner) == ("queued", 1, 2, None, None)
    assert 59 < (kept.row.available_at - run_sql(engine, "SELECT now() AS now")[0].now).total_seconds() <= 60
    assert kept.row.error is None
    assert [(attempt.outcome, attempt.error["code"]) for attempt in kept.attempts] == [("failed", "model_error")]
    assert claim(engine, job_id) == []
    assert_promises(kept)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [([3, 4], 7), ([None, 4], 4), ([3, None], 3), ([None, None], None), ([2**31 - 1, 5], 2**31 - 1)],
)
def test_tokens_and_cost_of_all_attempts_add_up(engine: Engine, tokens: list[int | None], expected: int | None) -> None:
    (job_id,) = submit_many(engine, 1)
    costs = [None if count is None else Decimal(count) / 100 for count in tokens]
    first, last = ({"input_tokens": count, "output_tokens": count, "cost_usd": cost} for count, cost in zip(tokens, costs, strict=True))
    (job,) = claim(engine, job_id)
    give_back(engine, [job], outcome=Outcome.FAILED, failure=FAILURE, failure_counts=True, **first)
    (job,) = claim(engine, job_id)
    with statement(engine) as connection:
        finish_jobs(connection, endings=[Ending(job.id, job.fence, Status.FAILED, failure=FAILURE, **last)])  # type: ignore[arg-type]
    row = look(engine, job_id).row
    assert (row.input_tokens, row.output_tokens) == (expected, expected)
    assert (row.cost_usd or 0) == sum(cost or 0 for cost in costs)


def test_return_released_spends_nothing(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    give_back(engine, claim(engine, job_id))
    kept = look(engine, job_id)
    assert (kept.row.failures, kept.row.crashes, kept.row.solo) == (0, 0, False)
    (again,) = claim(engine, job_id)
    assert (again.attempt, again.fence) == (2, 3)


def test_return_by_a_stale_owner_is_refused(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    (stale,) = claim(engine, job_id, owner="dead:1")
    give_back(engine, [stale])
    (owner,) = claim(engine, job_id, owner="new:1")
    assert give_back(engine, [stale]) == set()
    assert look(engine, job_id).row.fence == owner.fence


def test_return_twice_returns_once_and_writes_one_attempt(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    jobs = claim(engine, job_id)
    assert give_back(engine, jobs) == {job_id}
    assert give_back(engine, jobs) == set()
    assert_promises(look(engine, job_id))


def test_attempts_are_never_overwritten(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    seen: list[object] = []
    for number in range(1, 4):
        jobs = claim(engine, job_id, owner=f"w:{number}")
        if number < 3:
            give_back(engine, jobs, outcome=Outcome.FAILED, failure=Failure("model_error", f"number {number}", retryable=True), failure_counts=True)
        else:
            fail(engine, jobs)
        attempts = look(engine, job_id).attempts
        assert attempts[:-1] == seen
        seen = attempts
    assert [(attempt.attempt, attempt.worker, attempt.outcome) for attempt in look(engine, job_id).attempts] == [
        (1, "w:1", "failed"),
        (2, "w:2", "failed"),
        (3, "w:3", "failed"),
    ]


def test_events_of_a_running_job_are_numbered_and_a_stale_writer_adds_none(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    (stale,) = claim(engine, job_id)
    with statement(engine) as connection:
        append_events(connection, events=[NewEvent(job_id, stale.fence, "progress", {"done": number}) for number in range(3)])
    give_back(engine, [stale])
    (owner,) = claim(engine, job_id)
    with statement(engine) as connection:
        append_events(connection, events=[NewEvent(job_id, stale.fence, "progress", {"done": 99})])
        append_events(connection, events=[NewEvent(job_id, owner.fence, "log", {"line": "x"})])
    succeed(engine, [owner])
    kept = look(engine, job_id)
    assert [event.type for event in kept.events] == ["status", "status", "progress", "progress", "progress", "status", "status", "log", "status"]
    assert_promises(kept)


def test_fence_removed_lets_the_stale_write_through(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that the test of the fence can fail: without the fence the stale worker's result is what the client gets."""
    query = without(finish._FINISH_CHILDREN, *FENCE)
    monkeypatch.setattr(finish, "_FINISH_CHILDREN", query)
    _, owner = stale_write_after_the_job_changed_hands(engine)
    kept = look(engine, owner.id)
    assert kept.row.status == "succeeded"
    assert kept.outputs[0].output == {"payload": "stale"}
    with pytest.raises(AssertionError):
        test_finish_by_a_stale_owner_is_refused_by_the_fence(engine)


def test_fence_of_returns_removed_lets_the_stale_return_through(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    query = without(finish._RETURN, *FENCE)
    monkeypatch.setattr(finish, "_RETURN", query)
    with pytest.raises(AssertionError):
        test_return_by_a_stale_owner_is_refused(engine)


def test_finish_and_return_over_the_same_rows_in_any_order_do_not_deadlock(engine: Engine) -> None:
    ids = submit_many(engine, 60)

    def finish_all(reverse: bool) -> None:
        for _ in range(20):
            order = ids[::-1] if reverse else ids
            with statement(engine) as connection:
                finish_jobs(connection, endings=[Ending(job_id, 1_000, Status.FAILED, failure=FAILURE) for job_id in order])
                return_jobs(connection, returns=[Return(job_id, 1, Outcome.RELEASED) for job_id in order])
            claim(engine, *order)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(finish_all, number % 2 == 0) for number in range(8)]:
            future.result()


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.EXPIRED])
def test_finish_writes_one_public_event_a_job_and_its_deliveries_once(engine: Engine, status: Status) -> None:
    every, some = endpoint(engine), endpoint(engine, events=("job.failed", "job.expired"))
    endpoint(engine, enabled=False)
    endpoint(engine, tenant_id=KEY)
    ids = submit_many(engine, 2)
    jobs = claim(engine, *ids)
    failure = None if status is Status.SUCCEEDED else FAILURE
    endings = [Ending(job.id, job.fence, status, output_json="1" if failure is None else None, failure=failure) for job in jobs]
    for _ in range(2):  # not knowing whether a commit happened, one may run it again
        with statement(engine) as connection:
            finish_jobs(connection, endings=endings)
    events = run_sql(engine, "SELECT * FROM events ORDER BY id")
    assert [(event.job_id, event.type, event.tenant_id, event.body) for event in events] == [(job_id, f"job.{status}", TENANT, None) for job_id in ids]
    told = [every, some] if status in {Status.FAILED, Status.EXPIRED} else [every]
    assert sorted((row.event_id, row.endpoint_id) for row in deliveries(engine)) == sorted((event.id, one) for event in events for one in told)
    assert {(row.state, row.type, row.url) for row in deliveries(engine)} == {("pending", f"job.{status}", "https://hooks.example.com/in")}


def test_finish_refused_by_the_fence_tells_nobody(engine: Engine) -> None:
    endpoint(engine)
    stale_write_after_the_job_changed_hands(engine)
    assert run_sql(engine, "SELECT * FROM events") == []
    assert deliveries(engine) == []


def test_finish_delivers_to_the_jobs_own_webhook_what_it_asked_for(engine: Engine) -> None:
    default = JobWebhook(url="https://example.com/default", origin="https://example.com:443")
    picky = JobWebhook(url="https://example.com/picky", origin="https://example.com:443", events=("job.failed",))
    ids = submit(engine, new_job(webhook=default), new_job(webhook=picky), new_job())
    jobs = claim(engine, *ids)
    assert deliveries(engine) == []
    succeed(engine, jobs)
    assert [(row.job_id, row.url) for row in deliveries(engine)] == [(ids[0], default.url)]


def test_finish_by_two_at_once_writes_one_event_a_job(engine: Engine) -> None:
    endpoint(engine)
    ids = submit_many(engine, 24)
    jobs = claim(engine, *ids)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: succeed(engine, jobs), range(4)))
    assert [row.job_id for row in run_sql(engine, "SELECT job_id FROM events ORDER BY id")] == ids
    assert len(deliveries(engine)) == 24
