"""Looking at jobs, their attempts and their events. Nothing here locks or writes; JSON stays text, as it is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from domain.ids import uuid7
from domain.job import Priority, Status
from models.prepared import Prepared

MAX_CLOCK_SKEW_MS = 600_000  # an id's time is the API host's, created_at is the database's


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its owner may see it.

    Attributes:
        attempt_started_at: start of the attempt that runs, or that ended the job.
        expires_at: when input and output are erased; None until it is final.
        erased_at: when they were.
        queue_ms: time it was due and waited, over all attempts that have started.
        run_ms: time that ended attempts ran.
        event_seq: number of the newest event; rises with every visible change.
        custom_id: the caller's name for it inside its batch.
        error_json: JSON text of its failure.
        metadata_json: JSON text of its string pairs.
        input_json: None in lists, and once it was erased and its row is gone.
        output_json: None in lists, and until there is one.
        has_webhook: whether it asked for a webhook of its own.
        routing_json: JSON text of the decision that gave it its model; None where there was nothing to decide.
        failovers_json: JSON text of its moves to other models; None without any.
        available_at: not before then, ahead of now while a job waits for its start or its retry; None while it is held until a person or a service
            makes it due.
        parent_id: of a child.
        pending_children: how many children it waits for; None for a job that never had any to wait for.
        output_file: the file that holds its output, where that is too large to be shown; ``output_json`` then is ``null``.
        output_file_bytes: of that file.
    """

    id: UUID
    tenant_id: UUID
    key_id: UUID
    batch_id: UUID | None
    rerun_of: UUID | None
    fence: int
    event_seq: int
    status: Status
    task: str
    model: str
    pool: str
    priority: Priority
    custom_id: str | None
    attempt: int
    failures: int
    max_attempts: int
    timeout_s: float
    retention_s: float
    created_at: datetime
    available_at: datetime | None
    deadline_at: datetime
    started_at: datetime | None
    attempt_started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    erased_at: datetime | None
    queue_ms: float
    run_ms: float
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    error_json: str | None
    metadata_json: str | None
    input_json: str | None = None
    output_json: str | None = None
    has_webhook: bool = False
    routing_json: str | None = None
    failovers_json: str | None = None
    parent_id: UUID | None = None
    pending_children: int | None = None
    output_file: UUID | None = None
    output_file_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Watched:
    """What a waiter needs to know: whether anything has changed.

    Attributes:
        ended_job: the job without its input, where it has ended and the look was for it alone.
    """

    id: UUID
    status: Status
    event_seq: int
    ended_job: JobView | None = None


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One attempt.

    Attributes:
        id: None while it runs.
        worker: who runs or ran it.
        outcome: None while it runs; see ``domain.job.Outcome``.
        error_json: JSON text of its failure.
    """

    id: UUID | None
    attempt: int
    model: str
    worker: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    error_json: str | None


@dataclass(frozen=True, slots=True)
class EventView:
    """One event of a job; ``seq`` counts from 1 without gaps.

    Attributes:
        status: the job's new status, when ``type`` is ``status``.
        data_json: JSON text of what else it says.
    """

    seq: int
    attempt: int
    type: str
    status: str | None
    created_at: datetime
    data_json: str | None


@dataclass(frozen=True, slots=True)
class JobFilters:
    """What a list is narrowed to; what is empty or None does not narrow.

    Attributes:
        created_after: this moment or later.
        created_before: earlier than this moment.
        metadata: pairs that a job must all have.
    """

    statuses: Sequence[Status] = ()
    task: str | None = None
    model: str | None = None
    priority: Priority | None = None
    error_code: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    metadata: Mapping[str, str] | None = None


_SUMMARY = """
    j.id, j.tenant_id, j.key_id, j.batch_id, j.rerun_of, j.fence, j.event_seq, j.status, j.task, j.model, j.pool, j.priority, j.custom_id,
    j.attempt, j.failures, j.max_attempts, j.timeout_s, j.retention_s, j.created_at, j.deadline_at, j.started_at,
    NULLIF(j.available_at, 'infinity') AS available_at,
    j.attempt_started_at, j.finished_at, j.expires_at, j.erased_at, j.queue_ms, j.run_ms, j.input_tokens, j.output_tokens, j.cost_usd,
    j.parent_id, j.pending_children, CAST(j.error AS text) AS error_json, CAST(i.metadata AS text) AS metadata_json,
    CAST(i.routing AS text) AS routing_json, CAST(i.failovers AS text) AS failovers_json,
    EXISTS (SELECT FROM job_webhooks h WHERE h.job_id = j.id) AS has_webhook
"""
_OUTPUT_FILE = "o.file_id AS output_file, (SELECT size_bytes FROM files f WHERE f.id = o.file_id) AS output_file_bytes"
_WHOLE = f"""
    SELECT {_SUMMARY}, CAST(i.input AS text) AS input_json, CAST(o.output AS text) AS output_json, {_OUTPUT_FILE}
    FROM jobs j LEFT JOIN job_inputs i ON i.job_id = j.id LEFT JOIN job_outputs o ON o.job_id = j.id
"""  # noqa: S608 - made of constants
_ONE = Prepared("millpond_job", f"{_WHOLE} WHERE j.id = CAST(:job_id AS uuid) AND j.tenant_id = CAST(:tenant_id AS uuid)")
_SEVERAL = text(f"{_WHOLE} WHERE j.id = ANY (CAST(:ids AS uuid[])) AND j.tenant_id = :tenant_id ORDER BY j.id")

_THIN = text(
    f"""
    SELECT {_SUMMARY}, CASE WHEN size.bytes <= :output_bytes THEN CAST(o.output AS text) END AS output_json, coalesce(size.bytes > :output_bytes, false) AS cut,
        {_OUTPUT_FILE}
    FROM jobs j LEFT JOIN job_inputs i ON i.job_id = j.id LEFT JOIN job_outputs o ON o.job_id = j.id
        CROSS JOIN LATERAL (SELECT octet_length(CAST(o.output AS text)) AS bytes) size
    WHERE j.id = ANY (CAST(:ids AS uuid[])) AND j.tenant_id = :tenant_id
    """  # noqa: S608 - made of constants
)

_ENDED = Prepared(
    "millpond_ended",
    f"""
    SELECT {_SUMMARY}, CAST(o.output AS text) AS output_json, {_OUTPUT_FILE}
    FROM jobs j LEFT JOIN job_inputs i ON i.job_id = j.id LEFT JOIN job_outputs o ON o.job_id = j.id
    WHERE j.id = CAST(:job_id AS uuid)
    """,  # noqa: S608 - made of constants
)

_WATCH = Prepared("millpond_watch", "SELECT id, status, event_seq FROM jobs WHERE id = ANY (CAST(:ids AS uuid[]))")

_ATTEMPTS = text(
    """
    SELECT id, attempt, model, worker, started_at, ended_at, outcome, CAST(error AS text) AS error_json
    FROM job_attempts WHERE job_id = :job_id
    UNION ALL
    SELECT NULL, attempt, model, lease_owner, attempt_started_at, NULL, NULL, NULL
    FROM jobs WHERE id = :job_id AND status = 'running'
    ORDER BY attempt
    """
)

_EVENTS = text(
    """
    SELECT seq, attempt, type, status, created_at, CAST(data AS text) AS data_json
    FROM job_events WHERE job_id = :job_id AND seq > :after_seq ORDER BY seq LIMIT :limit
    """
)


def get_job(connection: Connection, *, tenant_id: UUID, job_id: UUID) -> JobView | None:
    """One job with its input and output; None when the tenant has none of that id. Reads three primary keys."""
    rows = _ONE.rows(connection, {"tenant_id": str(tenant_id), "job_id": str(job_id)}, count=1)
    return _job(rows[0]) if rows else None


def get_jobs(connection: Connection, *, tenant_id: UUID, ids: Sequence[UUID]) -> list[JobView]:
    """Those of the jobs that the tenant has, with input and output, in the order of their ids."""
    return [_job(row) for row in connection.execute(_SEVERAL, {"tenant_id": tenant_id, "ids": [str(job_id) for job_id in ids]})]


def erased_jobs(connection: Connection, *, ids: Sequence[UUID]) -> set[UUID]:
    """Those of the jobs whose input and output were erased, or that are gone."""
    if not ids:
        return set()
    rows = connection.execute(text("SELECT id FROM jobs WHERE id = ANY (CAST(:ids AS uuid[])) AND erased_at IS NULL"), {"ids": [str(job_id) for job_id in ids]})
    return set(ids) - {row.id for row in rows}


def get_thin_jobs(connection: Connection, *, tenant_id: UUID, ids: Sequence[UUID], output_bytes: int) -> dict[UUID, tuple[JobView, bool]]:
    """Those of the jobs that the tenant has, without inputs; whatever their outputs weigh, little of it is read into memory.

    Returns:
        By id: the job, and whether its output was left out as it has over ``output_bytes``.
    """
    found: dict[UUID, tuple[JobView, bool]] = {}
    for row in connection.execute(_THIN, {"tenant_id": tenant_id, "ids": [str(job_id) for job_id in ids], "output_bytes": output_bytes}):
        values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row by column
        cut = values.pop("cut")
        found[row.id] = (_job(values), cut)
    return found


def list_jobs(connection: Connection, *, tenant_id: UUID, filters: JobFilters, before: UUID | None = None, limit: int) -> list[JobView]:
    """A page of a tenant's jobs, the newest first, without inputs and outputs, and without children.

    Walks ``jobs_of_tenant`` backwards from ``before``. The bounds on ``created_at`` are exact; bounds on the id, ten minutes wider
    for clocks that differ, let the same index serve them. Metadata are matched through ``job_inputs_metadata``.

    Args:
        tenant_id: whose.
        filters: what the list is narrowed to.
        before: the last id of the page before this one.
        limit: the most jobs of a page.
    """
    conditions, values = _narrowed(filters)
    if before is not None:
        conditions.append("j.id < :before")
        values["before"] = before
    where = " AND ".join(["j.tenant_id = :tenant_id", "j.parent_id IS NULL", *conditions])
    query = f"SELECT {_SUMMARY} FROM jobs j LEFT JOIN job_inputs i ON i.job_id = j.id WHERE {where} ORDER BY j.id DESC LIMIT :limit"  # noqa: S608
    return [_job(row) for row in connection.execute(text(query), {"tenant_id": tenant_id, "limit": limit, **values})]


def watch(connection: Connection, *, ids: Sequence[UUID], with_end: bool = False) -> list[Watched]:
    """How jobs stand; one query for however many are waited for. A job that is gone gives no row. Reads primary keys.

    Args:
        connection: of ``statement``.
        ids: whoever waits for them has seen that they may.
        with_end: whether one that is asked for alone comes with all there is to say of it but its input, once it has ended.
    """
    if with_end and len(ids) == 1:
        rows = _ENDED.rows(connection, {"job_id": str(ids[0])}, count=1)
        return [Watched(row.id, Status(row.status), row.event_seq, None if row.finished_at is None else _job(row)) for row in rows]
    return [Watched(row.id, Status(row.status), row.event_seq) for row in _WATCH.rows(connection, {"ids": [str(job_id) for job_id in ids]}, count=1)]


def attempts_of(connection: Connection, *, job_id: UUID) -> list[AttemptView]:
    """Every attempt of a job, the first first; the one that runs comes from the job's own row."""
    rows = connection.execute(_ATTEMPTS, {"job_id": job_id})
    return [AttemptView(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name for a row by column


def events_after(connection: Connection, *, job_id: UUID, after_seq: int, limit: int) -> list[EventView]:
    """A job's events with a number above ``after_seq``, in order, at most ``limit``. Reads the primary key."""
    rows = connection.execute(_EVENTS, {"job_id": job_id, "after_seq": after_seq, "limit": limit})
    return [EventView(**row._mapping) for row in rows]  # noqa: SLF001


def _narrowed(filters: JobFilters) -> tuple[list[str], dict[str, object]]:
    """The conditions of a list, each a constant piece of SQL, and their values."""
    conditions: list[str] = []
    values: dict[str, object] = {}

    def narrow(condition: str, name: str, value: object) -> None:
        if value is not None:
            conditions.append(condition)
            values[name] = value

    narrow("j.status = ANY (:statuses)", "statuses", [status.value for status in filters.statuses] or None)
    narrow("j.task = :task", "task", filters.task)
    narrow("j.model = :model", "model", filters.model)
    narrow("j.priority = :priority", "priority", filters.priority and filters.priority.value)
    narrow("j.error ->> 'code' = :error_code", "error_code", filters.error_code)
    narrow("i.metadata @> CAST(:metadata AS jsonb)", "metadata", orjson.dumps(dict(filters.metadata)).decode() if filters.metadata else None)
    narrow("j.created_at >= :created_after", "created_after", filters.created_after)
    narrow("j.created_at < :created_before", "created_before", filters.created_before)
    narrow("j.id >= :lowest_id", "lowest_id", filters.created_after and _id_at(filters.created_after, -MAX_CLOCK_SKEW_MS))
    narrow("j.id < :highest_id", "highest_id", filters.created_before and _id_at(filters.created_before, MAX_CLOCK_SKEW_MS))
    return conditions, values


def _id_at(moment: datetime, skew_ms: int) -> UUID:
    """The lowest id of a moment; those before 1970 have the lowest of all."""
    return uuid7(max(0, int(moment.timestamp() * 1000) + skew_ms), bytes(10))


def _job(row: Any) -> JobView:
    values = dict(row) if isinstance(row, Mapping) else row._asdict()
    values["status"] = Status(values["status"])
    values["priority"] = Priority(values["priority"])
    return JobView(**values)
