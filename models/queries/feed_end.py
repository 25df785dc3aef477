"""Where the feed of events ends now."""

from uuid import UUID

from sqlalchemy import Connection, text

# As the feed itself reads: only below the oldest transaction that still runs, or what commits late would be skipped by whoever goes on from here.
_NEWEST = text(
    """
    SELECT id FROM events WHERE tenant_id = :tenant_id AND xid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY xid DESC, id DESC LIMIT 1
    """
)


def newest_event(connection: Connection, *, tenant_id: UUID) -> UUID | None:
    """The last event that the feed shows now; None while there is none. Locks nothing; reads ``events_feed`` backwards."""
    found: UUID | None = connection.execute(_NEWEST, {"tenant_id": tenant_id}).scalar_one_or_none()
    return found
