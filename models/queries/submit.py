"""Taking jobs: one statement for however many were submitted at the same moment."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from domain.job import ChildRole
from domain.media import MediaKind
from models.prepared import Prepared
from models.queries.endpoints import origin_id

IDEMPOTENCY_HOURS = 24
ROUTE = "jobs"


@dataclass(frozen=True, slots=True)
class JobWebhook:
    """The webhook that a single job asks for.

    Attributes:
        url: where it goes.
        origin: the URL's scheme, host and port, written in one way only.
        events: the types it wants; None for the default ones.
    """

    url: str
    origin: str
    events: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that a job's input names.

    Attributes:
        pointer: where in the request it does.
        kind: what the file must be.
    """

    id: UUID
    pointer: str
    kind: MediaKind | None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job about to be written; JSON fields are text, as they will be stored.

    Attributes:
        idempotency: SHA-256 of the Idempotency-Key, and of the canonical body; None without a key.
        not_before: the start is delayed until then.
        deadline_s: seconds from now until it expires.
        input_json: the input as JSON text.
        metadata_json: string pairs as JSON text, None when there are none.
        webhook: where its own events go, beside the tenant's endpoints.
        routing_json: the decision that gave it its model as JSON text; None where there was nothing to decide.
        children: jobs that are written with it. While there are some to be joined, the job itself waits.
        child_role: why a child was made; None for a job without a parent.
        consensus_json: the rule by which its children are joined, as JSON text.
        files: what its input names, by the pointers of the fields; each was seen to be the tenant's.
    """

    id: UUID
    tenant_id: UUID
    key_id: UUID
    task: str
    model: str
    pool: str
    priority: str
    max_attempts: int
    timeout_s: float
    deadline_s: float
    retention_s: float
    input_json: str
    not_before: datetime | None = None
    metadata_json: str | None = None
    traceparent: str | None = None
    batch_id: UUID | None = None
    custom_id: str | None = None
    rerun_of: UUID | None = None
    route: str = ROUTE
    idempotency: tuple[bytes, bytes] | None = None
    webhook: JobWebhook | None = None
    routing_json: str | None = None
    files: tuple[NamedFile, ...] = ()
    children: tuple["NewJob", ...] = ()
    child_role: ChildRole | None = None
    consensus_json: str | None = None

    @property
    def pending_children(self) -> int | None:
        """How many children it waits for; None if it never waits."""
        return sum(child.child_role is ChildRole.CONSENSUS for child in self.children) or None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The row was written; ``available_at`` is None where the job waits for its children."""

    id: UUID
    created_at: datetime
    available_at: datetime | None
    deadline_at: datetime


@dataclass(frozen=True, slots=True)
class Replayed:
    """The same key made this job (or batch) before, from the same body."""

    id: UUID


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The same key was used with another body."""


Outcome = Accepted | Replayed | KeyReused

_WEBHOOK_COLUMNS = ", webhook_endpoint_id uuid, webhook_url text, webhook_origin text, webhook_events text[]"
_WEBHOOKS = """
    ), w AS (
        INSERT INTO webhook_endpoints (id, tenant_id, kind, url)
        SELECT DISTINCT webhook_endpoint_id, tenant_id, 'origin', webhook_origin FROM d JOIN j USING (id) WHERE webhook_url IS NOT NULL ORDER BY 1
        ON CONFLICT DO NOTHING
    ), h AS (
        INSERT INTO job_webhooks (job_id, endpoint_id, url, events)
        SELECT id, webhook_endpoint_id, webhook_url, webhook_events FROM d JOIN j USING (id) WHERE webhook_url IS NOT NULL
"""
_FILE_COLUMNS = ", file_ids uuid[]"
_FILES = """
    ), f AS (
        INSERT INTO job_files (job_id, file_id) SELECT DISTINCT id, unnest(file_ids) FROM d JOIN j USING (id) WHERE file_ids IS NOT NULL
"""
_FAMILY_COLUMNS = ", parent_id uuid, child_role text, pending_children int, consensus json"
_FAMILIES = """
    ), c AS (
        INSERT INTO job_consensus (job_id, rule) SELECT id, consensus FROM d JOIN j USING (id) WHERE consensus IS NOT NULL
"""


def _submit(name: str, *, webhooks: bool = False, files: bool = False, families: bool = False) -> Prepared:
    """The statement, with or without what only jobs with webhooks, jobs with files, and parents and children need."""
    parts = ((_WEBHOOK_COLUMNS, _WEBHOOKS, webhooks), (_FILE_COLUMNS, _FILES, files), (_FAMILY_COLUMNS, _FAMILIES, families))
    more_columns, more_parts = ("".join(texts) for texts in zip(*((part[0], part[1]) if part[2] else ("", "") for part in parts), strict=True))
    columns = ", parent_id, child_role, pending_children" if families else ""
    available_at = "CASE WHEN pending_children IS NULL THEN greatest(not_before, now()) ELSE 'infinity' END" if families else "greatest(not_before, now())"
    return Prepared(
        name,
        f"""
    WITH d AS (
        SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS d(
            id uuid, tenant_id uuid, key_id uuid, batch_id uuid, rerun_of uuid, task text, model text, pool text, priority text, custom_id text,
            max_attempts int, timeout_s float8, deadline_s float8, retention_s float8, not_before timestamptz, input json, metadata jsonb,
            routing json, traceparent text, route text, key_hash bytea, fingerprint bytea{more_columns}
        )
    ), won AS (
        INSERT INTO idempotency_keys (tenant_id, route, key_hash, fingerprint, subject_id)
        SELECT tenant_id, route, key_hash, fingerprint, id FROM d
        WHERE key_hash IS NOT NULL {"AND parent_id IS NULL" if families else ""} ORDER BY tenant_id, route, key_hash
        ON CONFLICT DO NOTHING RETURNING subject_id
    ), j AS (
        INSERT INTO jobs (id, tenant_id, key_id, batch_id, rerun_of, task, model, pool, priority, custom_id, max_attempts, timeout_s, retention_s,
                          available_at, deadline_at{columns})
        SELECT id, tenant_id, key_id, batch_id, rerun_of, task, model, pool, priority, custom_id, max_attempts, timeout_s, retention_s,
               {available_at}, now() + deadline_s * interval '1 second'{columns}
        FROM d WHERE key_hash IS NULL OR {"coalesce(parent_id, id)" if families else "id"} IN (SELECT subject_id FROM won)
        RETURNING id, created_at, available_at, deadline_at
    ), i AS (
        INSERT INTO job_inputs (job_id, input, metadata, traceparent, routing)
        SELECT id, input, metadata, traceparent, routing FROM d JOIN j USING (id)
    ), e AS (
        INSERT INTO job_events (job_id, seq, attempt, type, status) SELECT id, 1, 0, 'status', 'queued' FROM j{more_parts}
    )
    SELECT id, created_at, NULLIF(available_at, 'infinity') AS available_at, deadline_at FROM j
    """,  # noqa: S608 - made of constants
    )


_SUBMIT = _submit("millpond_submit")
_SUBMIT_WITH_WEBHOOKS = _submit("millpond_submit_with_webhooks", webhooks=True)
_SUBMIT_WITH_FILES = _submit("millpond_submit_with_files", webhooks=True, files=True)
_SUBMIT_FAMILIES = _submit("millpond_submit_families", webhooks=True, files=True, families=True)

_ORIGINALS = text(
    """
    SELECT k.tenant_id, k.route, k.key_hash, k.fingerprint, k.subject_id, k.created_at < now() - make_interval(hours => :hours) AS stale
    FROM idempotency_keys k
    JOIN unnest(CAST(:tenant_id AS uuid[]), CAST(:route AS text[]), CAST(:key_hash AS bytea[])) AS d(tenant_id, route, key_hash)
      USING (tenant_id, route, key_hash)
    """
)

_FORGET_STALE = text(
    """
    DELETE FROM idempotency_keys WHERE tenant_id = :tenant_id AND route = :route AND key_hash = :key_hash
      AND created_at < now() - make_interval(hours => :hours)
    """
)


def submit_jobs(connection: Connection, *, jobs: Sequence[NewJob]) -> list[Accepted | None]:
    """Writes jobs with their inputs, first events and webhooks; one statement, so run it as a transaction of its own.

    Jobs without webhooks, files or children do not pay for those with: they use statements that know nothing of them. An origin that is new is
    written too; a transaction that is writing the same one is waited for. Children are written with their parent or not at all.

    Rows of ``idempotency_keys`` are inserted in the order of their keys, so that concurrent groups cannot deadlock; a row whose
    key another transaction is inserting waits for it, at most ``lock_timeout``.

    Returns:
        For each job what was written, or None where its key was there before (ask ``originals``).
    """
    written_rows = [row for job in jobs for row in _rows(job)]
    if len(written_rows) > len(jobs):
        query = _SUBMIT_FAMILIES
    elif any(job.files for job in jobs):
        query = _SUBMIT_WITH_FILES
    else:
        query = _SUBMIT_WITH_WEBHOOKS if any(job.webhook for job in jobs) else _SUBMIT
    rows = query.rows(connection, {"rows": orjson.dumps(written_rows).decode()}, count=len(written_rows))
    written = {row.id: Accepted(row.id, row.created_at, row.available_at, row.deadline_at) for row in rows}
    return [written.get(job.id) for job in jobs]


def originals(connection: Connection, *, jobs: Sequence[NewJob]) -> list[Replayed | KeyReused | None]:
    """What the keys of jobs that were not written have made before. Locks nothing; reads the primary key.

    Returns:
        For each job the replay or the refusal; None where the key is over 24 hours old (``forget_stale`` it and submit again)
        or gone.
    """
    return _originals(connection, [(job.tenant_id, job.route, job.idempotency) for job in jobs])


def original_of_key(connection: Connection, *, tenant_id: UUID, route: str, idempotency: tuple[bytes, bytes]) -> Replayed | KeyReused | None:
    """What one key has made before, as ``originals``, where there is no job that could be written."""
    return _originals(connection, [(tenant_id, route, idempotency)])[0]


def _originals(connection: Connection, keys: Sequence[tuple[UUID, str, tuple[bytes, bytes] | None]]) -> list[Replayed | KeyReused | None]:
    keyed = [(tenant_id, route, idempotency[0]) for tenant_id, route, idempotency in keys if idempotency is not None]
    rows = connection.execute(
        _ORIGINALS,
        {
            "tenant_id": [str(tenant_id) for tenant_id, _, _ in keyed],
            "route": [route for _, route, _ in keyed],
            "key_hash": [key_hash for _, _, key_hash in keyed],
            "hours": IDEMPOTENCY_HOURS,
        },
    ).all()
    found = {(row.tenant_id, row.route, bytes(row.key_hash)): row for row in rows}
    answers: list[Replayed | KeyReused | None] = []
    for tenant_id, route, idempotency in keys:
        row = found.get((tenant_id, route, idempotency[0])) if idempotency else None
        if row is None or idempotency is None or row.stale:
            answers.append(None)
        elif bytes(row.fingerprint) == idempotency[1]:
            answers.append(Replayed(row.subject_id))
        else:
            answers.append(KeyReused())
    return answers


def forget_stale(connection: Connection, *, job: NewJob) -> None:
    """Deletes a job's Idempotency-Key if it is over 24 hours old. Locks that row."""
    if job.idempotency is not None:
        connection.execute(_FORGET_STALE, {"tenant_id": job.tenant_id, "route": job.route, "key_hash": job.idempotency[0], "hours": IDEMPOTENCY_HOURS})


def _rows(job: NewJob) -> Iterator[dict[str, object]]:
    """A job and its children, which are written if its Idempotency-Key is new."""
    row = _row(job)
    if not job.children:
        yield row
        return
    yield {**row, "pending_children": job.pending_children, "consensus": job.consensus_json and orjson.Fragment(job.consensus_json)}
    key: dict[str, object] = {name: row[name] for name in ("key_hash", "fingerprint") if name in row}
    for child in job.children:
        yield {**_row(child), **key, "parent_id": job.id, "child_role": child.child_role}


def _row(job: NewJob) -> dict[str, object]:
    """A job as the statement reads it. One JSON text costs half of what an array for each column does, on either side; what is left out is NULL."""
    row: dict[str, object] = {
        "id": job.id,
        "tenant_id": job.tenant_id,
        "key_id": job.key_id,
        "task": job.task,
        "model": job.model,
        "pool": job.pool,
        "priority": job.priority,
        "max_attempts": job.max_attempts,
        "timeout_s": job.timeout_s,
        "deadline_s": job.deadline_s,
        "retention_s": job.retention_s,
        "input": orjson.Fragment(job.input_json),
        "route": job.route,
    }
    for name in ("batch_id", "rerun_of", "custom_id", "not_before", "traceparent"):
        if (value := getattr(job, name)) is not None:
            row[name] = value
    if job.routing_json is not None:
        row["routing"] = orjson.Fragment(job.routing_json)
    if job.metadata_json is not None:
        row["metadata"] = orjson.Fragment(job.metadata_json)
    if job.idempotency is not None:
        row["key_hash"], row["fingerprint"] = (f"\\x{value.hex()}" for value in job.idempotency)
    if job.files:
        row["file_ids"] = [file.id for file in job.files]
    if job.webhook is not None:
        row["webhook_endpoint_id"] = origin_id(job.tenant_id, job.webhook.origin)
        row["webhook_url"] = job.webhook.url
        row["webhook_origin"] = job.webhook.origin
        row["webhook_events"] = job.webhook.events
    return row
