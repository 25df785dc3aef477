"""Reviews: jobs whose models disagree and that wait for a person's word, and the word."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from domain.job import Priority, Status
from models.queries.consensus import Review

PAGE_BYTES = 4_194_304  # as stored, so compressed: a page in memory is a few times this


@dataclass(frozen=True, slots=True)
class ReviewView:
    """A review and the job that it is of.

    Attributes:
        input_json: JSON text; None once it was erased.
        report_json: JSON text of what the join found; None once it was erased.
    """

    job_id: UUID
    task: str
    status: Status
    deadline_at: datetime
    review: Review
    input_json: str | None
    report_json: str | None


@dataclass(frozen=True, slots=True)
class Resolved:
    """A job that may be joined again, now that a person has spoken: what a message must say of it."""

    pool: str
    priority: Priority
    model: str


_REVIEWS = """
    SELECT r.job_id, j.task, j.status, j.deadline_at, r.asked_at, r.resolved_at, r.resolved_by, CAST(r.resolution AS text) AS resolution_json,
        CAST(i.input AS text) AS input_json, CAST(c.report AS text) AS report_json
    FROM job_reviews r JOIN jobs j ON j.id = r.job_id JOIN job_consensus c ON c.job_id = r.job_id LEFT JOIN job_inputs i ON i.job_id = r.job_id
"""

_OPEN = text(
    f"""
    WITH page AS (
        SELECT r.job_id FROM job_reviews r JOIN jobs j ON j.id = r.job_id
        WHERE r.tenant_id = :tenant_id AND r.resolved_at IS NULL AND j.finished_at IS NULL
          AND (CAST(:before AS uuid) IS NULL OR r.job_id < CAST(:before AS uuid))
        ORDER BY r.job_id DESC LIMIT CAST(:limit AS int) + 1
    ), sized AS (
        SELECT job_id, row_number() OVER w AS place, sum(coalesce(pg_column_size(input), 0) + coalesce(pg_column_size(report), 0)) OVER w AS bytes
        FROM page LEFT JOIN job_inputs USING (job_id) LEFT JOIN job_consensus USING (job_id) WINDOW w AS (ORDER BY job_id DESC)
    )
    SELECT shown.*, (SELECT count(*) FROM page) AS found FROM ({_REVIEWS}) shown JOIN sized ON sized.job_id = shown.job_id
    WHERE place <= :limit AND (place = 1 OR bytes <= :page_bytes) ORDER BY place
    """  # noqa: S608 - made of constants
)
_ONE = text(f"{_REVIEWS} WHERE r.tenant_id = :tenant_id AND r.job_id = :job_id")

_RESOLVE = text(
    """
    WITH held AS (
        SELECT id FROM jobs
        WHERE id = :job_id AND tenant_id = :tenant_id AND finished_at IS NULL AND available_at = 'infinity' AND deadline_at > now() FOR UPDATE
    ), r AS (
        UPDATE job_reviews SET resolved_at = now(), resolved_by = :key_id, resolution = CAST(:resolution AS json)
        FROM held WHERE job_id = held.id AND resolved_at IS NULL RETURNING job_id
    )
    UPDATE jobs SET available_at = now(), published_at = NULL, publications = 0 FROM r WHERE jobs.id = r.job_id AND finished_at IS NULL
    RETURNING pool, priority, model
    """
)


def open_reviews(
    connection: Connection, *, tenant_id: UUID, before: UUID | None = None, limit: int, page_bytes: int = PAGE_BYTES
) -> tuple[list[ReviewView], bool]:
    """A page of a tenant's jobs that wait for a person, the newest job first. Locks nothing; walks ``job_reviews_open`` backwards.

    Args:
        tenant_id: whose.
        before: the last id of the page before this one.
        limit: the most reviews of a page.
        page_bytes: of stored inputs and answers, unless one review alone has more; bounds the memory that a page takes.

    Returns:
        The page, and whether there are more.
    """
    values = {"tenant_id": tenant_id, "before": before and str(before), "limit": limit, "page_bytes": page_bytes}
    rows = connection.execute(_OPEN, values).all()
    return [_view(row) for row in rows], bool(rows) and rows[0].found > len(rows)


def get_review(connection: Connection, *, tenant_id: UUID, job_id: UUID) -> ReviewView | None:
    """A review, resolved or not; None when the tenant has none of that job. Locks nothing."""
    row = connection.execute(_ONE, {"tenant_id": tenant_id, "job_id": job_id}).one_or_none()
    return None if row is None else _view(row)


def resolve_review(connection: Connection, *, tenant_id: UUID, job_id: UUID, key_id: UUID, resolution_json: str) -> Resolved | None:
    """Notes a person's word, once, and makes the job due: its join takes the word for its own. Locks the job's row and then the review's.

    Returns:
        None when the review is resolved already, or its job has ended.
    """
    values = {"tenant_id": tenant_id, "job_id": job_id, "key_id": key_id, "resolution": resolution_json}
    row = connection.execute(_RESOLVE, values).one_or_none()
    return None if row is None else Resolved(row.pool, Priority(row.priority), row.model)


def _view(row: Row[Any]) -> ReviewView:
    review = Review(row.asked_at, row.resolved_at, row.resolved_by, row.resolution_json)
    return ReviewView(row.job_id, row.task, Status(row.status), row.deadline_at, review, row.input_json, row.report_json)
