"""Keeping hold of running jobs, and finding those whose holder is gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from domain.job import Status


@dataclass(frozen=True, slots=True)
class LeaseState:
    """What the database says of a job that a dispatch was given.

    Attributes:
        held: whether that dispatch holds it.
    """

    id: UUID
    owner: str
    status: Status
    fence: int
    held: bool


@dataclass(frozen=True, slots=True)
class LapsedJob:
    """A live job that its lease or its deadline has left behind; its row is locked by the caller's transaction.

    Attributes:
        counts_for: as for ``ClaimedJob``.
    """

    id: UUID
    fence: int
    alone: bool
    crashes: int
    model: str
    counts_for: UUID | None


_RENEW = text(
    """
    WITH v AS (
        SELECT * FROM unnest(CAST(:id AS uuid[]), CAST(:owner AS text[])) AS v(id, owner)
    ), held AS (
        SELECT jobs.id FROM jobs JOIN v ON v.id = jobs.id AND v.owner = jobs.lease_owner
        WHERE jobs.status || '' = 'running' ORDER BY jobs.id FOR UPDATE OF jobs SKIP LOCKED
    ), j AS (
        UPDATE jobs SET lease_expires_at = now() + make_interval(secs => :lease_s) FROM held WHERE jobs.id = held.id AND jobs.status || '' = 'running'
    )
    SELECT jobs.id, v.owner, jobs.status, jobs.fence, coalesce(jobs.status = 'running' AND jobs.lease_owner = v.owner, false) AS held
    FROM v JOIN jobs ON jobs.id = v.id
    """
)

_LAPSED = text(
    """
    SELECT id, fence, alone, crashes, model, CASE WHEN child_role = 'shadow' THEN NULL ELSE tenant_id END AS counts_for FROM jobs
    WHERE status = 'running' AND lease_expires_at < now() - make_interval(secs => :grace_s)
      AND (parent_id IS NOT NULL) = :children AND pg_postmaster_start_time() < now() - make_interval(secs => :settle_s)
    ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
    """
)

# In the order of deadlines, not of ids: most rows of the table are final and their deadlines are past, so the planner expects many hits and would
# walk all of the primary key to find none (2.1 s in place of 1.3 ms, with 300,000 final jobs).
_OVERDUE = text(
    """
    SELECT id, fence, alone, crashes, model, CASE WHEN child_role = 'shadow' THEN NULL ELSE tenant_id END AS counts_for FROM jobs
    WHERE status IN ('queued', 'running') AND deadline_at < now() AND (parent_id IS NOT NULL) = :children
    ORDER BY deadline_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
    """
)

_HELD_BY = text(
    """
    SELECT id, fence, alone, crashes, model, CASE WHEN child_role = 'shadow' THEN NULL ELSE tenant_id END AS counts_for FROM jobs
    WHERE status = 'running' AND starts_with(lease_owner, :worker || ':')
    ORDER BY id FOR UPDATE
    """
)


def renew_leases(connection: Connection, *, holdings: Sequence[tuple[UUID, str]], lease_s: float) -> list[LeaseState]:
    """Renews what is still held, and says how all of it stands.

    Skips rows that another transaction has locked (they are being finished, or taken away): their lease has time until the next
    renewal. Touches no indexed column, so updates stay HOT.

    Args:
        holdings: (job, owner) as the jobs were dispatched.
        lease_s: from now.
    """
    rows = connection.execute(_RENEW, {"id": [str(job_id) for job_id, _ in holdings], "owner": [owner for _, owner in holdings], "lease_s": lease_s})
    return [LeaseState(row.id, row.owner, Status(row.status), row.fence, row.held) for row in rows]


def lock_lapsed(connection: Connection, *, children: bool = False, grace_s: float, settle_s: float = 0.0, limit: int) -> list[LapsedJob]:
    """Running jobs whose lease ended over ``grace_s`` ago; skips rows that are locked. Uses ``jobs_live``.

    Children and other jobs are locked apart: the end of a child waits for its parent (see ``finish_jobs``).

    None while the database has been up for less than ``settle_s``: leases that ended while it was away are not their holders' fault, and these renew
    them as soon as they reach it.
    """
    rows = connection.execute(_LAPSED, {"children": children, "grace_s": grace_s, "settle_s": settle_s, "limit": limit})
    return [LapsedJob(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name for a row by column


def lock_overdue(connection: Connection, *, children: bool = False, limit: int) -> list[LapsedJob]:
    """Live jobs whose deadline has passed, children or others as for ``lock_lapsed``; skips rows that are locked. Uses ``jobs_live``."""
    return [LapsedJob(**row._mapping) for row in connection.execute(_OVERDUE, {"children": children, "limit": limit})]  # noqa: SLF001


def lock_held_by(connection: Connection, *, worker: str) -> list[LapsedJob]:
    """Running jobs of a worker process that is known to be gone; locks them. Uses ``jobs_live``."""
    return [LapsedJob(**row._mapping) for row in connection.execute(_HELD_BY, {"worker": worker})]  # noqa: SLF001
