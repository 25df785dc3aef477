"""Webhook deliveries as their owner sees them: lists, tries, how a job's webhook stands, and sending again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from domain.ids import uuid7
from models.queries.read import MAX_CLOCK_SKEW_MS


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A delivery as its owner may see it.

    Attributes:
        state: ``pending``, ``sending``, ``delivered`` or ``failed``.
        available_at: the next try is not before then, while it is pending.
        status_code: of the last answer.
        error: of the last try; None after a success.
    """

    id: UUID
    tenant_id: UUID
    event_id: UUID
    endpoint_id: UUID
    job_id: UUID | None
    type: str
    url: str
    state: str
    tries: int
    status_code: int | None
    error: str | None
    created_at: datetime
    available_at: datetime
    last_try_at: datetime | None
    finished_at: datetime | None

    @property
    def next_try_at(self) -> datetime | None:
        """When it is tried next; None while it is sent and when it is over."""
        return self.available_at if self.state == "pending" else None


@dataclass(frozen=True, slots=True)
class TryView:
    """One try; numbers count from 1."""

    number: int
    started_at: datetime
    duration_ms: float
    status_code: int | None
    error: str | None
    detail: str | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class DeliveryFilters:
    """What a list is narrowed to; what is None does not narrow.

    Attributes:
        created_after: this moment or later.
        created_before: earlier than this moment.
    """

    endpoint_id: UUID | None = None
    event_id: UUID | None = None
    job_id: UUID | None = None
    state: str | None = None
    type: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class WebhookState:
    """How the webhook that a job asked for stands, by its newest delivery.

    Attributes:
        state: a delivery's; ``waiting`` while the job is live and nothing that it asked for has happened, ``unwanted`` when it ended in a
            way that it did not ask for.
    """

    state: str
    tries: int
    next_try_at: datetime | None


_VIEW = """
    id, tenant_id, event_id, endpoint_id, job_id, type, url, state, tries, status_code, error, created_at, available_at, last_try_at, finished_at
"""
_GET = text(f"SELECT {_VIEW} FROM webhook_deliveries WHERE id = :delivery_id AND tenant_id = :tenant_id")  # noqa: S608 - made of constants

_ANEW = """
    UPDATE webhook_deliveries d SET state = 'pending', fence = fence + 1, schedule_step = 0, available_at = now(), finished_at = NULL
"""
_ENABLED = "EXISTS (SELECT FROM webhook_endpoints w WHERE w.id = d.endpoint_id AND w.enabled)"
_REDELIVER = text(f"{_ANEW} WHERE id = :delivery_id AND tenant_id = :tenant_id AND state <> 'sending' AND {_ENABLED}")

_TRIES = text(
    """
    SELECT try AS number, started_at, duration_ms, status_code, error, detail, answer FROM webhook_tries WHERE delivery_id = :delivery_id ORDER BY try
    """
)

# Ordered by time, not by id: the planner would walk all that an origin ever got, backwards, to find one job's.
_OF_JOBS = text(
    """
    SELECT h.job_id, j.finished_at IS NULL AS live, d.state, d.tries, d.available_at
    FROM job_webhooks h JOIN jobs j ON j.id = h.job_id LEFT JOIN LATERAL (
        SELECT state, tries, available_at FROM webhook_deliveries
        WHERE job_id = h.job_id AND endpoint_id = h.endpoint_id ORDER BY created_at DESC, id DESC LIMIT 1
    ) d ON true
    WHERE h.job_id = ANY (CAST(:ids AS uuid[]))
    """
)


def redeliver(connection: Connection, *, tenant_id: UUID, delivery_id: UUID) -> DeliveryView | None:
    """Makes a delivery due now, with a whole schedule before it; call it in a unit of work. Locks its row.

    One that is being sent, and one whose endpoint is disabled or gone, stay as they are.

    Returns:
        How it stands now; None when the tenant has none of that id.
    """
    connection.execute(_REDELIVER, {"tenant_id": tenant_id, "delivery_id": delivery_id})
    return get_delivery(connection, tenant_id=tenant_id, delivery_id=delivery_id)


def redeliver_range(
    connection: Connection,
    *,
    tenant_id: UUID,
    endpoint_id: UUID | None = None,
    state: str | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    limit: int,
) -> int:
    """Makes deliveries that are over due now, the oldest first; those of endpoints that are disabled or gone stay as they are.

    Skips locked rows. Walks ``webhook_deliveries_of_endpoint`` or ``webhook_deliveries_of_tenant``.

    Args:
        connection: where.
        tenant_id: whose.
        endpoint_id: of one endpoint alone.
        state: ``delivered`` or ``failed``; None for both.
        created_after: this moment or later.
        created_before: earlier than this moment.
        limit: the most deliveries.

    Returns:
        How many.
    """
    filters = DeliveryFilters(endpoint_id=endpoint_id, state=state, created_after=created_after, created_before=created_before)
    conditions, values = _narrowed(filters)
    where = " AND ".join(["d.tenant_id = :tenant_id", "d.state IN ('delivered', 'failed')", _ENABLED, *conditions])
    query = f"""
        WITH chosen AS (SELECT d.id FROM webhook_deliveries d WHERE {where} ORDER BY d.id LIMIT :limit FOR UPDATE OF d SKIP LOCKED)
        {_ANEW} FROM chosen WHERE d.id = chosen.id AND d.state IN ('delivered', 'failed') RETURNING d.id
    """  # noqa: S608 - made of constants
    return len(connection.execute(text(query), {"tenant_id": tenant_id, "limit": limit, **values}).all())


def get_delivery(connection: Connection, *, tenant_id: UUID, delivery_id: UUID) -> DeliveryView | None:
    """One delivery; None when the tenant has none of that id. Locks nothing; reads the primary key."""
    row = connection.execute(_GET, {"tenant_id": tenant_id, "delivery_id": delivery_id}).one_or_none()
    return None if row is None else DeliveryView(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row by column


def list_deliveries(connection: Connection, *, tenant_id: UUID, filters: DeliveryFilters, after: UUID | None = None, limit: int) -> list[DeliveryView]:
    """A page of a tenant's deliveries, the newest first. Locks nothing.

    Walks ``webhook_deliveries_of_tenant`` or ``webhook_deliveries_of_endpoint`` backwards. The bounds on ``created_at`` are exact; bounds on the id,
    ten minutes wider for clocks that differ, let the same index serve them.

    Args:
        connection: where.
        tenant_id: whose.
        filters: what the list is narrowed to.
        after: the last id of the page before this one.
        limit: the most deliveries of a page.
    """
    conditions, values = _narrowed(filters)
    if after is not None:
        conditions.append("d.id < :after")
        values["after"] = after
    where = " AND ".join(["d.tenant_id = :tenant_id", *conditions])
    query = f"SELECT {_VIEW} FROM webhook_deliveries d WHERE {where} ORDER BY d.id DESC LIMIT :limit"  # noqa: S608 - made of constants
    rows = connection.execute(text(query), {"tenant_id": tenant_id, "limit": limit, **values})
    return [DeliveryView(**row._mapping) for row in rows]  # noqa: SLF001


def tries_of(connection: Connection, *, delivery_id: UUID) -> list[TryView]:
    """Every try of a delivery, the first first. Locks nothing; reads the primary key. The caller has checked whose the delivery is."""
    return [TryView(**row._mapping) for row in connection.execute(_TRIES, {"delivery_id": delivery_id})]  # noqa: SLF001


def delivery_state_of_jobs(connection: Connection, *, job_ids: Sequence[UUID]) -> dict[UUID, WebhookState]:
    """How the webhooks that jobs asked for stand; a job that asked for none is left out. Locks nothing; reads ``webhook_deliveries_of_job``."""
    states: dict[UUID, WebhookState] = {}
    for row in connection.execute(_OF_JOBS, {"ids": [str(job_id) for job_id in job_ids]}):
        if row.state is None:
            states[row.job_id] = WebhookState("waiting" if row.live else "unwanted", 0, None)
        else:
            states[row.job_id] = WebhookState(row.state, row.tries, row.available_at if row.state == "pending" else None)
    return states


def _narrowed(filters: DeliveryFilters) -> tuple[list[str], dict[str, object]]:
    """The conditions of a list, each a constant piece of SQL, and their values."""
    conditions: list[str] = []
    values: dict[str, object] = {}

    def narrow(condition: str, name: str, value: object) -> None:
        if value is not None:
            conditions.append(condition)
            values[name] = value

    narrow("d.endpoint_id = :endpoint_id", "endpoint_id", filters.endpoint_id)
    narrow("d.event_id = :event_id", "event_id", filters.event_id)
    narrow("d.job_id = :job_id", "job_id", filters.job_id)
    narrow("d.state = :state", "state", filters.state)
    narrow("d.type = :type", "type", filters.type)
    narrow("d.created_at >= :created_after", "created_after", filters.created_after)
    narrow("d.created_at < :created_before", "created_before", filters.created_before)
    narrow("d.id >= :lowest_id", "lowest_id", filters.created_after and _id_at(filters.created_after, -MAX_CLOCK_SKEW_MS))
    narrow("d.id < :highest_id", "highest_id", filters.created_before and _id_at(filters.created_before, MAX_CLOCK_SKEW_MS))
    return conditions, values


def _id_at(moment: datetime, skew_ms: int) -> UUID:
    """The lowest id of a moment; those before 1970 have the lowest of all."""
    return uuid7(max(0, int(moment.timestamp() * 1000) + skew_ms), bytes(10))
