"""Webhook endpoints: those that tenants register, and the origins that webhooks of single jobs go to."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Connection, Row, text

DISABLED_BY_OWNER = "requested"
FAIL_AT_ONCE = 10_000  # pending deliveries that one statement gives up; ``take_hints`` gives up the rest


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint as its owner may see it.

    Attributes:
        kind: ``registered`` (by the API) or ``origin`` (of webhooks of single jobs).
        url: where its deliveries go; of an origin scheme, host and port alone.
        events: the types it gets; None for the default ones.
        disabled_reason: ``requested``, ``gone`` or ``failing``; None while it is enabled.
        standing: ``new``, ``good`` or ``failing``.
        failures: failed tries in a row.
        failing_since: nothing but failures since then.
    """

    id: UUID
    tenant_id: UUID
    kind: str
    url: str
    description: str
    events: tuple[str, ...] | None
    enabled: bool
    disabled_reason: str | None
    standing: str
    failures: int
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime


_COLUMNS = """id, tenant_id, kind, url, description, events, enabled, disabled_reason, standing, failures, failing_since, created_at, updated_at"""

_INSERT = text(
    f"""
    INSERT INTO webhook_endpoints (id, tenant_id, kind, url, description, events, enabled, disabled_reason)
    VALUES (:id, :tenant_id, 'registered', :url, :description, :events, :enabled, :disabled_reason) RETURNING {_COLUMNS}
    """  # noqa: S608 - made of constants
)

_GET = text(f"SELECT {_COLUMNS} FROM webhook_endpoints WHERE id = :endpoint_id AND tenant_id = :tenant_id AND kind = 'registered'")  # noqa: S608

_LIST = text(
    f"""
    SELECT {_COLUMNS} FROM webhook_endpoints
    WHERE tenant_id = :tenant_id AND kind = 'registered' AND (CAST(:after AS uuid) IS NULL OR id > :after) ORDER BY id LIMIT :limit
    """  # noqa: S608
)

_REGISTER_ALONE = text("SELECT pg_advisory_xact_lock(hashtextextended('webhook endpoints of ' || CAST(:tenant_id AS text), 0))")

_COUNT = text("SELECT count(*) FROM webhook_endpoints WHERE tenant_id = :tenant_id AND kind = 'registered'")

# A new URL is a new receiver, and enabling is a new start: both forget what went wrong before.
_CHANGE = text(
    f"""
    UPDATE webhook_endpoints SET
        url = :url, description = :description, events = :events, enabled = :enabled, disabled_reason = :disabled_reason, updated_at = now(),
        standing = CASE WHEN :anew THEN 'new' ELSE standing END, failures = CASE WHEN :anew THEN 0 ELSE failures END,
        failing_since = CASE WHEN :anew THEN NULL ELSE failing_since END
    WHERE id = :endpoint_id RETURNING {_COLUMNS}
    """  # noqa: S608
)

_DELETE = text(
    """
    WITH gone AS (
        DELETE FROM webhook_endpoints WHERE id = :endpoint_id AND tenant_id = :tenant_id AND kind = 'registered' RETURNING id
    ), s AS (
        DELETE FROM webhook_secrets USING gone WHERE webhook_secrets.tenant_id = :tenant_id AND webhook_secrets.endpoint_id = gone.id
    )
    SELECT id FROM gone
    """
)

_FAIL_PENDING = text(
    """
    WITH pending AS (
        SELECT id FROM webhook_deliveries WHERE endpoint_id = :endpoint_id AND state = 'pending'
        ORDER BY available_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE webhook_deliveries d SET state = 'failed', fence = fence + 1, error = :error, finished_at = now()
    FROM pending WHERE d.id = pending.id AND d.state = 'pending' RETURNING d.id
    """
)

_ENSURE_ORIGIN = text("INSERT INTO webhook_endpoints (id, tenant_id, kind, url) VALUES (:id, :tenant_id, 'origin', :url) ON CONFLICT DO NOTHING")


def create_endpoint(
    connection: Connection, *, endpoint_id: UUID, tenant_id: UUID, url: str, description: str, events: tuple[str, ...] | None, enabled: bool
) -> EndpointView:
    """Writes a registered endpoint; its secret goes into the same transaction (``add_secret``)."""
    row = connection.execute(
        _INSERT,
        {
            "id": endpoint_id,
            "tenant_id": tenant_id,
            "url": url,
            "description": description,
            "events": None if events is None else list(events),
            "enabled": enabled,
            "disabled_reason": None if enabled else DISABLED_BY_OWNER,
        },
    ).one()
    return _endpoint(row)


def get_endpoint(connection: Connection, *, tenant_id: UUID, endpoint_id: UUID, lock: bool = False) -> EndpointView | None:
    """One registered endpoint; None when the tenant has none of that id. Reads the primary key.

    Args:
        tenant_id: whose.
        endpoint_id: which.
        lock: whether to keep others from changing it until the transaction ends.
    """
    query = text(f"{_GET.text} FOR NO KEY UPDATE") if lock else _GET
    row = connection.execute(query, {"tenant_id": tenant_id, "endpoint_id": endpoint_id}).one_or_none()
    return None if row is None else _endpoint(row)


def list_endpoints(connection: Connection, *, tenant_id: UUID, after: UUID | None = None, limit: int) -> list[EndpointView]:
    """A page of a tenant's registered endpoints, the oldest first. Reads ``webhook_endpoints_of_tenant``.

    Args:
        tenant_id: whose.
        after: the last id of the page before this one.
        limit: the most endpoints of a page.
    """
    return [_endpoint(row) for row in connection.execute(_LIST, {"tenant_id": tenant_id, "after": after and str(after), "limit": limit})]


def count_endpoints(connection: Connection, *, tenant_id: UUID) -> int:
    """How many endpoints a tenant has registered; nobody else who counts registers one until the transaction ends, so that a limit holds.

    Reads ``webhook_endpoints_of_tenant``.
    """
    connection.execute(_REGISTER_ALONE, {"tenant_id": tenant_id})
    return int(connection.execute(_COUNT, {"tenant_id": tenant_id}).scalar_one())


def change_endpoint(connection: Connection, *, tenant_id: UUID, endpoint_id: UUID, changes: Mapping[str, Any]) -> EndpointView | None:
    """Changes a registered endpoint; call it in a unit of work.

    Another URL, and enabling after it was disabled, forget its failures. Disabling it fails its pending deliveries with
    ``endpoint_disabled``. Locks the endpoint's row, then those deliveries, passing over locked ones.

    Args:
        tenant_id: whose.
        endpoint_id: which.
        changes: any of ``url``, ``description``, ``events`` (None for the default ones) and ``enabled``.

    Returns:
        What it is now; None when the tenant has none of that id.
    """
    now = get_endpoint(connection, tenant_id=tenant_id, endpoint_id=endpoint_id, lock=True)
    if now is None:
        return None
    url, enabled = changes.get("url", now.url), changes.get("enabled", now.enabled)
    events = changes.get("events", now.events)
    row = connection.execute(
        _CHANGE,
        {
            "endpoint_id": endpoint_id,
            "url": url,
            "description": changes.get("description", now.description),
            "events": None if events is None else list(events),
            "enabled": enabled,
            "disabled_reason": None if enabled else (now.disabled_reason or DISABLED_BY_OWNER),
            "anew": url != now.url or (enabled and not now.enabled),
        },
    ).one()
    if not enabled:
        fail_pending(connection, endpoint_id=endpoint_id, error="endpoint_disabled")
    return _endpoint(row)


def delete_endpoint(connection: Connection, *, tenant_id: UUID, endpoint_id: UUID) -> bool:
    """Deletes a registered endpoint and its secrets; its pending deliveries fail with ``endpoint_deleted``, all others stay to be seen.

    Call it in a unit of work. Locks the endpoint's row, then those deliveries, passing over locked ones.

    Returns:
        Whether the tenant had such an endpoint.
    """
    found = connection.execute(_DELETE, {"tenant_id": tenant_id, "endpoint_id": endpoint_id}).one_or_none() is not None
    if found:
        fail_pending(connection, endpoint_id=endpoint_id, error="endpoint_deleted")
    return found


def fail_pending(connection: Connection, *, endpoint_id: UUID, error: str) -> int:
    """Gives up what an endpoint still has to get, 10,000 at most. Passes over locked rows. Uses ``webhook_deliveries_due``.

    Returns:
        How many deliveries.
    """
    return len(connection.execute(_FAIL_PENDING, {"endpoint_id": endpoint_id, "error": error, "limit": FAIL_AT_ONCE}).all())


def origin_id(tenant_id: UUID, origin: str) -> UUID:
    """The id of a tenant's origin endpoint: made of both, so that nobody has to look it up.

    Args:
        tenant_id: whose.
        origin: scheme, host and port, written in one way only.
    """
    return uuid5(tenant_id, origin)


def ensure_origin(connection: Connection, *, tenant_id: UUID, url: str) -> UUID:
    """Makes sure that a tenant's origin endpoint is there; waits for a transaction that is writing the same one.

    Args:
        tenant_id: whose.
        url: scheme, host and port, written in one way only.

    Returns:
        Its id.
    """
    endpoint_id = origin_id(tenant_id, url)
    connection.execute(_ENSURE_ORIGIN, {"id": endpoint_id, "tenant_id": tenant_id, "url": url})
    return endpoint_id


def _endpoint(row: Row[Any]) -> EndpointView:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row by column
    values["events"] = None if values["events"] is None else tuple(values["events"])
    return EndpointView(**values)
