"""Queued jobs whose model takes none now: on to another model, or to a later moment, without an attempt."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Connection, text

from domain.job import Priority
from domain.routing.failover import BREAKER_OPEN


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A queued job that a message spoke of; its row is locked by the caller's transaction. The JSON texts are as for ``ClaimedJob``."""

    id: UUID
    fence: int
    priority: Priority
    solo: bool
    failures: int
    cost_usd: Decimal | None
    routing_json: str | None
    failovers_json: str | None


@dataclass(frozen=True, slots=True)
class Diversion:
    """Where one of them goes.

    Attributes:
        model: another model, with its pool; None leaves it with the one that it has.
        delay_s: it is not due before so many seconds have passed.
    """

    id: UUID
    fence: int
    model: str | None = None
    pool: str | None = None
    delay_s: float = 0.0


_LOCK = text(
    """
    SELECT j.id, j.fence, j.priority, j.solo, j.failures, j.cost_usd, CAST(i.routing AS text) AS routing_json, CAST(i.failovers AS text) AS failovers_json
    FROM jobs j JOIN job_inputs i ON i.job_id = j.id
    WHERE j.id = ANY (CAST(:ids AS uuid[])) AND j.status || '' = 'queued' AND j.available_at <= now() AND j.model = :model
    ORDER BY j.id FOR UPDATE OF j
    """
)

# Who waits for its own model says nothing: it may do so often.
_DIVERT = text(
    """
    WITH v AS (
        SELECT * FROM unnest(
            CAST(:id AS uuid[]), CAST(:fence AS bigint[]), CAST(:model AS text[]), CAST(:pool AS text[]), CAST(:delay_s AS float8[])
        ) AS v(id, fence, model, pool, delay_s)
    ), j AS (
        UPDATE jobs SET
            fence = jobs.fence + 1, event_seq = event_seq + CASE WHEN v.model IS NULL THEN 0 ELSE 1 END,
            model = coalesce(v.model, jobs.model), pool = coalesce(v.pool, jobs.pool),
            queue_ms = queue_ms + extract(epoch FROM now() - available_at) * 1000, available_at = now() + make_interval(secs => v.delay_s),
            published_at = NULL, publications = 0
        FROM v WHERE jobs.id = v.id AND jobs.fence = v.fence AND jobs.status || '' = 'queued'
        RETURNING jobs.id, jobs.event_seq, jobs.attempt, v.model
    ), e AS (
        INSERT INTO job_events (job_id, seq, attempt, type, data)
        SELECT id, event_seq, attempt, 'log', json_build_object('code', CAST(:code AS text), 'from', CAST(:from AS text), 'to', model)
        FROM j WHERE model IS NOT NULL
    ), r AS (
        UPDATE job_inputs i SET failovers = coalesce(i.failovers, '[]') || jsonb_build_object(
            'from', CAST(:from AS text), 'to', j.model, 'code', CAST(:code AS text),
            'at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
        FROM j WHERE i.job_id = j.id AND j.model IS NOT NULL
    )
    SELECT id FROM j
    """
)


def lock_waiting(connection: Connection, *, ids: Sequence[UUID], model: str) -> list[WaitingJob]:
    """Those of the jobs that are due, queued and of this model; locks them in the order of their ids."""
    rows = connection.execute(_LOCK, {"ids": [str(job_id) for job_id in ids], "model": model})
    return [WaitingJob(row.id, row.fence, Priority(row.priority), row.solo, row.failures, row.cost_usd, row.routing_json, row.failovers_json) for row in rows]


def divert_jobs(connection: Connection, *, diversions: Sequence[Diversion], model: str) -> set[UUID]:
    """Sends queued jobs of ``model`` elsewhere; ``relay`` publishes them when they are due. They have spent nothing.

    Conditional on the fence, which rises, so that messages which speak of them are void.

    Returns:
        The ids of those that were still there.
    """
    rows = connection.execute(
        _DIVERT,
        {
            "id": [str(item.id) for item in diversions],
            "fence": [item.fence for item in diversions],
            "model": [item.model for item in diversions],
            "pool": [item.pool for item in diversions],
            "delay_s": [item.delay_s for item in diversions],
            "from": model,
            "code": BREAKER_OPEN,
        },
    )
    return {row.id for row in rows}
