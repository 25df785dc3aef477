"""The job row as its own outbox: what is due and not published, what was published and got lost."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from domain.job import Priority
from models.prepared import Prepared

FRESH_S = 2.0  # rows younger than this may still be in the hands of the API process that wrote them


@dataclass(frozen=True, slots=True)
class DueJob:
    """A job that a message should speak of."""

    id: UUID
    fence: int
    pool: str
    priority: Priority
    model: str
    solo: bool


_TAKE = Prepared(
    "millpond_take_due",
    """
    WITH due AS (
        SELECT lane.id FROM unnest(CAST(:priorities AS text[])) AS p(priority), LATERAL (
            SELECT id FROM jobs
            WHERE status = 'queued' AND published_at IS NULL AND jobs.priority = p.priority AND available_at <= now()
              AND (available_at > created_at OR created_at <= now() - make_interval(secs => :fresh_s))
            ORDER BY available_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
        ) AS lane
    )
    UPDATE jobs SET published_at = now(), publications = least(publications + 1, 100) FROM due WHERE jobs.id = due.id AND status || '' = 'queued'
    RETURNING jobs.id, fence, pool, priority, model, solo
    """,
)

# Each row is looked up by its id, whatever the planner takes for cheap while the table is young and has no statistics: reading all of it, and
# comparing each job with each note, took half of what PostgreSQL spent on a submit. `status || ''`: see claim.py; here it is the index of
# unpublished jobs, long after the broker was away, that must not be read for each note.
_MARK = Prepared(
    "millpond_mark_published",
    """
    WITH v AS (
        SELECT * FROM unnest(CAST(:id AS uuid[]), CAST(:fence AS bigint[])) AS v(id, fence) ORDER BY id
    ), due AS (
        SELECT found.id FROM v CROSS JOIN LATERAL (
            SELECT id FROM jobs WHERE jobs.id = v.id AND jobs.fence = v.fence AND status || '' = 'queued' AND published_at IS NULL FOR UPDATE SKIP LOCKED
        ) AS found
    ), marked AS (
        UPDATE jobs SET published_at = now(), publications = least(publications + 1, 100) FROM due WHERE jobs.id = due.id RETURNING 1
    )
    SELECT count(*) FROM marked
    """,
)

_UNMARK = text(
    """
    WITH v AS (
        SELECT * FROM unnest(CAST(:id AS uuid[]), CAST(:fence AS bigint[])) AS v(id, fence)
    ), due AS (
        SELECT jobs.id FROM jobs JOIN v ON v.id = jobs.id AND v.fence = jobs.fence
        WHERE jobs.status || '' = 'queued' ORDER BY jobs.id FOR UPDATE OF jobs
    )
    UPDATE jobs SET published_at = NULL, publications = greatest(publications - 1, 0) FROM due WHERE jobs.id = due.id
    """
)

_SWEEP = text(
    """
    WITH lost AS (
        SELECT id FROM jobs
        WHERE status = 'queued' AND pool = :pool AND priority = :priority AND available_at <= now()
          AND published_at < now() - make_interval(secs => least(:cap_s, :base_s * 2.0 ^ greatest(publications - 1, 0)))
        ORDER BY deadline_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs SET published_at = NULL FROM lost WHERE jobs.id = lost.id AND status || '' = 'queued' RETURNING jobs.id
    """
)


_OVERTAKEN = text(
    """
    WITH front AS (
        SELECT min(published_at) AS published_at FROM jobs WHERE status = 'running' AND pool = :pool AND priority = :priority
    ), lost AS (
        SELECT id FROM jobs
        WHERE status = 'queued' AND pool = :pool AND priority = :priority AND available_at <= now()
          AND published_at < (SELECT published_at FROM front) - make_interval(secs => :margin_s)
          AND published_at < now() - make_interval(secs => least(:cap_s, :base_s * 2.0 ^ greatest(publications - 1, 0)))
        ORDER BY deadline_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs SET published_at = NULL FROM lost WHERE jobs.id = lost.id AND status || '' = 'queued' RETURNING jobs.id
    """
)


def take_due(connection: Connection, *, limit: int, fresh_s: float = FRESH_S) -> list[DueJob]:
    """Marks due jobs as published, at most ``limit`` of each priority, and gives them to the caller, who commits first and then publishes.

    Each priority has its share, so that after an outage an urgent job does not wait behind a backlog of ``flex``.

    Any number of relays may run: each takes what the others have not locked. Uses ``jobs_unpublished``. A crash after the commit
    leaves jobs marked that no message speaks of: the sweep finds them.
    """
    rows = _TAKE.rows(connection, {"limit": limit, "fresh_s": fresh_s, "priorities": [priority.value for priority in Priority]}, count=1)
    return [DueJob(row.id, row.fence, row.pool, Priority(row.priority), row.model, row.solo) for row in rows]


def mark_published(connection: Connection, *, published: Sequence[tuple[UUID, int]]) -> None:
    """Notes that a message speaks of these (job, fence); what a worker has taken meanwhile needs no note. Skips locked rows."""
    _MARK.rows(connection, {"id": [str(job_id) for job_id, _ in published], "fence": [fence for _, fence in published]}, count=len(published))


def unmark_published(connection: Connection, *, unpublished: Sequence[tuple[UUID, int]]) -> None:
    """Takes the note back where publishing failed, so that the next look finds the jobs due again."""
    connection.execute(_UNMARK, {"id": [str(job_id) for job_id, _ in unpublished], "fence": [fence for _, fence in unpublished]})


def sweep_lost(connection: Connection, *, pool: str, priority: Priority, base_s: float = 10.0, cap_s: float = 300.0, limit: int = 10_000) -> int:
    """Makes jobs due again whose message is gone; call it only for a queue that was seen empty twice.

    Backs off per job: ``base_s`` × 2ⁿ after its n-th publication, ``cap_s`` at most. Uses ``jobs_live``.

    Returns:
        How many.
    """
    return len(connection.execute(_SWEEP, {"pool": pool, "priority": priority.value, "base_s": base_s, "cap_s": cap_s, "limit": limit}).all())


def sweep_overtaken(
    connection: Connection, *, pool: str, priority: Priority, margin_s: float, base_s: float = 10.0, cap_s: float = 300.0, limit: int = 10_000
) -> int:
    """Makes jobs due again that the queue has passed by: everything that runs now was published over ``margin_s`` after them.

    For queues that are never empty, where ``sweep_lost`` may not look. Backs off per job as it does. Reads all queued jobs of the queue
    (``jobs_live``): 1 s with a million, so ask it seldom.

    Returns:
        How many.
    """
    values = {"pool": pool, "priority": priority.value, "margin_s": margin_s, "base_s": base_s, "cap_s": cap_s, "limit": limit}
    return len(connection.execute(_OVERTAKEN, values).all())
