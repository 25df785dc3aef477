"""Events that a running job adds to its history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import orjson
from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class NewEvent:
    """One event of a running job; ``kind`` is ``progress``, ``log`` or ``output.delta``; one kind at most a job and call."""

    job_id: UUID
    fence: int
    kind: str
    data: Mapping[str, object]


_APPEND = text(
    """
    WITH v AS (
        SELECT *, row_number() OVER (PARTITION BY id, fence) AS place, count(*) OVER (PARTITION BY id, fence) AS many
        FROM unnest(CAST(:id AS uuid[]), CAST(:fence AS bigint[]), CAST(:type AS text[]), CAST(:data AS text[])) AS v(id, fence, type, data)
    ), held AS (
        SELECT jobs.id FROM jobs JOIN v ON v.id = jobs.id AND v.fence = jobs.fence AND v.place = 1
        WHERE jobs.status || '' = 'running' ORDER BY jobs.id FOR UPDATE OF jobs
    ), j AS (
        UPDATE jobs SET event_seq = event_seq + v.many FROM v JOIN held ON held.id = v.id
        WHERE jobs.id = v.id AND jobs.fence = v.fence AND v.place = 1 AND jobs.status || '' = 'running'
        RETURNING jobs.id, jobs.fence, jobs.event_seq, jobs.attempt
    )
    INSERT INTO job_events (job_id, seq, attempt, type, data)
    SELECT j.id, j.event_seq - v.many + v.place, j.attempt, v.type, CAST(v.data AS json) FROM j JOIN v ON v.id = j.id AND v.fence = j.fence
    """
)


def append_events(connection: Connection, *, events: Sequence[NewEvent]) -> None:
    """Adds events to jobs that are still held under the given fence; drops the others. Locks the jobs' rows in the order of ids."""
    connection.execute(
        _APPEND,
        {
            "id": [str(event.job_id) for event in events],
            "fence": [event.fence for event in events],
            "type": [event.kind for event in events],
            "data": [orjson.dumps(event.data).decode() for event in events],
        },
    )
