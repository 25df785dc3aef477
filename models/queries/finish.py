"""The end of a job, and the end of an attempt that is not the end of its job. Every write here is conditional on the fence."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import orjson
from sqlalchemy import Connection

from domain.failures import Failure
from domain.job import Outcome, Status
from models.identity import new_ids
from models.prepared import Prepared
from models.queries.fan_out import TO_ALL


@dataclass(frozen=True, slots=True)
class Ending:
    """How one job ends.

    Attributes:
        fence: the job's fence as the caller knows it; a newer one in the database refuses this ending.
        status: a final status.
        output_json: the output as JSON text, when it succeeded.
        input_tokens, output_tokens, cost_usd: what this attempt took, failed or not; added to what earlier ones took.
        output_file: the file that holds the output, where it is too large for a row; ``output_json`` then is ``null``.
        by_owner: whether the holder of the lease says so; anyone else takes ownership away, which bumps the fence.
        failure_counts: whether the run failed for the job's own reason.
        crashed: whether the process died while the job ran alone.
        may_be_child: whether a parent may wait for the job; False spares its statement the look.
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
    may_be_child: bool = True


@dataclass(frozen=True, slots=True)
class Return:
    """How one running job goes back to the queue.

    Attributes:
        fence: as for ``Ending``.
        outcome: what its attempt's record says.
        input_tokens, output_tokens, cost_usd: what this attempt took; added to what earlier ones took.
        delay_s: it is not due before so many seconds have passed; None holds it until a person or a service makes it due.
        failure_counts: whether the run failed for the job's own reason.
        crashed: whether the process died while the job ran alone.
        solo: whether it must run alone from now on.
        model: another model, which takes the next attempt; None leaves it with the one that it has.
        pool: that model's pool; given with ``model`` alone.
        note_json: more to be noted of the move, as a JSON object; given with ``model`` alone.
    """

    id: UUID
    fence: int
    outcome: Outcome
    failure: Failure | None = None
    delay_s: float | None = 0.0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Decimal | None = None
    failure_counts: bool = False
    crashed: bool = False
    solo: bool = False
    model: str | None = None
    pool: str | None = None
    note_json: str | None = None


_ATTEMPT_OUTCOME = {
    Status.SUCCEEDED: Outcome.SUCCEEDED,
    Status.FAILED: Outcome.FAILED,
    Status.CANCELED: Outcome.CANCELED,
    Status.EXPIRED: Outcome.EXPIRED,
}

# Children are locked before parents, and parents in the order of their ids; nothing that holds a parent waits for a child. A parent that ends in the
# same statement needs no count. `jobs.pending_children`, not what `due` saw: another child's end may have been waited for.
_COUNT_DOWN = """), ended AS (
        SELECT parent_id, count(*) AS children FROM j WHERE child_role = 'consensus' GROUP BY parent_id
    ), due AS (
        SELECT jobs.id, ended.children FROM jobs JOIN ended ON ended.parent_id = jobs.id
        WHERE jobs.finished_at IS NULL AND NOT EXISTS (SELECT FROM j WHERE j.id = jobs.id) ORDER BY jobs.id FOR UPDATE OF jobs
    ), p AS (
        UPDATE jobs SET
            pending_children = pending_children - due.children, event_seq = event_seq + 1,
            available_at = CASE WHEN pending_children = due.children THEN now() ELSE available_at END
        FROM due WHERE jobs.id = due.id AND jobs.finished_at IS NULL
        RETURNING jobs.id, jobs.event_seq, jobs.attempt, jobs.pending_children
    ), pe AS (
        INSERT INTO job_events (job_id, seq, attempt, type, data)
        SELECT id, event_seq, attempt, 'progress', json_build_object('pending_children', pending_children) FROM p
    """

# A provider's counts are its own word, and their sum must fit the column whatever it says.
_ADD_SPENT = """
            input_tokens = CASE WHEN held.input_tokens IS NULL THEN jobs.input_tokens
                ELSE least(held.input_tokens + coalesce(CAST(jobs.input_tokens AS bigint), 0), 2147483647) END,
            output_tokens = CASE WHEN held.output_tokens IS NULL THEN jobs.output_tokens
                ELSE least(held.output_tokens + coalesce(CAST(jobs.output_tokens AS bigint), 0), 2147483647) END,
            cost_usd = coalesce(jobs.cost_usd + held.cost_usd, held.cost_usd, jobs.cost_usd)
"""


# `held` brings what the update needs to know, all but the outputs, so that no two lists of a batch are joined there: the planner takes them to be short
# and, beside a large table, would compare each row of one with each of the other (256 ends of jobs: 71 ms in place of 17).
#
# An attempt's id is its job's last event's too: a new one, made at the same moment, that no other event can have.
#
# `finished_at IS NULL` says the same as a status that is not final, but cannot be answered from the index of live jobs, which the
# planner takes to be short where statistics are older than a backlog.
def _finish(name: str, *, children: bool) -> Prepared:
    """The statement, with or without what only children need."""
    return Prepared(
        name,
        f"""
    WITH v AS (
        SELECT * FROM unnest(
            CAST(:id AS uuid[]), CAST(:fence AS bigint[]), CAST(:status AS text[]), CAST(:output AS text[]), CAST(:error AS text[]),
            CAST(:outcome AS text[]), CAST(:attempt_id AS uuid[]), CAST(:input_tokens AS int[]), CAST(:output_tokens AS int[]),
            CAST(:cost_usd AS numeric[]), CAST(:bump AS int[]), CAST(:failed AS int[]), CAST(:crashed AS int[]),
            CAST(:file_id AS uuid[])
        ) AS v(id, fence, status, output, error, outcome, attempt_id, input_tokens, output_tokens, cost_usd, bump, failed, crashed, file_id)
    ), held AS (
        SELECT jobs.id, v.fence, v.status, v.error, v.outcome, v.attempt_id, v.input_tokens, v.output_tokens, v.cost_usd, v.bump, v.failed, v.crashed
        FROM jobs JOIN v ON v.id = jobs.id AND v.fence = jobs.fence
        WHERE jobs.finished_at IS NULL ORDER BY jobs.id FOR UPDATE OF jobs
    ), j AS (
        UPDATE jobs SET
            status = held.status, fence = jobs.fence + held.bump, event_seq = event_seq + 1, lease_expires_at = NULL,
            finished_at = now(), expires_at = now() + make_interval(secs => retention_s),
            run_ms = run_ms + coalesce(extract(epoch FROM now() - attempt_started_at) * 1000, 0),
            failures = least(failures + held.failed, max_attempts), crashes = crashes + held.crashed, error = CAST(held.error AS json), {_ADD_SPENT}
        FROM held WHERE jobs.id = held.id AND jobs.fence = held.fence AND jobs.status || '' IN ('queued', 'running')
        RETURNING jobs.id, jobs.tenant_id, parent_id, child_role, jobs.fence, jobs.status, attempt, attempt_started_at, model, lease_owner, event_seq,
            held.fence AS held_fence, held.outcome, held.attempt_id, held.error
    ), o AS (
        INSERT INTO job_outputs (job_id, fence, output, file_id)
        SELECT j.id, j.fence, CAST(v.output AS json), v.file_id FROM j JOIN v ON v.id = j.id WHERE v.output IS NOT NULL
    ), a AS (
        INSERT INTO job_attempts (id, job_id, attempt, fence, started_at, model, worker, outcome, error)
        SELECT attempt_id, id, attempt, held_fence, attempt_started_at, model, lease_owner, outcome, CAST(error AS json)
        FROM j WHERE attempt_started_at IS NOT NULL
    ), e AS (
        INSERT INTO job_events (job_id, seq, attempt, type, status) SELECT id, event_seq, attempt, 'status', status FROM j
    ), ev AS (
        INSERT INTO events (id, tenant_id, job_id, type) SELECT attempt_id, tenant_id, id, 'job.' || status FROM j WHERE parent_id IS NULL
        RETURNING id, tenant_id, job_id, type
    ), d AS (
        {TO_ALL}
    {_COUNT_DOWN if children else ""})
    SELECT id FROM j
    """,  # noqa: S608 - made of constants
    )


_FINISH = _finish("millpond_finish", children=False)
_FINISH_CHILDREN = _finish("millpond_finish_children", children=True)

# The time is written as the API shows it.
_MOVES = """
    ), r AS (
        UPDATE job_inputs i SET failovers = coalesce(i.failovers, '[]') || (jsonb_build_object(
            'from', j.model, 'to', j.to_model, 'code', CAST(j.error AS json) ->> 'code',
            'at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) || coalesce(CAST(j.note AS jsonb), '{}'))
        FROM j WHERE i.job_id = j.id AND j.to_model IS NOT NULL
"""


def _return(name: str, *, moving: bool) -> Prepared:
    """The statement, with or without what only jobs need that go to another model."""
    return Prepared(
        name,
        f"""
    WITH v AS (
        SELECT * FROM unnest(
            CAST(:id AS uuid[]), CAST(:fence AS bigint[]), CAST(:outcome AS text[]), CAST(:error AS text[]), CAST(:attempt_id AS uuid[]),
            CAST(:delay_s AS float8[]), CAST(:failed AS int[]), CAST(:crashed AS int[]), CAST(:solo AS bool[]),
            CAST(:input_tokens AS int[]), CAST(:output_tokens AS int[]), CAST(:cost_usd AS numeric[]){
            ", CAST(:model AS text[]), CAST(:pool AS text[]), CAST(:note AS text[])" if moving else ""
        }
        ) AS v(id, fence, outcome, error, attempt_id, delay_s, failed, crashed, solo, input_tokens, output_tokens, cost_usd{
            ", to_model, to_pool, note" if moving else ""
        })
    ), held AS (
        SELECT v.*, jobs.attempt, jobs.model, jobs.lease_owner, jobs.attempt_started_at FROM jobs JOIN v ON v.id = jobs.id AND v.fence = jobs.fence
        WHERE jobs.status || '' = 'running' ORDER BY jobs.id FOR UPDATE OF jobs
    ), j AS (
        UPDATE jobs SET
            status = 'queued', fence = jobs.fence + 1, event_seq = event_seq + 1, lease_owner = NULL, lease_expires_at = NULL,
            attempt_started_at = NULL, alone = false, published_at = NULL, publications = 0,
            available_at = coalesce(now() + make_interval(secs => held.delay_s), 'infinity'),
            run_ms = run_ms + extract(epoch FROM now() - held.attempt_started_at) * 1000,
            failures = failures + held.failed, crashes = crashes + held.crashed, solo = jobs.solo OR held.solo, {_ADD_SPENT}{
            ", model = coalesce(held.to_model, jobs.model), pool = coalesce(held.to_pool, jobs.pool)" if moving else ""
        }
        FROM held WHERE jobs.id = held.id AND jobs.fence = held.fence AND jobs.status || '' = 'running'
        RETURNING jobs.id, jobs.event_seq, held.attempt, held.fence AS held_fence, held.attempt_started_at, held.model, held.lease_owner, held.attempt_id,
            held.outcome, held.error{", held.to_model, held.note" if moving else ""}
    ), a AS (
        INSERT INTO job_attempts (id, job_id, attempt, fence, started_at, model, worker, outcome, error)
        SELECT attempt_id, id, attempt, held_fence, attempt_started_at, model, lease_owner, outcome, CAST(error AS json) FROM j
    ), e AS (
        INSERT INTO job_events (job_id, seq, attempt, type, status) SELECT id, event_seq, attempt, 'status', 'queued' FROM j{_MOVES if moving else ""}
    )
    SELECT id FROM j
    """,  # noqa: S608 - made of constants
    )


_RETURN = _return("millpond_return", moving=False)
_MOVE = _return("millpond_move", moving=True)


def finish_jobs(connection: Connection, *, endings: Sequence[Ending]) -> set[UUID]:
    """Ends jobs: status, output, attempt, events and webhook deliveries in one statement, for every way a job can end.

    Conditional on fence and on not being final; locks the rows in the order of their ids. Safe to run again when it is not known
    whether it happened: the second time changes nothing.

    A child's end counts its parent down in the same statement; at zero the parent is due. That locks the parents after the children, so jobs that
    may be children have a statement of their own: in one transaction with others, one of those could be a parent that somebody holds who waits for another.

    Returns:
        The ids that this call ended; another id was ended or taken over by someone else.
    """
    apart = [[ending for ending in endings if ending.may_be_child is children] for children in (False, True)]
    ended: set[UUID] = set()
    for statement, group in zip((_FINISH, _FINISH_CHILDREN), apart, strict=True):
        if group:
            ended |= {row.id for row in statement.rows(connection, _endings(group), count=len(group))}
    return ended


def prepare_to_finish(connection: Connection) -> None:
    """Has the connection plan what ``finish_jobs`` runs, by ending no job."""
    for statement in (_FINISH, _FINISH_CHILDREN):
        statement.rows(connection, _endings([]), count=0)


def _endings(endings: Sequence[Ending]) -> dict[str, object]:
    return {
        "id": [ending.id.hex for ending in endings],
        "fence": [ending.fence for ending in endings],
        "status": [ending.status.value for ending in endings],
        "output": [ending.output_json for ending in endings],
        "file_id": [ending.output_file and str(ending.output_file) for ending in endings],
        "error": [_error_json(ending.failure) for ending in endings],
        "outcome": [(Outcome.LOST if ending.crashed else _ATTEMPT_OUTCOME[ending.status]).value for ending in endings],
        "attempt_id": [attempt_id.hex for attempt_id in new_ids(len(endings))],
        "input_tokens": [ending.input_tokens for ending in endings],
        "output_tokens": [ending.output_tokens for ending in endings],
        "cost_usd": [ending.cost_usd for ending in endings],
        "bump": [0 if ending.by_owner else 1 for ending in endings],
        "failed": [int(ending.failure_counts) for ending in endings],
        "crashed": [int(ending.crashed) for ending in endings],
    }


def return_jobs(connection: Connection, *, returns: Sequence[Return]) -> set[UUID]:
    """Puts running jobs back into the queue and closes their attempts; ``relay`` publishes them when they are due.

    One that is given another model waits in that model's queue; the attempt that ends keeps the name of the model that ran it, and the move is
    noted beside the job's input. Conditional on fence and on running; locks the rows in the order of their ids; safe to run again.

    Returns:
        The ids that this call returned.
    """
    columns: dict[str, list[object]] = {
        "id": [item.id.hex for item in returns],
        "fence": [item.fence for item in returns],
        "outcome": [item.outcome.value for item in returns],
        "error": [_error_json(item.failure) for item in returns],
        "attempt_id": [attempt_id.hex for attempt_id in new_ids(len(returns))],
        "delay_s": [item.delay_s for item in returns],
        "failed": [int(item.failure_counts) for item in returns],
        "crashed": [int(item.crashed) for item in returns],
        "solo": [item.solo for item in returns],
        "input_tokens": [item.input_tokens for item in returns],
        "output_tokens": [item.output_tokens for item in returns],
        "cost_usd": [item.cost_usd for item in returns],
    }
    moving = any(item.model is not None for item in returns)
    if moving:
        columns |= {"model": [item.model for item in returns], "pool": [item.pool for item in returns], "note": [item.note_json for item in returns]}
    rows = (_MOVE if moving else _RETURN).rows(connection, columns, count=len(returns))
    return {row.id for row in rows}


def _error_json(failure: Failure | None) -> str | None:
    return None if failure is None else orjson.dumps(failure.as_dict()).decode()
