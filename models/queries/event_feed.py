"""Public events: the ordered feed that tenants pull, the stored bodies, and the events that no job's transition makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from domain.event_types import EventType
from models.identity import new_id
from models.queries.fan_out import DELIVERY_ID, NewEvent, add_events


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """A public event.

    Attributes:
        endpoint_id: whom ``endpoint.disabled`` and ``ping`` speak of.
        body: the bytes that are signed; None until they are stored.
    """

    id: UUID
    tenant_id: UUID
    type: str
    created_at: datetime
    job_id: UUID | None
    batch_id: UUID | None
    endpoint_id: UUID | None
    body: bytes | None


_COLUMNS = "id, tenant_id, type, created_at, job_id, batch_id, endpoint_id, body"

# Transactions commit in another order than they begin. What a running one has written, or may yet write, would come before events that were read
# already; so the feed ends where the oldest running one began.
_SETTLED = "tenant_id = :tenant_id AND xid < pg_snapshot_xmin(pg_current_snapshot())"

_CURSOR = text("SELECT CAST(xid AS text) AS xid FROM events WHERE id = :after AND tenant_id = :tenant_id")

_FEED = text(f"SELECT {_COLUMNS} FROM events WHERE {_SETTLED} ORDER BY xid, id LIMIT :limit")  # noqa: S608 - made of constants

_FEED_AFTER = text(
    f"""
    SELECT {_COLUMNS} FROM events WHERE {_SETTLED} AND (xid, id) > (CAST(:xid AS xid8), CAST(:after AS uuid)) ORDER BY xid, id LIMIT :limit
    """  # noqa: S608
)

_GET = text(f"SELECT {_COLUMNS} FROM events WHERE id = ANY (CAST(:ids AS uuid[])) ORDER BY id")  # noqa: S608

_STORE = text(
    """
    WITH held AS (
        SELECT e.id, v.body FROM events e JOIN unnest(CAST(:ids AS uuid[]), CAST(:bodies AS bytea[])) AS v(id, body) ON v.id = e.id
        WHERE e.body IS NULL ORDER BY e.id FOR UPDATE OF e
    )
    UPDATE events e SET body = held.body FROM held WHERE e.id = held.id AND e.body IS NULL
    """
)

_STORED = text("SELECT id, body FROM events WHERE id = ANY (CAST(:ids AS uuid[])) AND body IS NOT NULL")

_PING = text(
    f"""
    WITH w AS (
        SELECT id, tenant_id, url FROM webhook_endpoints WHERE id = :endpoint_id AND tenant_id = :tenant_id AND kind = 'registered' AND enabled
    ), ev AS (
        INSERT INTO events (id, tenant_id, endpoint_id, type) SELECT :event_id, tenant_id, id, :type FROM w RETURNING id, tenant_id, type
    )
    INSERT INTO webhook_deliveries (id, tenant_id, event_id, endpoint_id, type, url)
    SELECT {DELIVERY_ID}, ev.tenant_id, ev.id, w.id, ev.type, w.url FROM ev CROSS JOIN w RETURNING id
    """  # noqa: S608
)

_COMPLETE = text(
    """
    WITH due AS (
        SELECT id FROM batches WHERE completed_at IS NULL
          AND NOT EXISTS (SELECT FROM jobs WHERE jobs.batch_id = batches.id AND jobs.status IN ('queued', 'running'))
        ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE batches SET completed_at = now() FROM due WHERE batches.id = due.id AND completed_at IS NULL RETURNING batches.id, batches.tenant_id
    """
)


def read_feed(connection: Connection, *, tenant_id: UUID, after: UUID | None = None, limit: int) -> list[FeedEvent] | None:
    """A tenant's events in the order that they will always have: nothing is ever written before what was read once.

    An event shows up when every transaction that is older than its own has ended. Locks nothing; walks ``events_feed``.

    Args:
        connection: where.
        tenant_id: whose.
        after: the last event that was read; None to begin with the oldest.
        limit: the most events.

    Returns:
        None when the tenant has no event of the id ``after``, or has it no longer.
    """
    if after is None:
        return [_event(row) for row in connection.execute(_FEED, {"tenant_id": tenant_id, "limit": limit})]
    cursor = connection.execute(_CURSOR, {"tenant_id": tenant_id, "after": after}).one_or_none()
    if cursor is None:
        return None
    return [_event(row) for row in connection.execute(_FEED_AFTER, {"tenant_id": tenant_id, "after": str(after), "xid": cursor.xid, "limit": limit})]


def get_events(connection: Connection, *, ids: Sequence[UUID]) -> list[FeedEvent]:
    """Those of the events that are there, in the order of their ids. Locks nothing; reads the primary key."""
    return [_event(row) for row in connection.execute(_GET, {"ids": [str(event_id) for event_id in ids]})]


def store_bodies(connection: Connection, *, bodies: Mapping[UUID, bytes]) -> dict[UUID, bytes]:
    """Stores the bodies of events that have none yet; what is stored never changes. Call it in a unit of work.

    Locks the events' rows in the order of their ids.

    Returns:
        What is stored: another process may have been faster. An event that is gone is left out.
    """
    if not bodies:
        return {}
    ids = [str(event_id) for event_id in bodies]
    connection.execute(_STORE, {"ids": ids, "bodies": list(bodies.values())})
    return {row.id: bytes(row.body) for row in connection.execute(_STORED, {"ids": ids})}


def add_ping(connection: Connection, *, tenant_id: UUID, endpoint_id: UUID) -> UUID | None:
    """Writes a ``ping`` and its delivery to one registered endpoint, whatever its filter. Locks nothing.

    Returns:
        The delivery's id; None when the tenant has no such endpoint, or it is disabled.
    """
    values = {"tenant_id": tenant_id, "endpoint_id": endpoint_id, "event_id": new_id(), "type": EventType.PING.value}
    row = connection.execute(_PING, values).one_or_none()
    return None if row is None else row.id


def complete_batches(connection: Connection, *, limit: int) -> int:
    """Notes which batches have no live job any more, and tells their tenants (``batch.completed``); call it in a unit of work.

    Locks the batches' rows, passing over locked ones. Uses ``batches_open`` and ``jobs_live_of_batch``.

    Returns:
        How many.
    """
    rows = connection.execute(_COMPLETE, {"limit": limit}).all()
    if rows:
        add_events(connection, events=[NewEvent(row.tenant_id, EventType.BATCH_COMPLETED, batch_id=row.id) for row in rows])
    return len(rows)


def _event(row: Row[Any]) -> FeedEvent:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row by column
    values["body"] = None if values["body"] is None else bytes(values["body"])  # the driver gives a memoryview
    return FeedEvent(**values)
