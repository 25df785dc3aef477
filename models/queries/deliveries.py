"""Webhook deliveries: which endpoints have something due, who sends it, what came of it, and what their owner sees of them.

Locks are taken in the order endpoint, deliveries, tenant; whoever would take them in another order passes over locked rows. The lock of a tenant is
an advisory one, held by whoever counts what the tenant has in flight: a lock on its row would write to that row for every claim.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from domain.delivery import DISABLE_AFTER_S, DUE_PER_HINT, FAILING_AFTER, Again, Delivered, Failed, Limits, Standing, Verdict
from domain.event_types import EventType
from models.prepared import Prepared
from models.queries.endpoints import fail_pending
from models.queries.fan_out import NewEvent, add_events

HINT_AGAIN_S = 10.0  # a message that nothing came of for so long counts as lost
REFUSED_AGAIN_S = 0.5  # and half as long again by chance
MOST_HINTS = 4  # as many as sessions may send to a good endpoint
_STATES = {Delivered: "delivered", Again: "pending", Failed: "failed"}


@dataclass(frozen=True, slots=True)
class Due:
    """An endpoint that a message should speak of.

    Attributes:
        standing: ``new``, ``good`` or ``failing``: which queue the message goes to.
        hints: how many messages; more than one where much is due.
    """

    endpoint_id: UUID
    tenant_id: UUID
    standing: str
    hints: int


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that one session owns, as long as its fence is the newest.

    Attributes:
        endpoint_kind: ``registered`` or ``origin``; the latter's secret is the tenant's default one.
        tries: how many there were before.
        schedule_step: where in the schedule it is; 0 before its first try.
        body: the bytes to sign and send; None until they are rendered.
        traceparent: the trace context of whoever submitted the job.
    """

    id: UUID
    event_id: UUID
    tenant_id: UUID
    endpoint_id: UUID
    endpoint_kind: str
    job_id: UUID | None
    type: str
    url: str
    fence: int
    tries: int
    schedule_step: int
    body: bytes | None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """What a session got.

    Attributes:
        refused: whether others send as much as may be sent at once; nothing was looked at then.
    """

    deliveries: list[ClaimedDelivery]
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Try:
    """One POST and what came of it.

    Attributes:
        fence: as it was claimed; a newer one in the database refuses this record.
        status_code: of the answer, if there was one.
        error: a code; None after a success.
        detail: what a person should know of the error.
        answer: the first KiB of the answer's body, printable.
        disables: why this try disables its endpoint, if it does (``gone``).
    """

    delivery_id: UUID
    fence: int
    started_at: datetime
    duration_ms: float
    status_code: int | None
    error: str | None
    detail: str | None
    answer: str | None
    verdict: Verdict
    disables: str | None = None


# A loose scan: one probe of ``webhook_deliveries_due`` an endpoint, however much each has. What no session will take, as its endpoint was disabled or
# deleted while the delivery was being written or given back, is found on the way.
_TAKE_HINTS = Prepared(
    "millpond_take_hints",
    """
    WITH RECURSIVE lane AS (
        (SELECT endpoint_id, available_at FROM webhook_deliveries WHERE state = 'pending' ORDER BY endpoint_id, available_at LIMIT 1)
        UNION ALL
        SELECT ahead.endpoint_id, ahead.available_at FROM lane CROSS JOIN LATERAL (
            SELECT d.endpoint_id, d.available_at FROM webhook_deliveries d WHERE d.state = 'pending' AND d.endpoint_id > lane.endpoint_id
            ORDER BY d.endpoint_id, d.available_at LIMIT 1
        ) ahead
    ), stray AS (
        SELECT d.id, CASE WHEN w.id IS NULL THEN 'endpoint_deleted' ELSE 'endpoint_disabled' END AS error
        FROM lane LEFT JOIN webhook_endpoints w ON w.id = lane.endpoint_id CROSS JOIN LATERAL (
            SELECT id FROM webhook_deliveries WHERE endpoint_id = lane.endpoint_id AND state = 'pending' LIMIT :limit FOR UPDATE SKIP LOCKED
        ) d
        WHERE w.id IS NULL OR NOT w.enabled LIMIT :limit
    ), given_up AS (
        UPDATE webhook_deliveries d SET state = 'failed', fence = fence + 1, error = stray.error, finished_at = now()
        FROM stray WHERE d.id = stray.id AND d.state || '' = 'pending'
    ), due AS (
        SELECT w.id FROM lane JOIN webhook_endpoints w ON w.id = lane.endpoint_id
        WHERE lane.available_at <= now() AND w.enabled AND (w.hinted_at IS NULL OR w.hinted_at < now() - make_interval(secs => :again_after_s))
        ORDER BY w.hinted_at NULLS FIRST, lane.available_at LIMIT :limit FOR UPDATE OF w SKIP LOCKED
    ), hinted AS (
        UPDATE webhook_endpoints w SET hinted_at = now() FROM due WHERE w.id = due.id RETURNING w.id, w.tenant_id, w.standing
    )
    SELECT id, tenant_id, standing, CASE WHEN standing <> 'good' THEN 1 ELSE (
        SELECT least(:most, (count(*) + :per_hint - 1) / :per_hint) FROM (
            SELECT FROM webhook_deliveries d WHERE d.endpoint_id = hinted.id AND d.state = 'pending' AND d.available_at <= now()
            LIMIT CAST(:most AS int) * CAST(:per_hint AS int)
        ) waiting
    ) END AS hints
    FROM hinted
    """,
)

_UNHINT = text(
    "UPDATE webhook_endpoints SET hinted_at = NULL WHERE id = ANY (CAST(:ids AS uuid[])) AND hinted_at IS NOT NULL",
)

_HINT_SOON = text(
    """
    UPDATE webhook_endpoints SET hinted_at = now() - make_interval(secs => CAST(:again_after_s AS float8) - :soon_s * (1 + random() / 2))
    WHERE id = :endpoint_id
    """
)

_LOCK_ENDPOINT = text(
    """
    WITH w AS (
        SELECT id, tenant_id, kind, url, enabled, standing, hinted_at FROM webhook_endpoints WHERE id = :endpoint_id FOR NO KEY UPDATE
    )
    SELECT w.*, pg_advisory_xact_lock(hashtextextended('webhooks in flight ' || tenant_id, 0)) FROM w
    """
)

_IN_FLIGHT = text(
    """
    SELECT count(DISTINCT lease_owner) FILTER (WHERE endpoint_id = :endpoint_id) AS endpoint, count(DISTINCT lease_owner) AS tenant
    FROM webhook_deliveries WHERE tenant_id = :tenant_id AND state = 'sending' AND lease_owner <> :owner
    """
)

# `state || ''` in updates by id: see claim.py.
_CLAIM = text(
    """
    WITH due AS (
        SELECT id FROM webhook_deliveries WHERE endpoint_id = :endpoint_id AND state = 'pending' AND available_at <= now()
        ORDER BY available_at, id LIMIT :many FOR UPDATE SKIP LOCKED
    ), c AS (
        UPDATE webhook_deliveries d SET
            state = 'sending', fence = fence + 1, lease_owner = :owner, lease_expires_at = now() + make_interval(secs => :lease_s), url = coalesce(:url, d.url)
        FROM due WHERE d.id = due.id AND d.state || '' = 'pending'
        RETURNING d.id, d.event_id, d.tenant_id, d.endpoint_id, d.job_id, d.type, d.url, d.fence, d.tries, d.schedule_step, d.available_at
    )
    SELECT c.*, events.body, i.traceparent FROM c LEFT JOIN events ON events.id = c.event_id LEFT JOIN job_inputs i ON i.job_id = c.job_id
    ORDER BY c.available_at, c.id
    """
)

_RENEW = text(
    """
    UPDATE webhook_deliveries SET lease_expires_at = now() + make_interval(secs => :lease_s) WHERE state = 'sending' AND lease_owner = :owner RETURNING id
    """
)

_RECORD = text(
    """
    WITH v AS (
        SELECT * FROM unnest(
            CAST(:id AS uuid[]), CAST(:fence AS bigint[]), CAST(:started_at AS timestamptz[]), CAST(:duration_ms AS float8[]), CAST(:status_code AS int[]),
            CAST(:error AS text[]), CAST(:detail AS text[]), CAST(:answer AS text[]), CAST(:verdict AS text[]), CAST(:delay_s AS float8[])
        ) AS v(id, fence, started_at, duration_ms, status_code, error, detail, answer, verdict, delay_s)
    ), w AS (
        SELECT id, kind, enabled, standing, failures, failing_since FROM webhook_endpoints
        WHERE id IN (SELECT d.endpoint_id FROM webhook_deliveries d JOIN v ON v.id = d.id) ORDER BY id FOR NO KEY UPDATE
    ), outcome AS (
        SELECT v.*, CASE WHEN v.verdict = 'pending' AND w.enabled IS NOT TRUE THEN 'failed' ELSE v.verdict END AS state,
            CASE WHEN v.verdict <> 'pending' OR w.enabled THEN v.error WHEN w.id IS NULL THEN 'endpoint_deleted' ELSE 'endpoint_disabled' END AS last_error
        FROM v JOIN webhook_deliveries d ON d.id = v.id LEFT JOIN w ON w.id = d.endpoint_id
    ), u AS (
        UPDATE webhook_deliveries d SET
            state = o.state, tries = d.tries + 1, last_try_at = o.started_at, status_code = o.status_code, error = o.last_error,
            lease_owner = NULL, lease_expires_at = NULL, finished_at = CASE WHEN o.state <> 'pending' THEN now() END,
            available_at = CASE WHEN o.state = 'pending' THEN now() + make_interval(secs => o.delay_s) ELSE d.available_at END,
            schedule_step = d.schedule_step + CASE WHEN o.state = 'pending' THEN 1 ELSE 0 END
        FROM outcome o WHERE d.id = o.id AND d.fence = o.fence AND d.state || '' = 'sending' AND d.lease_owner = :owner
        RETURNING d.id, d.tenant_id, d.endpoint_id, d.tries
    ), t AS (
        INSERT INTO webhook_tries (delivery_id, try, started_at, duration_ms, status_code, error, detail, answer)
        SELECT u.id, u.tries, v.started_at, v.duration_ms, v.status_code, v.error, v.detail, v.answer FROM u JOIN v ON v.id = u.id
    )
    SELECT u.id, u.tenant_id, u.endpoint_id, w.kind, w.enabled, w.standing, w.failures,
        coalesce(w.failing_since <= now() - make_interval(secs => :disable_after_s), false) AS failing_for_long
    FROM u LEFT JOIN w ON w.id = u.endpoint_id
    """
)

_HEALTH = text(
    """
    UPDATE webhook_endpoints SET standing = :standing, failures = :failures, failing_since = CASE WHEN :failures = 0 THEN NULL
        WHEN :anew THEN now() ELSE coalesce(failing_since, now()) END
    WHERE id = :endpoint_id
    """
)

_DISABLE = text("UPDATE webhook_endpoints SET enabled = false, disabled_reason = :reason, updated_at = now() WHERE id = :endpoint_id")

_GIVE_BACK = text(
    """
    UPDATE webhook_deliveries d SET state = 'pending', fence = d.fence + 1, lease_owner = NULL, lease_expires_at = NULL
    FROM unnest(CAST(:id AS uuid[]), CAST(:fence AS bigint[])) AS v(id, fence)
    WHERE d.id = v.id AND d.fence = v.fence AND d.state || '' = 'sending'
    """
)

_REAP = text(
    """
    WITH lapsed AS (
        SELECT id FROM webhook_deliveries WHERE state = 'sending' AND lease_expires_at < now() - make_interval(secs => :grace_s)
        LIMIT :limit FOR UPDATE SKIP LOCKED
    ), u AS (
        UPDATE webhook_deliveries d SET
            state = 'pending', fence = fence + 1, tries = tries + 1, available_at = now(), last_try_at = now(), status_code = NULL, error = 'sender_lost',
            lease_owner = NULL, lease_expires_at = NULL
        FROM lapsed WHERE d.id = lapsed.id AND d.state || '' = 'sending' RETURNING d.id, d.tries, d.endpoint_id
    ), t AS (
        INSERT INTO webhook_tries (delivery_id, try, started_at, duration_ms, error, detail)
        SELECT id, tries, now(), 0, 'sender_lost', 'The process that was to send it went away; whether it was sent is not known.' FROM u
    )
    SELECT endpoint_id FROM u
    """
)


def take_hints(connection: Connection, *, limit: int, again_after_s: float = HINT_AGAIN_S) -> list[Due]:
    """Endpoints that have something due and of which no message speaks; notes that one does, for the caller to commit and then publish.

    Any number of relays may run: rows that are locked are passed over. Uses ``webhook_deliveries_due``. A crash after the commit costs
    ``again_after_s``. Deliveries of endpoints that are disabled or gone fail here, if they were missed before.

    Args:
        connection: where.
        limit: the most endpoints.
        again_after_s: after so long, a message that nothing came of counts as lost.
    """
    values = {"limit": limit, "again_after_s": again_after_s, "per_hint": DUE_PER_HINT, "most": MOST_HINTS}
    return [Due(row.id, row.tenant_id, row.standing, row.hints) for row in _TAKE_HINTS.rows(connection, values, count=1)]


def unhint(connection: Connection, *, endpoint_ids: Sequence[UUID]) -> None:
    """Takes the note back, so that the next look finds what is due. Locks the endpoints' rows: do it before anything locks the tenant."""
    connection.execute(_UNHINT, {"ids": [str(endpoint_id) for endpoint_id in endpoint_ids]})


def claim_deliveries(connection: Connection, *, endpoint_id: UUID, owner: str, lease_s: float, limits: Limits) -> Claim:
    """Takes what is due of an endpoint, the longest due first; call it in a unit of work, after what it should see is recorded.

    Nobody else claims of the same tenant until the transaction ends, so that what is in flight can be counted. Locks the endpoint's
    row, and the deliveries, passing over locked ones; uses ``webhook_deliveries_due`` and ``webhook_deliveries_sending``. Where nothing is
    due the endpoint's hint is cleared: the next delivery is hinted at once. Where it is refused, another hint comes within a second.

    Args:
        connection: where.
        endpoint_id: whose deliveries.
        owner: unique to this session of sending.
        lease_s: how long the claim holds without renewal.
        limits: how many sessions may send at once.
    """
    endpoint = connection.execute(_LOCK_ENDPOINT, {"endpoint_id": endpoint_id}).one_or_none()
    if endpoint is None or not endpoint.enabled:
        return Claim([])
    flight = connection.execute(_IN_FLIGHT, {"endpoint_id": endpoint_id, "tenant_id": endpoint.tenant_id, "owner": owner}).one()
    sessions = {Standing.NEW: limits.new, Standing.GOOD: limits.good, Standing.FAILING: limits.failing}
    if flight.endpoint >= sessions[Standing(endpoint.standing)] or flight.tenant >= limits.tenant:
        connection.execute(_HINT_SOON, {"endpoint_id": endpoint_id, "again_after_s": HINT_AGAIN_S, "soon_s": REFUSED_AGAIN_S})
        return Claim([], refused=True)
    rows = connection.execute(
        _CLAIM,
        {
            "endpoint_id": endpoint_id,
            "many": limits.many if endpoint.standing == Standing.GOOD else 1,
            "owner": owner,
            "lease_s": lease_s,
            "url": endpoint.url if endpoint.kind == "registered" else None,  # it may have been changed since the event
        },
    ).all()
    if not rows and endpoint.hinted_at is not None:
        unhint(connection, endpoint_ids=[endpoint_id])
    return Claim([_claimed(row, endpoint.kind) for row in rows])


def renew_deliveries(connection: Connection, *, owner: str, lease_s: float) -> set[UUID]:
    """Renews what a session of sending holds. Locks those rows; touches no indexed column, so updates stay HOT.

    Returns:
        The ids that it still holds; another was taken away, and must not be sent.
    """
    return {row.id for row in connection.execute(_RENEW, {"owner": owner, "lease_s": lease_s})}


def record_tries(connection: Connection, *, owner: str, tries: Sequence[Try]) -> set[UUID]:
    """Writes tries down, and what they mean for their deliveries and endpoints; call it in a unit of work. Safe to run again.

    Conditional on fence, owner and on being sent. A failed delivery of an endpoint that was disabled or deleted meanwhile is not tried again. An endpoint is
    ``good`` after a success and ``failing`` after three failures in a row; a registered one is disabled when a try says so, and at a failure
    after 120 h of nothing else: its pending deliveries fail, and ``endpoint.disabled`` tells the tenant's others. Locks the endpoints' rows, then
    the deliveries'.

    Args:
        connection: where.
        owner: the session of sending that claimed them.
        tries: in the order they were made; one a delivery.

    Returns:
        The ids whose try this call wrote; another delivery was taken away before.
    """
    rows = connection.execute(
        _RECORD,
        {
            "owner": owner,
            "disable_after_s": DISABLE_AFTER_S,
            "id": [str(one.delivery_id) for one in tries],
            "fence": [one.fence for one in tries],
            "started_at": [one.started_at for one in tries],
            "duration_ms": [one.duration_ms for one in tries],
            "status_code": [one.status_code for one in tries],
            "error": [one.error for one in tries],
            "detail": [one.detail for one in tries],
            "answer": [one.answer for one in tries],
            "verdict": [_STATES[type(one.verdict)] for one in tries],
            "delay_s": [one.verdict.delay_s if isinstance(one.verdict, Again) else 0.0 for one in tries],
        },
    ).all()
    recorded = {row.id: row for row in rows}
    for endpoint_id in {row.endpoint_id for row in rows}:
        of_endpoint = [one for one in tries if one.delivery_id in recorded and recorded[one.delivery_id].endpoint_id == endpoint_id]
        _note_health(connection, recorded[of_endpoint[0].delivery_id], of_endpoint)
    return set(recorded)


def give_back(connection: Connection, *, deliveries: Sequence[ClaimedDelivery]) -> None:
    """Returns claimed deliveries untouched: nothing was sent. Conditional on the fence, which is bumped. Locks their rows."""
    connection.execute(_GIVE_BACK, {"id": [str(one.id) for one in deliveries], "fence": [one.fence for one in deliveries]})


def reap_deliveries(connection: Connection, *, grace_s: float, limit: int) -> list[UUID]:
    """Takes deliveries away from sessions whose lease ended over ``grace_s`` ago; they are due at once, with the same place in their schedule.

    A try ``sender_lost`` is written: it may have been sent. Skips locked rows. Uses ``webhook_deliveries_sending``.

    Returns:
        The endpoint of each, for the caller to ``unhint`` once this is committed: the other way round than ``record_tries`` locks.
    """
    return [row.endpoint_id for row in connection.execute(_REAP, {"grace_s": grace_s, "limit": limit})]


def _note_health(connection: Connection, endpoint: Row[Any], tries: Sequence[Try]) -> None:
    """What tries, in their order, mean for the endpoint they all went to; ``endpoint`` is its row before them, locked."""
    if endpoint.kind is None:  # deleted meanwhile
        return
    standing, failures, anew, reason = endpoint.standing, endpoint.failures, False, None
    for one in tries:
        if isinstance(one.verdict, Delivered):
            standing, failures, anew = Standing.GOOD, 0, True
        else:
            failures += 1
            standing = Standing.FAILING if failures >= FAILING_AFTER else standing
            reason = reason or one.disables or ("failing" if endpoint.failing_for_long and not anew else None)
    if (standing, failures) != (endpoint.standing, endpoint.failures) or (anew and failures):
        connection.execute(_HEALTH, {"endpoint_id": endpoint.endpoint_id, "standing": standing, "failures": failures, "anew": anew})
    if reason is not None and endpoint.enabled and endpoint.kind == "registered":
        connection.execute(_DISABLE, {"endpoint_id": endpoint.endpoint_id, "reason": reason})
        add_events(connection, events=[NewEvent(endpoint.tenant_id, EventType.ENDPOINT_DISABLED, endpoint_id=endpoint.endpoint_id)])
        fail_pending(connection, endpoint_id=endpoint.endpoint_id, error="endpoint_disabled")


def _claimed(row: Row[Any], kind: str) -> ClaimedDelivery:
    return ClaimedDelivery(
        id=row.id,
        event_id=row.event_id,
        tenant_id=row.tenant_id,
        endpoint_id=row.endpoint_id,
        endpoint_kind=kind,
        job_id=row.job_id,
        type=row.type,
        url=row.url,
        fence=row.fence,
        tries=row.tries,
        schedule_step=row.schedule_step,
        body=None if row.body is None else bytes(row.body),
        traceparent=row.traceparent,
    )
