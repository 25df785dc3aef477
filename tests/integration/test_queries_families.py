"""Parents and children: written together, counted down once for each child, hidden from everyone who did not ask for them."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from domain.job import ChildRole, Outcome, Status
from models.identity import new_id
from models.queries.finish import Ending, finish_jobs
from models.queries.prune import erase_expired
from models.queries.queues import lane_loads
from models.queries.read import JobFilters, list_jobs
from models.queries.submit import NewJob, submit_jobs
from models.transactions import statement, unit_of_work
from tests.support.jobs import FAILURE, TENANT, assert_promises, cancel, claim, fail, give_back, lapse_lease, look, new_job, run_sql, submit, succeed
from workers.maintenance.reaper import Reaper


def family(children: int = 2, *, shadows: int = 0, **fields: Any) -> NewJob:
    """A parent with children to be joined, and others that nobody waits for."""
    roles = [ChildRole.CONSENSUS] * children + [ChildRole.SHADOW] * shadows
    parent = new_job(model="join", pool="join", consensus_json='{"models": []}', **fields)
    return replace(parent, children=tuple(new_job(child_role=role) for role in roles))


def born(engine: Engine, children: int = 2, **fields: Any) -> tuple[UUID, list[UUID]]:
    parent = family(children, **fields)
    assert submit(engine, parent) == [parent.id]
    return parent.id, [child.id for child in parent.children]


def pending(engine: Engine, parent: UUID) -> tuple[int | None, bool]:
    """How many children a parent waits for, and whether it is due."""
    (row,) = run_sql(engine, "SELECT pending_children, available_at <= now() AS due FROM jobs WHERE id = :id", id=parent)
    return row.pending_children, row.due


def test_submit_writes_parent_and_children_of_which_only_the_children_are_due(engine: Engine) -> None:
    parent, children = born(engine, 2, shadows=1)

    assert pending(engine, parent) == (2, False)
    assert claim(engine, parent, owner="w:1", model="join") == []
    assert [job.id for job in claim(engine, *children)] == children
    rows = run_sql(engine, "SELECT parent_id, child_role FROM jobs WHERE id <> :id ORDER BY id", id=parent)
    assert [(row.parent_id, row.child_role) for row in rows] == [(parent, "consensus")] * 2 + [(parent, "shadow")]


def test_submit_with_a_key_that_was_used_writes_neither_parent_nor_children(engine: Engine) -> None:
    key = (b"k" * 32, b"f" * 32)
    first, second = family(2, idempotency=key), family(2, idempotency=key)

    with statement(engine) as connection:
        written = submit_jobs(connection, jobs=[first, new_job()])
        again = submit_jobs(connection, jobs=[second, new_job()])

    assert [row is None for row in (*written, *again)] == [False, False, True, False]
    assert run_sql(engine, "SELECT count(*) AS n FROM jobs")[0].n == 3 + 1 + 1


def _canceled(engine: Engine, job_id: UUID) -> None:
    cancel(engine, job_id, look(engine, job_id).row.fence)


def _expired(engine: Engine, job_id: UUID) -> None:
    run_sql(engine, "UPDATE jobs SET deadline_at = now() - interval '1 second' WHERE id = :id", id=job_id)
    _reap(engine)


def _lost(engine: Engine, job_id: UUID) -> None:
    for _ in range(3):
        run_sql(engine, "UPDATE jobs SET available_at = now() WHERE id = :id", id=job_id)
        claim(engine, job_id, solo=True)
        lapse_lease(engine, job_id)
        _reap(engine)


def _reap(engine: Engine) -> None:
    Reaper(engine, grace_s=5.0, every_s=1.0, dice=lambda: 0.0).run_once()


ENDS: dict[str, tuple[Callable[[Engine, UUID], object], Status]] = {
    "complete": (lambda engine, job_id: succeed(engine, claim(engine, job_id)), Status.SUCCEEDED),
    "fail": (lambda engine, job_id: fail(engine, claim(engine, job_id)), Status.FAILED),
    "cancel": (_canceled, Status.CANCELED),
    "expire": (_expired, Status.EXPIRED),
    "reap": (_lost, Status.FAILED),
}


@pytest.mark.parametrize("end", ENDS)
def test_every_way_a_child_can_end_counts_its_parent_down_once(engine: Engine, end: str) -> None:
    act, status = ENDS[end]
    parent, (first, second) = born(engine)

    act(engine, first)
    assert pending(engine, parent) == (1, False)
    succeed(engine, claim(engine, second))

    assert look(engine, first).row.status == status
    assert pending(engine, parent) == (0, True)
    kept = look(engine, parent)
    assert [event.data for event in kept.events if event.type == "progress"] == [{"pending_children": 1}, {"pending_children": 0}]
    assert_promises(kept)
    assert [job.id for job in claim(engine, parent, model="join")] == [parent], "it is an ordinary job now"


def test_a_stale_end_and_a_second_end_count_nothing(engine: Engine) -> None:
    parent, (first, _) = born(engine)
    (stale,) = claim(engine, first)
    give_back(engine, [stale])
    (job,) = claim(engine, first, owner="w:2")

    assert succeed(engine, [stale]) == set()
    assert pending(engine, parent) == (2, False)
    assert succeed(engine, [job]) == {first}
    assert succeed(engine, [job]) == set()
    assert pending(engine, parent) == (1, False)


def test_children_that_end_in_one_statement_are_all_counted(engine: Engine) -> None:
    (one, children_of_one), (other, children_of_other), single = born(engine, 3), born(engine, 2), submit(engine, new_job())[0]

    succeed(engine, claim(engine, *children_of_one, single, children_of_other[0]))

    assert pending(engine, one) == (0, True)
    assert pending(engine, other) == (1, False)
    assert look(engine, single).row.status == "succeeded"


def test_a_parent_that_ends_with_its_child_in_one_statement_stays_ended(engine: Engine) -> None:
    parent, (first, second) = born(engine)
    endings = [Ending(id=job_id, fence=0, status=Status.CANCELED, failure=FAILURE, by_owner=False) for job_id in (parent, first)]
    with statement(engine) as connection:
        assert finish_jobs(connection, endings=endings) == {parent, first}

    _canceled(engine, second)

    kept = look(engine, parent)
    assert (kept.row.status, kept.row.pending_children) == ("canceled", 2)
    assert_promises(kept)


def test_both_children_that_end_at_once_make_their_parent_due(engine: Engine) -> None:
    """Forty families, their children ended by two threads in opposite orders: none is left waiting, nothing deadlocks."""
    families = [born(engine) for _ in range(40)]
    sides = [[claim(engine, children[side])[0] for _, children in families] for side in (0, 1)]
    errors: list[BaseException] = []
    start = threading.Barrier(2)

    def end(side: int) -> None:
        jobs = sides[side] if side == 0 else sides[side][::-1]
        try:
            start.wait(10.0)
            for place in range(0, len(jobs), 8):
                assert len(succeed(engine, jobs[place : place + 8])) == len(jobs[place : place + 8])
        except BaseException as error:  # noqa: BLE001 - the test's thread says what went wrong
            errors.append(error)

    threads = [threading.Thread(target=end, args=(side,)) for side in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)

    assert errors == []
    assert {pending(engine, parent) for parent, _ in families} == {(0, True)}


def test_a_child_that_ends_waits_for_another_that_is_about_to_commit(engine: Engine) -> None:
    """The second statement began before the first committed, so what it saw of the parent is old; what it counts from is not."""
    parent, (first, second) = born(engine)
    jobs = {job.id: job for job in claim(engine, first, second)}
    done = threading.Event()

    def end_second() -> None:
        succeed(engine, [jobs[second]])
        done.set()

    with unit_of_work(engine) as connection:
        finish_jobs(connection, endings=[Ending(id=first, fence=jobs[first].fence, status=Status.SUCCEEDED, output_json="{}")])
        thread = threading.Thread(target=end_second)
        thread.start()
        assert not done.wait(0.3), "it did not wait"
    thread.join(10.0)

    assert pending(engine, parent) == (0, True)


def test_a_held_job_is_due_for_nobody_and_counts_in_no_queue(engine: Engine) -> None:
    (job_id,) = submit(engine, new_job())
    give_back(engine, claim(engine, job_id), outcome=Outcome.HELD, delay_s=None)
    born(engine)

    assert claim(engine, job_id) == []
    assert look(engine, job_id).attempts[0].outcome == "held"
    with statement(engine) as connection:
        loads = {load.pool: load for load in lane_loads(connection, now=datetime.now(UTC))}
    assert (loads["debug"].queued, loads["debug"].delayed) == (2, 0)
    assert loads["join"].queued == 0


def test_children_are_in_no_list_and_make_no_public_event(engine: Engine) -> None:
    parent, children = born(engine)
    endpoint = new_id()
    run_sql(
        engine,
        "INSERT INTO webhook_endpoints (id, tenant_id, kind, url, events) VALUES (:id, :tenant, 'registered', 'https://x', "
        "ARRAY['job.started', 'job.succeeded'])",
        id=endpoint,
        tenant=TENANT,
    )
    succeed(engine, claim(engine, *children))
    succeed(engine, claim(engine, parent, model="join"))

    with statement(engine) as connection:
        listed = [job.id for job in list_jobs(connection, tenant_id=TENANT, filters=JobFilters(), limit=10)]
    assert listed == [parent]
    events = run_sql(engine, "SELECT job_id, type FROM events ORDER BY id")
    assert [(event.job_id, event.type) for event in events] == [(parent, "job.started"), (parent, "job.succeeded")]
    assert {row.job_id for row in run_sql(engine, "SELECT job_id FROM webhook_deliveries")} == {parent}


def test_children_are_kept_while_their_parent_may_yet_be_joined(engine: Engine) -> None:
    parent, children = born(engine)
    succeed(engine, claim(engine, *children))
    run_sql(engine, "UPDATE jobs SET expires_at = now() - interval '1 second' WHERE finished_at IS NOT NULL")

    with statement(engine) as connection:
        assert erase_expired(connection, limit=10) == 0
    succeed(engine, claim(engine, parent, model="join"))
    with statement(engine) as connection:
        assert erase_expired(connection, limit=10) == 2
