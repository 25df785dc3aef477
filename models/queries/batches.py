"""Batches: many jobs of one API call. Their jobs are ordinary jobs, written by ``submit`` in the same transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from domain.job import Status
from models.queries.submit import IDEMPOTENCY_HOURS, KeyReused, Replayed

ROUTE = "batches"
RESULTS_PAGE = 100
RESULTS_PAGE_BYTES = 1_048_576  # as stored, so compressed: a page in memory is a few times this


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch about to be written.

    Attributes:
        total: how many jobs it has.
        idempotency: SHA-256 of the Idempotency-Key, and of the canonical body; None without a key.
    """

    id: UUID
    tenant_id: UUID
    key_id: UUID
    total: int
    idempotency: tuple[bytes, bytes] | None = None


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch as its owner may see it.

    Attributes:
        counts: jobs by status; what retention has removed is in no count.
        canceled_at: when its owner first asked to cancel it.
        finished_at: when its last job ended; None while one is live.
    """

    id: UUID
    total: int
    counts: Mapping[Status, int]
    created_at: datetime
    canceled_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What one job of a batch gave, so far.

    Attributes:
        erased: whether its output has been removed, its retention being over.
        output_file: as in ``JobView``.
        output_file_bytes: as in ``JobView``.
    """

    id: UUID
    custom_id: str | None
    status: Status
    output_json: str | None
    error_json: str | None
    erased: bool
    output_file: UUID | None = None
    output_file_bytes: int | None = None


_KEY = text(
    """
    INSERT INTO idempotency_keys AS k (tenant_id, route, key_hash, fingerprint, subject_id)
    VALUES (:tenant_id, :route, :key_hash, :fingerprint, :subject_id)
    ON CONFLICT (tenant_id, route, key_hash) DO UPDATE
        SET fingerprint = excluded.fingerprint, subject_id = excluded.subject_id, created_at = now()
        WHERE k.created_at < now() - make_interval(hours => :hours)
    RETURNING subject_id
    """
)

_ORIGINAL = text("SELECT fingerprint, subject_id FROM idempotency_keys WHERE tenant_id = :tenant_id AND route = :route AND key_hash = :key_hash")

_INSERT = text("INSERT INTO batches (id, tenant_id, key_id, total) VALUES (:id, :tenant_id, :key_id, :total)")

_GET = text(
    """
    SELECT b.total, b.created_at, b.canceled_at, j.status, count(j.id) AS jobs, max(j.finished_at) AS finished_at
    FROM batches b LEFT JOIN jobs j ON j.batch_id = b.id
    WHERE b.id = :batch_id AND b.tenant_id = :tenant_id GROUP BY b.id, j.status
    """
)

_RESULTS = text(
    """
    WITH page AS (
        SELECT j.id, j.custom_id, j.status, j.error, j.erased_at
        FROM jobs j WHERE j.batch_id = :batch_id AND (CAST(:after AS uuid) IS NULL OR j.id > :after) ORDER BY j.id LIMIT :limit
    ), sized AS (
        SELECT page.*, row_number() OVER w AS place, sum(coalesce(pg_column_size(o.output), 0)) OVER w AS bytes
        FROM page LEFT JOIN job_outputs o ON o.job_id = page.id WINDOW w AS (ORDER BY page.id)
    )
    SELECT s.id, s.custom_id, s.status, CAST(o.output AS text) AS output_json, CAST(s.error AS text) AS error_json, s.erased_at IS NOT NULL AS erased,
        o.file_id AS output_file, (SELECT size_bytes FROM files f WHERE f.id = o.file_id) AS output_file_bytes
    FROM sized s LEFT JOIN job_outputs o ON o.job_id = s.id
    WHERE s.place = 1 OR s.bytes <= :page_bytes ORDER BY s.id
    """
)

_CANCEL = text("UPDATE batches SET canceled_at = coalesce(canceled_at, now()) WHERE id = :batch_id AND tenant_id = :tenant_id RETURNING id")

_LIVE = text("SELECT id, fence FROM jobs WHERE batch_id = :batch_id AND status IN ('queued', 'running') ORDER BY id LIMIT :limit")


def insert_batch(connection: Connection, *, batch: NewBatch) -> Replayed | KeyReused | None:
    """Writes the row of a batch, unless its Idempotency-Key has made one before; its jobs go into the same transaction.

    A key that another transaction is using is waited for, at most ``lock_timeout``; one over 24 hours old is taken over.

    Returns:
        None when the row was written, else what the key has made before.
    """
    if batch.idempotency is not None:
        key_hash, fingerprint = batch.idempotency
        key = {"tenant_id": batch.tenant_id, "route": ROUTE, "key_hash": key_hash}
        won = connection.execute(_KEY, {**key, "fingerprint": fingerprint, "subject_id": batch.id, "hours": IDEMPOTENCY_HOURS}).one_or_none()
        if won is None:
            original = connection.execute(_ORIGINAL, key).one()
            return Replayed(original.subject_id) if bytes(original.fingerprint) == fingerprint else KeyReused()
    connection.execute(_INSERT, {"id": batch.id, "tenant_id": batch.tenant_id, "key_id": batch.key_id, "total": batch.total})
    return None


def get_batch(connection: Connection, *, tenant_id: UUID, batch_id: UUID) -> BatchView | None:
    """A batch and how its jobs stand; None when the tenant has none of that id. Locks nothing; reads ``jobs_of_batch``."""
    rows = connection.execute(_GET, {"tenant_id": tenant_id, "batch_id": batch_id}).all()
    if not rows:
        return None
    counts = {Status(row.status): row.jobs for row in rows if row.status is not None}
    live = any(not status.final for status in counts)
    ends = [row.finished_at for row in rows if row.finished_at is not None]
    return BatchView(
        id=batch_id,
        total=rows[0].total,
        counts=counts,
        created_at=rows[0].created_at,
        canceled_at=rows[0].canceled_at,
        finished_at=max(ends) if ends and not live else None,
    )


def batch_results(connection: Connection, *, batch_id: UUID, after: UUID | None = None, page_bytes: int = RESULTS_PAGE_BYTES) -> list[BatchResult]:
    """The next results in the order of the input, which is that of the ids; an empty list is the end.

    A page has at most 100 jobs, and at most ``page_bytes`` of stored outputs unless one job alone has more. Locks nothing; reads
    ``jobs_of_batch``. The caller has checked whose the batch is.

    Args:
        batch_id: whose jobs.
        after: the last id of the page before this one.
        page_bytes: bounds the memory that a page takes.
    """
    rows = connection.execute(_RESULTS, {"batch_id": batch_id, "after": after and str(after), "limit": RESULTS_PAGE, "page_bytes": page_bytes})
    return [BatchResult(**{**row._mapping, "status": Status(row.status)}) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name for a row by column


def mark_batch_canceled(connection: Connection, *, tenant_id: UUID, batch_id: UUID) -> bool:
    """Notes that the owner wants the batch no longer; the first time stays. Locks its row.

    Returns:
        Whether the tenant has such a batch.
    """
    return connection.execute(_CANCEL, {"tenant_id": tenant_id, "batch_id": batch_id}).one_or_none() is not None


def live_jobs_of_batch(connection: Connection, *, batch_id: UUID, limit: int) -> list[tuple[UUID, int]]:
    """Jobs of a batch that are not final, with their fences. Locks nothing; reads ``jobs_of_batch``."""
    return [(row.id, row.fence) for row in connection.execute(_LIVE, {"batch_id": batch_id, "limit": limit})]
