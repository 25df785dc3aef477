"""How much waits for each pool, counted no further than a choice of models needs to know."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

MOST_LOOKED_AT = 2_000

_WAITING = text(
    """
    SELECT p.pool, (
        SELECT count(*) FILTER (WHERE due) FROM (
            SELECT available_at <= now() AS due FROM jobs WHERE status = 'queued' AND pool = p.pool LIMIT :most
        ) AS queued
    ) AS waiting
    FROM unnest(CAST(:pools AS text[])) AS p(pool)
    """
)


def waiting_jobs(connection: Connection, *, pools: Sequence[str], most: int = MOST_LOOKED_AT) -> dict[str, int]:
    """How many due jobs wait for each pool, among the first ``most`` that are queued for it. Reads ``jobs_live``; a few ms whatever the backlog."""
    return {row.pool: row.waiting for row in connection.execute(_WAITING, {"pools": list(pools), "most": most})}
