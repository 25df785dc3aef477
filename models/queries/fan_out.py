"""Who hears of an event: pieces of SQL that write one delivery per event and endpoint, in the statement that writes the event."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from domain.event_types import DEFAULT_EVENTS, EventType
from models.identity import new_id

EVENT_ID = """CAST(
    left(CAST(:event_id AS text), 19) || to_hex(32768 + mod(row_number() OVER (ORDER BY id), 16384)) || substr(CAST(gen_random_uuid() AS text), 24) AS uuid
)"""
"""Ids for a statement's events, made of one new id, in the order of the column ``id``: all that a statement writes happens at the same moment."""

_DEFAULTS = "ARRAY[" + ", ".join(f"'{event}'" for event in sorted(DEFAULT_EVENTS)) + "]"

ENDPOINTS_OF = """CROSS JOIN LATERAL (
        SELECT id, url, events FROM webhook_endpoints WHERE tenant_id = {of}.tenant_id AND kind = 'registered' AND enabled OFFSET 0
    ) w"""
"""Joins the endpoints that a tenant has registered. ``OFFSET 0`` has each row look them up by its tenant, whatever the planner knew when it made a plan
that is kept: while the table is empty, it costs no more to read all of it for each row."""

WEBHOOK_OF = "CROSS JOIN LATERAL (SELECT endpoint_id, url, events FROM job_webhooks WHERE job_id = {of} OFFSET 0) h"
"""Joins the webhook that a job asked for, likewise."""

DELIVERY_ID = "CAST(left(CAST(ev.id AS text), 23) || substr(CAST(gen_random_uuid() AS text), 24) AS uuid)"
"""A new UUIDv7 that sorts where that of the event ``ev`` does."""

TO_ENDPOINTS = f"""
    INSERT INTO webhook_deliveries (id, tenant_id, event_id, endpoint_id, job_id, type, url)
    SELECT {DELIVERY_ID}, ev.tenant_id, ev.id, w.id, ev.job_id, ev.type, w.url
    FROM ev {ENDPOINTS_OF.format(of="ev")} WHERE ev.type = ANY (coalesce(w.events, {_DEFAULTS}))
"""  # noqa: S608 - made of constants
"""Deliveries of events ``ev (id, tenant_id, job_id, type)`` to their tenants' endpoints. Uses ``webhook_endpoints_of_tenant``."""

TO_ALL = f"""
    {TO_ENDPOINTS}
    UNION ALL
    SELECT {DELIVERY_ID}, ev.tenant_id, ev.id, h.endpoint_id, ev.job_id, ev.type, h.url
    FROM ev {WEBHOOK_OF.format(of="ev.job_id")} WHERE ev.type = ANY (coalesce(h.events, {_DEFAULTS}))
"""  # noqa: S608
"""The same, and to the webhooks of the jobs that the events are of."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that no job's transition makes."""

    tenant_id: UUID
    type: EventType
    batch_id: UUID | None = None
    endpoint_id: UUID | None = None


_ADD = text(
    f"""
    WITH v AS (
        SELECT * FROM unnest(
            CAST(:id AS uuid[]), CAST(:tenant_id AS uuid[]), CAST(:batch_id AS uuid[]), CAST(:endpoint_id AS uuid[]), CAST(:type AS text[])
        ) AS v(id, tenant_id, batch_id, endpoint_id, type)
    ), ev AS (
        INSERT INTO events (id, tenant_id, batch_id, endpoint_id, type) SELECT id, tenant_id, batch_id, endpoint_id, type FROM v
        RETURNING id, tenant_id, job_id, type
    )
    {TO_ENDPOINTS}
    """  # noqa: S608
)


def add_events(connection: Connection, *, events: Sequence[NewEvent]) -> list[UUID]:
    """Writes events and their deliveries to the tenants' endpoints; locks nothing.

    Returns:
        Their ids.
    """
    ids = [new_id() for _ in events]
    connection.execute(
        _ADD,
        {
            "id": [str(event_id) for event_id in ids],
            "tenant_id": [str(event.tenant_id) for event in events],
            "batch_id": [event.batch_id and str(event.batch_id) for event in events],
            "endpoint_id": [event.endpoint_id and str(event.endpoint_id) for event in events],
            "type": [event.type.value for event in events],
        },
    )
    return ids
