"""Families: the children of a job as its join and its owner see them, what the join found, and children that nobody waits for any more."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Connection, text

from domain.job import ChildRole, Status


@dataclass(frozen=True, slots=True)
class Child:
    """A child to be joined.

    Attributes:
        output_json: JSON text of its output; None where it was not asked for, or there is none.
        error_json: JSON text of its failure.
    """

    id: UUID
    model: str
    status: Status
    event_seq: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    error_json: str | None
    output_json: str | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """A person's word on a job whose models disagree.

    Attributes:
        resolved_by: the key.
        resolution_json: JSON text of what was said; None until it was, and once it was erased.
    """

    asked_at: datetime
    resolved_at: datetime | None
    resolved_by: UUID | None
    resolution_json: str | None


@dataclass(frozen=True, slots=True)
class Family:
    """A parent's children, and the rule by which they are joined.

    Attributes:
        rule_json: JSON text.
        report_json: JSON text of what the join found.
        children: in the order in which their models were named.
    """

    rule_json: str
    report_json: str | None
    review: Review | None
    children: Sequence[Child] = field(default=())


_FAMILIES = text(
    """
    SELECT c.job_id, CAST(c.rule AS text) AS rule_json, CAST(c.report AS text) AS report_json, r.job_id IS NOT NULL AS reviewed,
        r.asked_at, r.resolved_at, r.resolved_by, CAST(r.resolution AS text) AS resolution_json
    FROM job_consensus c LEFT JOIN job_reviews r ON r.job_id = c.job_id
    WHERE c.job_id = ANY (CAST(:ids AS uuid[]))
    """
)

_CHILDREN = text(
    """
    SELECT j.parent_id, j.id, j.model, j.status, j.event_seq, j.input_tokens, j.output_tokens, j.cost_usd, CAST(j.error AS text) AS error_json,
        CAST(o.output AS text) AS output_json
    FROM jobs j LEFT JOIN job_outputs o ON :outputs AND o.job_id = j.id
    WHERE j.parent_id = ANY (CAST(:ids AS uuid[])) AND j.child_role = :role ORDER BY j.id
    """
)

_REPORT = text("UPDATE job_consensus SET report = CAST(:report AS json) WHERE job_id = :job_id")
_ASK = text("INSERT INTO job_reviews (job_id, tenant_id) VALUES (:job_id, :tenant_id) ON CONFLICT DO NOTHING")

_LIVE = text("SELECT id, fence FROM jobs WHERE parent_id = :parent_id AND child_role = :role AND status IN ('queued', 'running') ORDER BY id")

_LIVE_OF_BATCH = text(
    """
    SELECT c.id, c.fence FROM jobs p JOIN jobs c ON c.parent_id = p.id
    WHERE p.batch_id = :batch_id AND p.pending_children IS NOT NULL AND c.child_role = :role AND c.status IN ('queued', 'running') ORDER BY c.id LIMIT :limit
    """
)

_ORPHANS = text(
    """
    SELECT c.id, c.fence FROM jobs c JOIN jobs p ON p.id = c.parent_id
    WHERE c.parent_id IS NOT NULL AND c.status IN ('queued', 'running') AND p.finished_at IS NOT NULL
      AND (c.child_role = :role OR p.status IN ('canceled', 'expired'))
    ORDER BY c.id LIMIT :limit
    """
)


def read_families(connection: Connection, *, ids: Sequence[UUID], outputs: bool = False) -> dict[UUID, Family]:
    """Those of the jobs that have children to be joined. Locks nothing; reads ``jobs_of_parent``.

    Args:
        connection: where.
        ids: of parents; others are left out.
        outputs: whether what the children gave is wanted too.
    """
    values = {"ids": [str(job_id) for job_id in ids], "role": ChildRole.CONSENSUS.value, "outputs": outputs}
    children: defaultdict[UUID, list[Child]] = defaultdict(list)
    for row in connection.execute(_CHILDREN, values):
        fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row by column
        parent_id = fields.pop("parent_id")
        children[parent_id].append(Child(**{**fields, "status": Status(row.status)}))
    families: dict[UUID, Family] = {}
    for row in connection.execute(_FAMILIES, {"ids": values["ids"]}):
        review = Review(row.asked_at, row.resolved_at, row.resolved_by, row.resolution_json) if row.reviewed else None
        families[row.job_id] = Family(row.rule_json, row.report_json, review, children[row.job_id])
    return families


def store_report(connection: Connection, *, job_id: UUID, report_json: str) -> None:
    """Stores what a join found; call it in the unit of work that ends the job or holds it. Locks its row."""
    connection.execute(_REPORT, {"job_id": job_id, "report": report_json})


def ask_for_review(connection: Connection, *, job_id: UUID, tenant_id: UUID) -> None:
    """Puts a job on its tenant's list of reviews; call it in the unit of work that holds the job."""
    connection.execute(_ASK, {"job_id": job_id, "tenant_id": tenant_id})


def live_children(connection: Connection, *, parent_id: UUID) -> list[tuple[UUID, int]]:
    """Children of a job that it would wait for and that have not ended, with their fences. Locks nothing; reads ``jobs_live_children``."""
    return [(row.id, row.fence) for row in connection.execute(_LIVE, {"parent_id": parent_id, "role": ChildRole.CONSENSUS.value})]


def live_children_of_batch(connection: Connection, *, batch_id: UUID, limit: int) -> list[tuple[UUID, int]]:
    """The same of all jobs of a batch. Locks nothing; reads ``jobs_of_batch`` and ``jobs_live_children``."""
    return [(row.id, row.fence) for row in connection.execute(_LIVE_OF_BATCH, {"batch_id": batch_id, "role": ChildRole.CONSENSUS.value, "limit": limit})]


def orphans(connection: Connection, *, limit: int) -> list[tuple[UUID, int]]:
    """Live children whose parents have ended, with their fences; shadows only where there is nothing to compare them with.

    Locks nothing; reads ``jobs_live_children`` whole, which is as long as families live.
    """
    return [(row.id, row.fence) for row in connection.execute(_ORPHANS, {"role": ChildRole.CONSENSUS.value, "limit": limit})]


def usage_of(children: Sequence[Child]) -> Mapping[str, int | Decimal] | None:
    """What children took together; None if none of them says."""
    known = [child for child in children if child.input_tokens is not None or child.cost_usd is not None]
    if not known:
        return None
    most = 2**31 - 1  # what a column holds
    return {
        "input_tokens": min(most, sum(child.input_tokens or 0 for child in known)),
        "output_tokens": min(most, sum(child.output_tokens or 0 for child in known)),
        "cost_usd": sum((child.cost_usd or Decimal(0) for child in known), Decimal(0)),
    }
