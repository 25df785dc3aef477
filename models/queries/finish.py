"""The end of a job, and the end of an attempt that is not the end of its job. Every write here is conditional on the fence."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import orjson
from sqlalchemy.orm import Session

from domain.errors import Failure
from domain.job import Outcome, Status
from models.identity import new_id, new_ids
from models.prepared import Prepared
from models.queries.fan_out import EVENT_ID, TO_ALL


@dataclass(frozen=True, slots=True)
class Ending:
    """How one job ends.

    Attributes:
        fence: the job's fence as the caller knows it; a newer one in the database refuses this ending.
        status: a final status.
        output_json: the output as JSON text, when it succeeded.
        output_file: the file that holds the output, where it is too large for a row; ``output_json`` then is ``null``.
        by_owner: whether the holder of the lease says so; anyone else takes ownership away, which bumps the fence.
        failure_counts: whether the run failed for the job's own reason.
        crashed: whether the process died while the job ran alone.
    """

    id: UUID
    fence: int
    status: Status
    output_json: str | None = None
    output_file: UUID | None = None
    failure: Failure | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Decimal | None = None
    by_owner: bool = True
    failure_counts: bool = False
    crashed: bool = False


@dataclass(frozen=True, slots=True)
class Return:
    """How one running job goes back to the queue.

    Attributes:
        fence: as for ``Ending``.
        outcome: what its attempt's record says.
        delay_s: it is not due before so many seconds have passed.
        failure_counts: whether the run failed for the job's own reason.
        crashed: whether the process died while the job ran alone.
        solo: whether it must run alone from now on.
    """

    id: UUID
    fence: int
    outcome: Outcome
    failure: Failure | None = None
    delay_s: float = 0.0
    failure_counts: bool = False
    crashed: bool = False
    solo: bool = False


_ATTEMPT_OUTCOME = {
    Status.SUCCEEDED: Outcome.SUCCEEDED,
    Status.FAILED: Outcome.FAILED,
    Status.CANCELED: Outcome.CANCELED,
    Status.EXPIRED: Outcome.EXPIRED,
}

# `finished_at IS NULL` says the same as a status that is not final, but cannot be answered from the index of live jobs, which the
# planner takes to be short where statistics are older than a backlog.
_FINISH = Prepared(
    "millpond_finish",
    f"""
    WITH v AS (
        SELECT * FROM unnest(
            CAST(:id AS uuid[]), CAST(:fence AS bigint[]), CAST(:status AS text[]), CAST(:output AS text[]), CAST(:error AS text[]),
            CAST(:outcome AS text[]), CAST(:attempt_id AS uuid[]), CAST(:input_tokens AS int[]), CAST(:output_tokens AS int[]),
            CAST(:cost_usd AS numeric[]), CAST(:bump AS int[]), CAST(:failed AS int[]), CAST(:crashed AS int[]),
            CAST(:file_id AS uuid[])
        ) AS v(id, fence, status, output, error, outcome, attempt_id, input_tokens, output_tokens, cost_usd, bump, failed, crashed, file_id)
    ), held AS (
        SELECT jobs.id FROM jobs JOIN v ON v.id = jobs.id AND v.fence = jobs.fence
        WHERE jobs.finished_at IS NULL ORDER BY jobs.id FOR UPDATE OF jobs
    ), j AS (
        UPDATE jobs SET
            status = v.status, fence = jobs.fence + v.bump, event_seq = event_seq + 1, lease_expires_at = NULL,
            finished_at = now(), expires_at = now() + make_interval(secs => retention_s),
            run_ms = run_ms + coalesce(extract(epoch FROM now() - attempt_started_at) * 1000, 0),
            failures = least(failures + v.failed, max_attempts), crashes = crashes + v.crashed, error = CAST(v.error AS json),
            input_tokens = v.input_tokens, output_tokens = v.output_tokens, cost_usd = v.cost_usd
        FROM v JOIN held ON held.id = v.id
        WHERE jobs.id = v.id AND jobs.fence = v.fence AND jobs.status || '' IN ('queued', 'running')
        RETURNING jobs.id, jobs.tenant_id, jobs.fence, jobs.status, attempt, attempt_started_at, model, lease_owner, event_seq
    ), o AS (
        INSERT INTO job_outputs (job_id, fence, output, file_id)
        SELECT j.id, j.fence, CAST(v.output AS json), v.file_id FROM j JOIN v ON v.id = j.id WHERE v.output IS NOT NULL
    ), a AS (
        INSERT INTO job_attempts (id, job_id, attempt, fence, started_at, model, worker, outcome, error)
        SELECT v.attempt_id, j.id, j.attempt, v.fence, j.attempt_started_at, j.model, j.lease_owner, v.outcome, CAST(v.error AS json)
        FROM j JOIN v ON v.id = j.id WHERE j.attempt_started_at IS NOT NULL
    ), e AS (
        INSERT INTO job_events (job_id, seq, attempt, type, status) SELECT id, event_seq, attempt, 'status', status FROM j
    ), ev AS (
        INSERT INTO events (id, tenant_id, job_id, type) SELECT {EVENT_ID}, tenant_id, id, 'job.' || status FROM j RETURNING id, tenant_id, job_id, type
    ), d AS (
        {TO_ALL}
    )
    SELECT id FROM j
    """,  # noqa: S608 - made of constants
)

_RETURN = Prepared(
    "millpond_return",
    """
    WITH v AS (
        SELECT * FROM unnest(
            CAST(:id AS uuid[]), CAST(:fence AS bigint[]), CAST(:outcome AS text[]), CAST(:error AS text[]), CAST(:attempt_id AS uuid[]),
            CAST(:delay_s AS float8[]), CAST(:failed AS int[]), CAST(:crashed AS int[]), CAST(:solo AS bool[])
        ) AS v(id, fence, outcome, error, attempt_id, delay_s, failed, crashed, solo)
    ), held AS (
        SELECT jobs.id, jobs.attempt, jobs.model, jobs.lease_owner, jobs.attempt_started_at FROM jobs JOIN v ON v.id = jobs.id AND v.fence = jobs.fence
        WHERE jobs.status || '' = 'running' ORDER BY jobs.id FOR UPDATE OF jobs
    ), j AS (
        UPDATE jobs SET
            status = 'queued', fence = jobs.fence + 1, event_seq = event_seq + 1, lease_owner = NULL, lease_expires_at = NULL,
            attempt_started_at = NULL, alone = false, available_at = now() + make_interval(secs => v.delay_s), published_at = NULL, publications = 0,
            run_ms = run_ms + extract(epoch FROM now() - held.attempt_started_at) * 1000,
            failures = failures + v.failed, crashes = crashes + v.crashed, solo = jobs.solo OR v.solo
        FROM v JOIN held ON held.id = v.id
        WHERE jobs.id = v.id AND jobs.fence = v.fence AND jobs.status || '' = 'running'
        RETURNING jobs.id, jobs.event_seq, jobs.attempt
    ), a AS (
        INSERT INTO job_attempts (id, job_id, attempt, fence, started_at, model, worker, outcome, error)
        SELECT v.attempt_id, j.id, held.attempt, v.fence, held.attempt_started_at, held.model, held.lease_owner, v.outcome, CAST(v.error AS json)
        FROM j JOIN v ON v.id = j.id JOIN held ON held.id = j.id
    ), e AS (
        INSERT INTO job_events (job_id, seq, attempt, type, status) SELECT id, event_seq, attempt, 'status', 'queued' FROM j
    )
    SELECT id FROM j
    """,
)


def finish_jobs(session: Session, *, endings: Sequence[Ending]) -> set[UUID]:
    """Ends jobs: status, output, attempt, events and webhook deliveries in one statement, for every way a job can end.

    Conditional on fence and on not being final; locks the rows in the order of their ids. Safe to run again when it is not known
    whether it happened: the second time changes nothing.

    Returns:
        The ids that this call ended; another id was ended or taken over by someone else.
    """
    rows = _FINISH.rows(
        session,
        {
            "id": [str(ending.id) for ending in endings],
            "fence": [ending.fence for ending in endings],
            "status": [ending.status.value for ending in endings],
            "output": [ending.output_json for ending in endings],
            "file_id": [ending.output_file and str(ending.output_file) for ending in endings],
            "error": [_error_json(ending.failure) for ending in endings],
            "outcome": [(Outcome.LOST if ending.crashed else _ATTEMPT_OUTCOME[ending.status]).value for ending in endings],
            "attempt_id": [str(attempt_id) for attempt_id in new_ids(len(endings))],
            "input_tokens": [ending.input_tokens for ending in endings],
            "output_tokens": [ending.output_tokens for ending in endings],
            "cost_usd": [ending.cost_usd for ending in endings],
            "event_id": str(new_id()),
            "bump": [0 if ending.by_owner else 1 for ending in endings],
            "failed": [int(ending.failure_counts) for ending in endings],
            "crashed": [int(ending.crashed) for ending in endings],
        },
        count=len(endings),
    )
    return {row.id for row in rows}


def return_jobs(session: Session, *, returns: Sequence[Return]) -> set[UUID]:
    """Puts running jobs back into the queue and closes their attempts; ``relay`` publishes them when they are due.

    Conditional on fence and on running; locks the rows in the order of their ids; safe to run again.

    Returns:
        The ids that this call returned.
    """
    rows = _RETURN.rows(
        session,
        {
            "id": [str(item.id) for item in returns],
            "fence": [item.fence for item in returns],
            "outcome": [item.outcome.value for item in returns],
            "error": [_error_json(item.failure) for item in returns],
            "attempt_id": [str(attempt_id) for attempt_id in new_ids(len(returns))],
            "delay_s": [item.delay_s for item in returns],
            "failed": [int(item.failure_counts) for item in returns],
            "crashed": [int(item.crashed) for item in returns],
            "solo": [item.solo for item in returns],
        },
        count=len(returns),
    )
    return {row.id for row in rows}


def _error_json(failure: Failure | None) -> str | None:
    return None if failure is None else orjson.dumps(failure.as_dict()).decode()
