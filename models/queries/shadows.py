"""Shadows that have ended: finding what is to be compared, keeping what came of it, and reporting on a candidate."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

_ENDED = text(
    """
    SELECT s.id, s.tenant_id, s.task, s.model, s.run_ms, s.cost_usd, s.error ->> 'code' AS error_code,
        p.model AS primary_model, p.run_ms AS primary_run_ms, p.cost_usd AS primary_cost_usd, p.error ->> 'code' AS primary_error_code,
        CAST(i.input AS text) AS input_json, CAST(so.output AS text) AS output_json, CAST(po.output AS text) AS primary_output_json
    FROM jobs s JOIN jobs p ON p.id = s.parent_id
        LEFT JOIN job_inputs i ON i.job_id = p.id LEFT JOIN job_outputs so ON so.job_id = s.id LEFT JOIN job_outputs po ON po.job_id = p.id
    WHERE s.child_role = 'shadow' AND s.finished_at IS NOT NULL AND p.finished_at IS NOT NULL
    ORDER BY s.id LIMIT :limit
    """
)

_KEEP = text(
    """
    WITH v AS (
        SELECT * FROM unnest(CAST(:id AS uuid[]), CAST(:agreement AS float8[])) AS v(id, agreement)
    ), s AS (
        DELETE FROM jobs USING v WHERE jobs.id = v.id AND jobs.child_role = 'shadow'
        RETURNING jobs.id, jobs.parent_id, jobs.tenant_id, jobs.task, jobs.model, jobs.run_ms, jobs.cost_usd, jobs.error ->> 'code' AS error_code, v.agreement
    ), i AS (
        DELETE FROM job_inputs USING s WHERE job_id = s.id
    ), o AS (
        DELETE FROM job_outputs USING s WHERE job_id = s.id
    ), jf AS (
        DELETE FROM job_files USING s WHERE job_id = s.id
    ), a AS (
        DELETE FROM job_attempts USING s WHERE job_id = s.id
    ), e AS (
        DELETE FROM job_events USING s WHERE job_id = s.id
    ), c AS (
        INSERT INTO shadow_comparisons (shadow_id, tenant_id, task, model, primary_model, agreement, run_ms, primary_run_ms, cost_usd, primary_cost_usd,
                                        error_code, primary_error_code)
        SELECT s.id, s.tenant_id, s.task, s.model, p.model, s.agreement, s.run_ms, p.run_ms, s.cost_usd, p.cost_usd, s.error_code, p.error ->> 'code'
        FROM s JOIN jobs p ON p.id = s.parent_id WHERE p.status IN ('succeeded', 'failed')
    )
    SELECT id FROM s
    """
)

_REPORT = text(
    """
    SELECT CAST(compared_at AT TIME ZONE 'UTC' AS date) AS day, count(*) AS jobs, count(agreement) AS compared, avg(agreement) AS agreement,
        count(error_code) AS failed, count(primary_error_code) AS primary_failed,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY run_ms) FILTER (WHERE error_code IS NULL AND primary_error_code IS NULL) AS run_p50_ms,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY primary_run_ms) FILTER (WHERE error_code IS NULL AND primary_error_code IS NULL) AS primary_run_p50_ms,
        coalesce(sum(cost_usd), 0) AS cost_usd, coalesce(sum(primary_cost_usd), 0) AS primary_cost_usd
    FROM shadow_comparisons
    WHERE tenant_id = :tenant_id AND model = :model
      AND compared_at >= CAST(CAST(now() AT TIME ZONE 'UTC' AS date) - CAST(:days AS int) + 1 AS timestamp) AT TIME ZONE 'UTC'
    GROUP BY GROUPING SETS ((1), ())
    """
)

_FORGET = text(
    """
    DELETE FROM shadow_comparisons WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM shadow_comparisons WHERE compared_at < now() - make_interval(secs => :kept_s) LIMIT :limit FOR UPDATE SKIP LOCKED
    )) RETURNING shadow_id
    """
)


@dataclass(frozen=True, slots=True)
class EndedShadow:
    """A shadow that has ended, as its job has; JSON is None where there is none (any more), ``null`` for a large output in a file."""

    id: UUID
    task: str
    input_json: str | None
    output_json: str | None
    primary_output_json: str | None


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """What a candidate did in the shadow of a tenant's jobs.

    Attributes:
        jobs: that it was given, and that succeeded or failed.
        compared: those of them with two outputs that can be compared.
        agreement: their mean, 0 to 1.
        failed: those that it gave no output for, in time.
        primary_failed: those that the model which was to answer gave no output for.
        run_p50_ms, primary_run_p50_ms: how long it took, and how long the model took that answered, where both gave an output.
        cost_usd, primary_cost_usd: of all of them.
    """

    jobs: int
    compared: int
    agreement: float | None
    failed: int
    primary_failed: int
    run_p50_ms: float | None
    primary_run_p50_ms: float | None
    cost_usd: Decimal
    primary_cost_usd: Decimal


def ended_shadows(connection: Connection, *, limit: int) -> list[EndedShadow]:
    """Shadows that can be compared, the oldest first. Locks nothing; reads ``jobs_shadows_ended``, which holds none that has been compared."""
    return [EndedShadow(row.id, row.task, row.input_json, row.output_json, row.primary_output_json) for row in connection.execute(_ENDED, {"limit": limit})]


def keep_comparisons(connection: Connection, *, agreements: Sequence[tuple[UUID, float | None]]) -> int:
    """Writes what came of shadows and deletes them, in one statement; of several who compare the same one, one writes.

    Files that a shadow gave are seen by nobody, and go within an hour, as those of any job that is gone.

    Where the job was canceled or has expired there is nothing to say. Locks the shadows' rows. Nobody else writes to a job that has ended.

    Returns:
        How many are gone.
    """
    values = {"id": [str(shadow_id) for shadow_id, _ in agreements], "agreement": [agreement for _, agreement in agreements]}
    return len(connection.execute(_KEEP, values).all())


def shadow_report(connection: Connection, *, tenant_id: UUID, model: str, days: int) -> dict[date | None, ShadowReport]:
    """What a candidate did in the shadow of a tenant's jobs, by day (UTC) and, under None, in all. Locks nothing. Uses ``shadow_comparisons_of_model``."""
    rows = connection.execute(_REPORT, {"tenant_id": tenant_id, "model": model, "days": days})
    return {row.day: _report(row) for row in rows if row.jobs}


def forget_comparisons(connection: Connection, *, kept_s: float, limit: int) -> int:
    """Deletes comparisons over ``kept_s`` old, at most ``limit``; returns how many. Locks them. Uses ``shadow_comparisons_by_age``."""
    return len(connection.execute(_FORGET, {"kept_s": kept_s, "limit": limit}).all())


def _report(row: Row[Any]) -> ShadowReport:
    return ShadowReport(**{name: getattr(row, name) for name in ShadowReport.__slots__})
