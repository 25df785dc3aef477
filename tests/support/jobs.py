"""Jobs for tests of what is kept in the database, and a look at all that is kept of one."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from domain.failures import Failure
from domain.job import Outcome, Status
from models.identity import new_id
from models.queries.claim import ClaimedJob, claim_jobs
from models.queries.finish import Ending, Return, finish_jobs, return_jobs
from models.queries.submit import NewJob, submit_jobs
from models.transactions import statement

TENANT = UUID(int=1)
KEY = UUID(int=2)
FAILURE = Failure("model_error", "it failed", retryable=True)


def new_job(**fields: Any) -> NewJob:
    """A job as the API writes one; any field may be given."""
    values: dict[str, Any] = {
        "id": new_id(),
        "tenant_id": TENANT,
        "key_id": KEY,
        "task": "debug.echo",
        "model": "echo",
        "pool": "debug",
        "priority": "standard",
        "max_attempts": 3,
        "timeout_s": 10.0,
        "deadline_s": 3_600.0,
        "retention_s": 600.0,
        "input_json": '{"payload": 1}',
    }
    return NewJob(**{**values, **fields})


def submit(engine: Engine, *jobs: NewJob) -> list[UUID]:
    """Writes jobs; the ids of those that were written."""
    with statement(engine) as connection:
        return [accepted.id for accepted in submit_jobs(connection, jobs=jobs) if accepted]


def submit_many(engine: Engine, count: int, **fields: Any) -> list[UUID]:
    """Writes so many alike."""
    return submit(engine, *(new_job(**fields) for _ in range(count)))


def claim(engine: Engine, *ids: UUID, owner: str = "w:1", solo: bool = False, lease_s: float = 30.0, model: str = "echo") -> list[ClaimedJob]:
    """Claims jobs as one message."""
    with statement(engine) as connection:
        return claim_jobs(connection, ids=ids, model=model, owner=owner, lease_s=lease_s, solo=solo)


def succeed(engine: Engine, jobs: Sequence[ClaimedJob], output_json: str = '{"payload": 1}') -> set[UUID]:
    """Ends claimed jobs well."""
    with statement(engine) as connection:
        return finish_jobs(connection, endings=[Ending(id=job.id, fence=job.fence, status=Status.SUCCEEDED, output_json=output_json) for job in jobs])


def fail(engine: Engine, jobs: Sequence[ClaimedJob]) -> set[UUID]:
    """Ends claimed jobs for their own reason."""
    with statement(engine) as connection:
        endings = [Ending(id=job.id, fence=job.fence, status=Status.FAILED, failure=FAILURE, failure_counts=True) for job in jobs]
        return finish_jobs(connection, endings=endings)


def cancel(engine: Engine, job_id: UUID, fence: int) -> set[UUID]:
    """Cancels a job as the API does."""
    with statement(engine) as connection:
        failure = Failure("canceled_by_user", "The job was canceled.", retryable=False)
        return finish_jobs(connection, endings=[Ending(id=job_id, fence=fence, status=Status.CANCELED, failure=failure, by_owner=False)])


def give_back(engine: Engine, jobs: Sequence[ClaimedJob], **fields: Any) -> set[UUID]:
    """Returns claimed jobs to the queue, unspent unless told otherwise."""
    with statement(engine) as connection:
        return return_jobs(connection, returns=[Return(id=job.id, fence=job.fence, **{"outcome": Outcome.RELEASED, **fields}) for job in jobs])


def run_sql(engine: Engine, query: str, **values: Any) -> list[Any]:
    """Whatever a test wants to see or bring about; the rows, if there are any."""
    with statement(engine) as connection:
        result = connection.execute(text(query), values)
        return list(result.all()) if result.returns_rows else []


def score(engine: Engine, model: str, tenant_id: UUID, *, scores: int) -> None:
    """A tenant has found so many outputs of a model to be of no use, today."""
    run_sql(
        engine,
        """INSERT INTO model_days (day, model, tenant_id, runs, jobs, failures, run_ms, input_tokens, output_tokens, cost_usd, scores, score_sum)
           VALUES (CAST(now() AT TIME ZONE 'UTC' AS date), :model, :id, 0, 0, '{}', '{}', 0, 0, 0, :scores, 0)""",
        model=model,
        id=tenant_id,
        scores=scores,
    )


def lapse_lease(engine: Engine, *ids: UUID, by_s: float = 60.0) -> None:
    """Makes it so that the leases of jobs ended a while ago."""
    run_sql(
        engine, "UPDATE jobs SET lease_expires_at = now() - make_interval(secs => :by_s) WHERE id = ANY (:ids) AND status = 'running'", ids=list(ids), by_s=by_s
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """All that the database keeps of a job."""

    row: Any
    outputs: list[Any]
    attempts: list[Any]
    events: list[Any]

    @property
    def statuses(self) -> list[str]:
        """What the events say happened."""
        return [event.status for event in self.events if event.type == "status"]


_KEPT = {
    "row": "SELECT id AS of_job, * FROM jobs WHERE id = ANY (:ids)",
    "outputs": "SELECT job_id AS of_job, * FROM job_outputs WHERE job_id = ANY (:ids)",
    "attempts": "SELECT job_id AS of_job, * FROM job_attempts WHERE job_id = ANY (:ids) ORDER BY job_id, attempt",
    "events": "SELECT job_id AS of_job, * FROM job_events WHERE job_id = ANY (:ids) ORDER BY job_id, seq",
}


def look_at(engine: Engine, ids: Sequence[UUID]) -> dict[UUID, Kept]:
    """Reads everything about jobs that are there."""
    found: dict[str, defaultdict[UUID, list[Any]]] = {}
    with statement(engine) as connection:
        for part, query in _KEPT.items():
            found[part] = defaultdict(list)
            for row in connection.execute(text(query), {"ids": list(ids)}):
                found[part][row.of_job].append(row)
    return {job_id: Kept(row, *(found[part][job_id] for part in ("outputs", "attempts", "events"))) for job_id, (row,) in found["row"].items()}


def look(engine: Engine, job_id: UUID) -> Kept:
    """Reads everything about a job."""
    return look_at(engine, [job_id])[job_id]


def assert_promises(kept: Kept) -> None:
    """What must hold of every job at every moment, however it came there.

    At most one output, written under the newest fence; attempts numbered without gaps; events numbered without gaps, and one
    final one at most, the last; counters within their bounds.
    """
    row = kept.row
    status = Status(row.status)
    assert len(kept.outputs) == (1 if status is Status.SUCCEEDED else 0)
    assert all(output.fence == row.fence for output in kept.outputs)
    ended = row.attempt - (1 if status is Status.RUNNING else 0)
    assert [attempt.attempt for attempt in kept.attempts] == list(range(1, ended + 1))
    assert len({attempt.fence for attempt in kept.attempts}) == len(kept.attempts)
    assert [event.seq for event in kept.events] == list(range(1, row.event_seq + 1))
    finals = [place for place, event in enumerate(kept.events) if event.status and Status(event.status).final]
    assert finals == ([len(kept.events) - 1] if status.final else [])
    assert kept.statuses[-1] == row.status
    assert 0 <= row.failures <= row.max_attempts
    assert 0 <= row.crashes <= 3
