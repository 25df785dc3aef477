"""Taking ownership of queued jobs, and looking again at those that are held."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import attrgetter
from uuid import UUID

from sqlalchemy import Connection, text

from domain.job import Priority
from models.identity import new_id
from models.prepared import Prepared
from models.queries.fan_out import DELIVERY_ID, ENDPOINTS_OF, EVENT_ID, WEBHOOK_OF


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that this process owns, as long as its fence is the newest.

    Attributes:
        input_json: the input as JSON text.
        parent_id: of a child.
        shadow: whether it is one that nobody waits for.
        model: which one the claim was for.
        priority: whose queue it came from.
        routing_json: the decision that gave it its first model, as JSON text; None where there was nothing to decide.
        failovers_json: its moves to other models since, as JSON text; None without any.
        cost_usd: what its attempts before this one have cost, as far as it is known.
        traceparent: the caller's trace context.
        doubted: whether something is remembered against the model (``models.queries.breakers``).
    """

    id: UUID
    tenant_id: UUID
    fence: int
    attempt: int
    failures: int
    crashes: int
    max_attempts: int
    timeout_s: float
    retention_s: float
    task: str
    solo: bool
    input_json: str
    parent_id: UUID | None = None
    shadow: bool = False
    model: str = ""
    priority: str = Priority.STANDARD.value
    routing_json: str | None = None
    failovers_json: str | None = None
    cost_usd: Decimal | None = None
    traceparent: str | None = None
    doubted: bool = False

    @property
    def counts_for(self) -> UUID | None:
        """The tenant whose runs its runs count among; None for a shadow, which no tenant asked for."""
        return None if self.shadow else self.tenant_id


# `status || ''` hides the column from the index of live jobs. Where statistics are older than a backlog, the planner takes that
# index to be short and reads all of it for every claim: 27 ms in place of 1.2 ms a batch, with 20,000 jobs waiting; or, in an update by
# id, for every row: a batch of 64 beside 384 that wait took 5.6 ms in place of 2.1.
_CLAIM = Prepared(
    "millpond_claim",
    f"""
    WITH due AS (
        SELECT id FROM jobs
        WHERE id = ANY (CAST(:ids AS uuid[])) AND status || '' = 'queued' AND available_at <= now() AND deadline_at > now()
          AND model = :model AND (NOT solo OR :solo)
          AND (CAST(:probe AS bool) OR NOT EXISTS (SELECT FROM model_breakers WHERE model = :model AND state <> 'closed'))
        ORDER BY id FOR UPDATE
    ), j AS (
        UPDATE jobs SET
            status = 'running', attempt = attempt + 1, fence = fence + 1, event_seq = event_seq + 1,
            lease_owner = :owner, lease_expires_at = now() + make_interval(secs => :lease_s), alone = :alone,
            started_at = coalesce(started_at, now()), attempt_started_at = now(),
            queue_ms = queue_ms + extract(epoch FROM now() - available_at) * 1000
        FROM due WHERE jobs.id = due.id AND status || '' = 'queued'
        RETURNING jobs.id, tenant_id, fence, attempt, failures, crashes, max_attempts, timeout_s, retention_s, task, solo, parent_id, model, priority, cost_usd,
            child_role IS NOT DISTINCT FROM 'shadow' AS shadow, event_seq
    ), e AS (
        INSERT INTO job_events (job_id, seq, attempt, type, status) SELECT id, event_seq, attempt, 'status', 'running' FROM j
    ), wanted AS (
        SELECT j.id, j.tenant_id, w.id AS endpoint_id, w.url FROM j {ENDPOINTS_OF.format(of="j")}
        WHERE j.parent_id IS NULL AND 'job.started' = ANY (w.events)
        UNION ALL
        SELECT j.id, j.tenant_id, h.endpoint_id, h.url FROM j {WEBHOOK_OF.format(of="j.id")} WHERE 'job.started' = ANY (h.events)
    ), ev AS (
        INSERT INTO events (id, tenant_id, job_id, type)
        SELECT {EVENT_ID}, tenant_id, id, 'job.started' FROM (SELECT DISTINCT id, tenant_id FROM wanted) started RETURNING id, job_id
    ), d AS (
        INSERT INTO webhook_deliveries (id, tenant_id, event_id, endpoint_id, job_id, type, url)
        SELECT {DELIVERY_ID}, tenant_id, ev.id, endpoint_id, job_id, 'job.started', url FROM ev JOIN wanted ON wanted.id = ev.job_id
    )
    SELECT j.*, CAST(i.input AS text) AS input_json, CAST(i.routing AS text) AS routing_json, CAST(i.failovers AS text) AS failovers_json, i.traceparent,
        EXISTS (SELECT FROM model_breakers WHERE model = :model) AS doubted
    FROM j JOIN job_inputs i ON i.job_id = j.id ORDER BY j.id
    """,  # noqa: S608 - made of constants
)

_HELD = text(
    """
    SELECT j.id, j.tenant_id, j.fence, j.attempt, j.failures, j.crashes, j.max_attempts, j.timeout_s, j.retention_s, j.task, j.solo, j.parent_id,
        j.child_role IS NOT DISTINCT FROM 'shadow' AS shadow,
        j.model, j.priority, j.cost_usd,
        CAST(i.input AS text) AS input_json, CAST(i.routing AS text) AS routing_json, CAST(i.failovers AS text) AS failovers_json, i.traceparent,
        EXISTS (SELECT FROM model_breakers b WHERE b.model = j.model) AS doubted
    FROM jobs j JOIN job_inputs i ON i.job_id = j.id
    WHERE j.id = ANY (CAST(:ids AS uuid[])) AND j.status = 'running' AND j.lease_owner = :owner
    ORDER BY j.id
    """
)


def claim_jobs(connection: Connection, *, ids: Sequence[UUID], model: str, owner: str, lease_s: float, solo: bool, probe: bool = False) -> list[ClaimedJob]:
    """Takes what can be taken of a message: one statement for all of it. Never steals a lease.

    A job that is not queued, not due, past its deadline, of another model, or marked ``solo`` while the message is not, gives
    no row: the message spoke of something that is no longer so. Nor do any while the model's breaker
    is open. Locks the rows in the order of their ids. Writes ``job.started`` where somebody asked for it.

    Args:
        ids: the message's ids.
        model: the message's model.
        owner: unique to this dispatch, so that no other dispatch of the same worker can be mistaken for it.
        lease_s: how long the claim holds without renewal.
        solo: whether the message was sent for one job that must run alone.
        probe: whether to ask no breaker.
    """
    rows = _CLAIM.rows(
        connection,
        {
            "ids": [job_id.hex for job_id in ids],
            "event_id": str(new_id()),
            "model": model,
            "owner": owner,
            "lease_s": lease_s,
            "solo": solo,
            "probe": probe,
            "alone": len(ids) == 1,
        },
        count=len(ids),
    )
    return [_claimed(row) for row in rows]


def prepare_to_claim(connection: Connection) -> None:
    """Has the connection plan what ``claim_jobs`` runs, by claiming no job."""
    claim_jobs(connection, ids=[], model="", owner="", lease_s=0.0, solo=False)


def held_jobs(connection: Connection, *, ids: Sequence[UUID], owner: str) -> list[ClaimedJob]:
    """The jobs among ``ids`` that ``owner`` still holds: what a bisect runs again, in the same attempt. Locks nothing."""
    return [_claimed(row) for row in connection.execute(_HELD, {"ids": [job_id.hex for job_id in ids], "owner": owner})]


_FIELDS = attrgetter(*ClaimedJob.__slots__)


def _claimed(row: object) -> ClaimedJob:
    return ClaimedJob(*_FIELDS(row))
