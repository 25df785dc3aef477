"""Taking jobs: one statement for however many were submitted at the same moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from domain.media import MediaKind
from models.prepared import Prepared
from models.queries.endpoints import origin_id

IDEMPOTENCY_HOURS = 24


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
    route: str = "jobs"
    idempotency: tuple[bytes, bytes] | None = None
    webhook: JobWebhook | None = None
    files: tuple[NamedFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The row was written."""

    id: UUID
    created_at: datetime
    available_at: datetime
    deadline_at: datetime


@dataclass(frozen=True, slots=True)
class Replayed:
    """The same key made this job (or batch) before, from the same body."""

    id: UUID


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The same key was used with another body."""


Outcome = Accepted | Replayed | KeyReused

_WEBHOOK_PARTS = (
    """,
            CAST(:webhook_endpoint_id AS uuid[]), CAST(:webhook_url AS text[]), CAST(:webhook_origin AS text[]), CAST(:webhook_events AS text[])""",
    ", webhook_endpoint_id, webhook_url, webhook_origin, webhook_events",
    """
    ), w AS (
        INSERT INTO webhook_endpoints (id, tenant_id, kind, url)
        SELECT DISTINCT webhook_endpoint_id, tenant_id, 'origin', webhook_origin FROM d JOIN j USING (id) WHERE webhook_url IS NOT NULL ORDER BY 1
        ON CONFLICT DO NOTHING
    ), h AS (
        INSERT INTO job_webhooks (job_id, endpoint_id, url, events)
        SELECT id, webhook_endpoint_id, webhook_url, CAST(webhook_events AS text[]) FROM d JOIN j USING (id) WHERE webhook_url IS NOT NULL
""",
)
_FILE_PARTS = (
    ", CAST(:file_ids AS text[])",
    ", file_ids",
    """
    ), f AS (
        INSERT INTO job_files (job_id, file_id)
        SELECT DISTINCT id, unnest(CAST(file_ids AS uuid[])) FROM d JOIN j USING (id) WHERE file_ids IS NOT NULL
""",
)


def _submit(name: str, *, webhooks: bool, files: bool = False) -> Prepared:
    """The statement, with or without what only jobs with webhooks, or with files, need."""
    chosen = [part for part, wanted in ((_WEBHOOK_PARTS, webhooks), (_FILE_PARTS, files)) if wanted]
    more_values, more_names, more_parts = ("".join(texts) for texts in zip(*chosen, strict=True)) if chosen else ("", "", "")
    return Prepared(
        name,
        f"""
    WITH d AS (
        SELECT * FROM unnest(
            CAST(:id AS uuid[]), CAST(:tenant_id AS uuid[]), CAST(:key_id AS uuid[]), CAST(:batch_id AS uuid[]), CAST(:rerun_of AS uuid[]),
            CAST(:task AS text[]), CAST(:model AS text[]), CAST(:pool AS text[]), CAST(:priority AS text[]), CAST(:custom_id AS text[]),
            CAST(:max_attempts AS int[]), CAST(:timeout_s AS float8[]), CAST(:deadline_s AS float8[]), CAST(:retention_s AS float8[]),
            CAST(:not_before AS timestamptz[]), CAST(:input AS text[]), CAST(:metadata AS text[]), CAST(:traceparent AS text[]),
            CAST(:route AS text[]), CAST(:key_hash AS bytea[]), CAST(:fingerprint AS bytea[]){more_values}
        ) AS d(id, tenant_id, key_id, batch_id, rerun_of, task, model, pool, priority, custom_id, max_attempts, timeout_s, deadline_s, retention_s,
               not_before, input, metadata, traceparent, route, key_hash, fingerprint{more_names})
    ), won AS (
        INSERT INTO idempotency_keys (tenant_id, route, key_hash, fingerprint, subject_id)
        SELECT tenant_id, route, key_hash, fingerprint, id FROM d WHERE key_hash IS NOT NULL ORDER BY tenant_id, route, key_hash
        ON CONFLICT DO NOTHING RETURNING subject_id
    ), j AS (
        INSERT INTO jobs (id, tenant_id, key_id, batch_id, rerun_of, task, model, pool, priority, custom_id, max_attempts, timeout_s, retention_s,
                          available_at, deadline_at)
        SELECT id, tenant_id, key_id, batch_id, rerun_of, task, model, pool, priority, custom_id, max_attempts, timeout_s, retention_s,
               greatest(not_before, now()), now() + deadline_s * interval '1 second'
        FROM d WHERE key_hash IS NULL OR id IN (SELECT subject_id FROM won)
        RETURNING id, created_at, available_at, deadline_at
    ), i AS (
        INSERT INTO job_inputs (job_id, input, metadata, traceparent)
        SELECT id, CAST(input AS json), CAST(metadata AS jsonb), traceparent FROM d JOIN j USING (id)
    ), e AS (
        INSERT INTO job_events (job_id, seq, attempt, type, status) SELECT id, 1, 0, 'status', 'queued' FROM j{more_parts}
    )
    SELECT id, created_at, available_at, deadline_at FROM j
    """,  # noqa: S608 - made of constants
    )


_SUBMIT = _submit("millpond_submit", webhooks=False)
_SUBMIT_WITH_WEBHOOKS = _submit("millpond_submit_with_webhooks", webhooks=True)
_SUBMIT_WITH_FILES = _submit("millpond_submit_with_files", webhooks=True, files=True)

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


def submit_jobs(session: Session, *, jobs: Sequence[NewJob]) -> list[Accepted | None]:
    """Writes jobs with their inputs, first events and webhooks; one statement, so run it as a transaction of its own.

    Jobs without webhooks and files do not pay for those with: they use a statement that knows nothing of them. An origin that is new is
    written too; a transaction that is writing the same one is waited for.

    Rows of ``idempotency_keys`` are inserted in the order of their keys, so that concurrent groups cannot deadlock; a row whose
    key another transaction is inserting waits for it, at most ``lock_timeout``.

    Returns:
        For each job what was written, or None where its key was there before (ask ``originals``).
    """
    columns, webhooks = _columns(jobs), [job.webhook for job in jobs]
    if any(job.files for job in jobs):
        file_ids = [f"{{{','.join(str(file.id) for file in job.files)}}}" if job.files else None for job in jobs]
        rows = _SUBMIT_WITH_FILES.rows(session, {**columns, **_webhook_columns(jobs), "file_ids": file_ids}, count=len(jobs))
    elif any(webhooks):
        rows = _SUBMIT_WITH_WEBHOOKS.rows(session, {**columns, **_webhook_columns(jobs)}, count=len(jobs))
    else:
        rows = _SUBMIT.rows(session, columns, count=len(jobs))
    written = {row.id: Accepted(row.id, row.created_at, row.available_at, row.deadline_at) for row in rows}
    return [written.get(job.id) for job in jobs]


def originals(session: Session, *, jobs: Sequence[NewJob]) -> list[Replayed | KeyReused | None]:
    """What the keys of jobs that were not written have made before. Locks nothing; reads the primary key.

    Returns:
        For each job the replay or the refusal; None where the key is over 24 hours old (``forget_stale`` it and submit again)
        or gone.
    """
    keyed = [(job, job.idempotency) for job in jobs if job.idempotency is not None]
    rows = session.execute(
        _ORIGINALS,
        {
            "tenant_id": [str(job.tenant_id) for job, _ in keyed],
            "route": [job.route for job, _ in keyed],
            "key_hash": [hashes[0] for _, hashes in keyed],
            "hours": IDEMPOTENCY_HOURS,
        },
    ).all()
    found = {(row.tenant_id, row.route, bytes(row.key_hash)): row for row in rows}
    answers: list[Replayed | KeyReused | None] = []
    for job in jobs:
        row = found.get((job.tenant_id, job.route, job.idempotency[0])) if job.idempotency else None
        if row is None or job.idempotency is None or row.stale:
            answers.append(None)
        elif bytes(row.fingerprint) == job.idempotency[1]:
            answers.append(Replayed(row.subject_id))
        else:
            answers.append(KeyReused())
    return answers


def forget_stale(session: Session, *, job: NewJob) -> None:
    """Deletes a job's Idempotency-Key if it is over 24 hours old. Locks that row."""
    if job.idempotency is not None:
        session.execute(_FORGET_STALE, {"tenant_id": job.tenant_id, "route": job.route, "key_hash": job.idempotency[0], "hours": IDEMPOTENCY_HOURS})


def _columns(jobs: Sequence[NewJob]) -> dict[str, list[object]]:
    return {
        "id": [str(job.id) for job in jobs],
        "tenant_id": [str(job.tenant_id) for job in jobs],
        "key_id": [str(job.key_id) for job in jobs],
        "batch_id": [job.batch_id and str(job.batch_id) for job in jobs],
        "rerun_of": [job.rerun_of and str(job.rerun_of) for job in jobs],
        "task": [job.task for job in jobs],
        "model": [job.model for job in jobs],
        "pool": [job.pool for job in jobs],
        "priority": [job.priority for job in jobs],
        "custom_id": [job.custom_id for job in jobs],
        "max_attempts": [job.max_attempts for job in jobs],
        "timeout_s": [job.timeout_s for job in jobs],
        "deadline_s": [job.deadline_s for job in jobs],
        "retention_s": [job.retention_s for job in jobs],
        "not_before": [job.not_before for job in jobs],
        "input": [job.input_json for job in jobs],
        "metadata": [job.metadata_json for job in jobs],
        "traceparent": [job.traceparent for job in jobs],
        "route": [job.route for job in jobs],
        "key_hash": [job.idempotency[0] if job.idempotency else None for job in jobs],
        "fingerprint": [job.idempotency[1] if job.idempotency else None for job in jobs],
    }


def _webhook_columns(jobs: Sequence[NewJob]) -> dict[str, list[object]]:
    hooks = [(job.tenant_id, job.webhook) for job in jobs]
    return {
        "webhook_endpoint_id": [hook and str(origin_id(tenant_id, hook.origin)) for tenant_id, hook in hooks],
        "webhook_url": [hook and hook.url for _, hook in hooks],
        "webhook_origin": [hook and hook.origin for _, hook in hooks],
        "webhook_events": [None if hook is None or hook.events is None else f"{{{','.join(hook.events)}}}" for _, hook in hooks],
    }
