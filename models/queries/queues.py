"""What waits and runs, pool by pool, and what the worker processes say of themselves."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from domain.ids import uuid7
from domain.job import Priority

WORKER_SEEN_S = 20.0  # a worker that has said nothing for so long does not count
ARRIVAL_WINDOW_S = 60.0
CLOCK_SKEW = timedelta(seconds=30)  # an id's time is the API host's, created_at is the database's


@dataclass(frozen=True, slots=True)
class LaneLoad:
    """How one queue stands.

    Attributes:
        queued: jobs that wait, those not due yet included; not those that wait for their children or a review.
        delayed: those of them that are not due yet.
        oldest_queued_s: how long the longest waiting due job has been due; 0 when none waits.
        arrival_per_s: jobs accepted in the last minute, per second.
    """

    pool: str
    priority: Priority
    queued: int = 0
    delayed: int = 0
    running: int = 0
    oldest_queued_s: float = 0.0
    arrival_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolWorkers:
    """The worker processes of a pool.

    Attributes:
        ready: those whose models are loaded.
        concurrency: batches that all of them can run at once.
        busy: batches that they run now.
        finish_per_s: jobs that they bring to an end, per second.
    """

    workers: int = 0
    ready: int = 0
    concurrency: int = 0
    busy: int = 0
    finish_per_s: float = 0.0


_BEAT = text(
    """
    INSERT INTO worker_processes (name, pool, host, pid, concurrency, ready, busy, finish_per_s)
    VALUES (:name, :pool, :host, :pid, :concurrency, :ready, :busy, :finish_per_s)
    ON CONFLICT (name) DO UPDATE SET
        pool = excluded.pool, host = excluded.host, pid = excluded.pid, concurrency = excluded.concurrency, ready = excluded.ready,
        busy = excluded.busy, finish_per_s = excluded.finish_per_s, seen_at = now()
    """
)

_FORGET = text("DELETE FROM worker_processes WHERE name = :name")
_FORGET_SILENT = text("DELETE FROM worker_processes WHERE seen_at < now() - make_interval(secs => :silent_s) RETURNING name")

_LANES = text(
    """
    WITH live AS (
        SELECT pool, priority, count(*) FILTER (WHERE status = 'queued' AND available_at < 'infinity') AS queued,
            count(*) FILTER (WHERE status = 'queued' AND available_at > now() AND available_at < 'infinity') AS delayed,
            count(*) FILTER (WHERE status = 'running') AS running,
            extract(epoch FROM now() - min(available_at) FILTER (WHERE status = 'queued' AND available_at <= now())) AS oldest_queued_s
        FROM jobs WHERE status IN ('queued', 'running') GROUP BY pool, priority
    ), arrived AS (
        SELECT pool, priority, count(*) / CAST(:window_s AS float8) AS arrival_per_s
        FROM jobs WHERE id >= :lowest_id AND created_at > now() - make_interval(secs => :window_s) GROUP BY pool, priority
    )
    SELECT pool, priority, queued, delayed, running, CAST(oldest_queued_s AS float8) AS oldest_queued_s, arrival_per_s
    FROM live FULL JOIN arrived USING (pool, priority)
    """
)

_WORKERS = text(
    """
    SELECT pool, count(*) AS workers, count(*) FILTER (WHERE ready) AS ready, sum(concurrency) AS concurrency, sum(busy) AS busy,
        sum(finish_per_s) AS finish_per_s
    FROM worker_processes WHERE seen_at > now() - make_interval(secs => :seen_s) GROUP BY pool
    """
)


def beat(connection: Connection, *, name: str, pool: str, host: str, pid: int, concurrency: int, ready: bool, busy: int, finish_per_s: float) -> None:
    """Notes what a worker process says of itself, every few seconds. Locks its own row; touches no index, so it stays HOT.

    Args:
        name: unique among all workers that live at the same time.
        pool: whose queues it consumes.
        host: where it runs.
        pid: its main process there.
        concurrency: how many batches it can run at once.
        ready: whether its models are loaded and it consumes.
        busy: how many batches it runs now.
        finish_per_s: jobs it has brought to an end lately, per second.
    """
    connection.execute(
        _BEAT,
        {
            "name": name,
            "pool": pool,
            "host": host,
            "pid": pid,
            "concurrency": concurrency,
            "ready": ready,
            "busy": busy,
            "finish_per_s": finish_per_s,
        },
    )


def forget(connection: Connection, *, name: str) -> None:
    """Removes a worker process that has stopped. Locks its row."""
    connection.execute(_FORGET, {"name": name})


def forget_silent(connection: Connection, *, silent_s: float) -> int:
    """Removes worker processes that have said nothing for ``silent_s``: they died without a word.

    Returns:
        How many.
    """
    return len(connection.execute(_FORGET_SILENT, {"silent_s": silent_s}).all())


def lane_loads(connection: Connection, *, now: datetime) -> list[LaneLoad]:
    """How every queue stands. Locks nothing.

    Reads the rows of all live jobs through ``jobs_live``, and those that came in the last minute through the primary key, whose
    ids sort by time: cost grows with the backlog, so callers remember the answer for a moment.

    Args:
        now: the wall clock, for the bound on ids; the window itself is measured by the database.
    """
    rows = connection.execute(_LANES, {"window_s": ARRIVAL_WINDOW_S, "lowest_id": _lowest_id(now)})
    return [
        LaneLoad(row.pool, Priority(row.priority), row.queued or 0, row.delayed or 0, row.running or 0, row.oldest_queued_s or 0.0, row.arrival_per_s or 0.0)
        for row in rows
    ]


def pool_workers(connection: Connection) -> dict[str, PoolWorkers]:
    """The workers of each pool that were seen in the last 20 s. Locks nothing."""
    rows = connection.execute(_WORKERS, {"seen_s": WORKER_SEEN_S})
    return {row.pool: PoolWorkers(row.workers, row.ready, row.concurrency, row.busy, row.finish_per_s) for row in rows}


def _lowest_id(now: datetime) -> UUID:
    moment = now - timedelta(seconds=ARRIVAL_WINDOW_S) - CLOCK_SKEW
    return uuid7(max(0, int(moment.timestamp() * 1000)), bytes(10))
