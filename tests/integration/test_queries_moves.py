"""Jobs that go on with another model: what the row, the attempts and the notes say of it."""

from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from domain.job import Outcome
from models.queries.finish import Return, return_jobs
from models.transactions import statement
from tests.support.jobs import FAILURE, assert_promises, claim, give_back, look, run_sql, submit_many, succeed


def notes(engine: Engine, job_id: UUID) -> Any:
    (row,) = run_sql(engine, "SELECT failovers FROM job_inputs WHERE job_id = :id", id=job_id)
    return row


def test_return_to_another_model_is_claimed_by_that_model_alone_at_once(engine: Engine) -> None:
    moved, stayed = submit_many(engine, 2)
    jobs = claim(engine, moved, stayed)
    fields = {"outcome": Outcome.FAILED, "failure": FAILURE, "failure_counts": True}
    assert give_back(engine, jobs[:1], model="other", pool="far", cost_usd=Decimal("0.25"), **fields) == {moved}
    assert give_back(engine, jobs[1:], **fields) == {stayed}

    row = look(engine, moved).row
    assert (row.model, row.pool, row.status, row.failures, row.published_at) == ("other", "far", "queued", 1, None)
    assert claim(engine, moved) == []  # a message that still speaks of the old model
    (again,) = claim(engine, moved, model="other")
    assert (again.attempt, again.failures) == (2, 1)
    succeed(engine, [again])

    kept = look(engine, moved)
    assert [(attempt.model, attempt.outcome) for attempt in kept.attempts] == [("echo", "failed"), ("other", "succeeded")]
    assert_promises(kept)
    (move,) = notes(engine, moved).failovers
    assert (move["from"], move["to"], move["code"], move["at"][-1]) == ("echo", "other", FAILURE.code, "Z")
    assert (look(engine, stayed).row.model, notes(engine, stayed).failovers) == ("echo", None)


def test_return_to_another_model_in_company_moves_nobody_else_and_costs_add_up(engine: Engine) -> None:
    ids = submit_many(engine, 3)
    for model, to in (("echo", "second"), ("second", "third")):
        jobs = claim(engine, *ids, model=model)
        returns = [Return(job.id, job.fence, Outcome.FAILED, FAILURE) for job in jobs]
        returns[0] = replace(returns[0], model=to, pool="far", cost_usd=Decimal("0.5"))
        with statement(engine) as connection:
            return_jobs(connection, returns=returns)
    assert [(note["from"], note["to"]) for note in notes(engine, ids[0]).failovers] == [("echo", "second"), ("second", "third")]
    assert [look(engine, job_id).row.cost_usd for job_id in ids] == [Decimal("1.0"), None, None]
    assert [look(engine, job_id).row.model for job_id in ids] == ["third", "echo", "echo"]


def test_return_to_another_model_by_a_stale_owner_moves_nothing(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)
    (stale,) = claim(engine, job_id)
    give_back(engine, [stale], outcome=Outcome.LOST)
    (owner,) = claim(engine, job_id, owner="new:1")
    assert give_back(engine, [stale], model="other", pool="far", outcome=Outcome.FAILED, failure=FAILURE) == set()
    assert (look(engine, job_id).row.model, notes(engine, job_id).failovers) == ("echo", None)
    assert succeed(engine, [owner]) == {job_id}
