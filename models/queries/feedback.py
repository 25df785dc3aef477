"""What tenants say of outputs, and what that says of models."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, Row, text

from domain.quality import blended

QUALITY_DAYS = 90  # older scores were of another mix of inputs, and often of another version

# A report holds what models answered, and `->>` refuses a document with NUL in any of its texts, so it is not read here.
_LOCK = text(
    """
    SELECT j.model, CAST(c.report AS text) AS report_json, CAST(j.finished_at AT TIME ZONE 'UTC' AS date) AS day
    FROM jobs j LEFT JOIN job_consensus c ON c.job_id = j.id
    WHERE j.id = :job_id AND j.tenant_id = :tenant_id AND j.status = 'succeeded' AND j.erased_at IS NULL FOR UPDATE OF j
    """
)

_OLD_SCORE = text("SELECT score FROM job_feedback WHERE job_id = :job_id")

_GIVE = text(
    """
    INSERT INTO job_feedback (job_id, key_id, score, compared, correct_output, note)
    VALUES (:job_id, :key_id, :score, :compared, CAST(:correct_output AS json), :note)
    ON CONFLICT (job_id) DO UPDATE SET
        key_id = excluded.key_id, updated_at = now(), score = excluded.score, compared = excluded.compared,
        correct_output = excluded.correct_output, note = excluded.note
    """
)

_COUNT = text(
    """
    INSERT INTO model_days AS t (day, model, tenant_id, runs, jobs, failures, run_ms, input_tokens, output_tokens, cost_usd, scores, score_sum)
    VALUES (:day, :model, :tenant_id, 0, 0, '{}', '{}', 0, 0, 0, 1, :score)
    ON CONFLICT (tenant_id, model, day) DO UPDATE SET
        scores = t.scores + CASE WHEN :replaced THEN 0 ELSE 1 END, score_sum = t.score_sum + :score - :old_score
    """
)

_GET = text(
    """
    SELECT j.model, CAST(c.report AS text) AS report_json, f.score, f.compared, CAST(f.correct_output AS text) AS correct_output_json, f.note,
        f.created_at, f.updated_at
    FROM job_feedback f JOIN jobs j ON j.id = f.job_id LEFT JOIN job_consensus c ON c.job_id = j.id WHERE f.job_id = :job_id AND j.tenant_id = :tenant_id
    """
)

_SCORES = text(
    """
    SELECT model, sum(scores) AS scores, sum(score_sum) AS score_sum FROM model_days
    WHERE scores > 0 AND day > CAST(now() AT TIME ZONE 'UTC' AS date) - CAST(:days AS int) GROUP BY model, tenant_id
    """
)


@dataclass(frozen=True, slots=True)
class NewFeedback:
    """Feedback about to be written.

    Attributes:
        score: 0 to 1.
        compared: whether the score is how far the output agrees with the correct one.
        correct_output_json: as JSON text.
    """

    job_id: UUID
    tenant_id: UUID
    key_id: UUID
    score: float
    compared: bool
    correct_output_json: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class FeedbackView:
    """Feedback as its giver may see it; ``model`` is the one that it counts for, as ``give_feedback`` says."""

    model: str
    score: float
    compared: bool
    correct_output_json: str | None
    note: str | None
    created_at: datetime
    updated_at: datetime


def give_feedback(connection: Connection, *, feedback: NewFeedback) -> bool | None:
    """Writes a job's feedback, in place of what was there, and counts it for the model that gave the output, on the day that it did.

    Where several models answered, that is the one whose answer was taken.

    Several statements: run them in one transaction. Locks the job's row first, so that two that come together count as one.

    Returns:
        Whether it is the first; None where the tenant has no such job that has succeeded and is not erased.
    """
    job = connection.execute(_LOCK, {"job_id": feedback.job_id, "tenant_id": feedback.tenant_id}).one_or_none()
    if job is None:
        return None
    old_score = connection.execute(_OLD_SCORE, {"job_id": feedback.job_id}).scalar_one_or_none()  # a statement after the lock sees what was waited for
    connection.execute(
        _GIVE,
        {
            "job_id": feedback.job_id,
            "key_id": feedback.key_id,
            "score": feedback.score,
            "compared": feedback.compared,
            "correct_output": feedback.correct_output_json,
            "note": feedback.note,
        },
    )
    counted = {"day": job.day, "model": _answerer(job), "tenant_id": feedback.tenant_id, "score": feedback.score}
    connection.execute(_COUNT, {**counted, "old_score": old_score or 0.0, "replaced": old_score is not None})
    return old_score is None


def feedback_of(connection: Connection, *, tenant_id: UUID, job_id: UUID) -> FeedbackView | None:
    """A job's feedback; None where there is none, or the job is another tenant's. Reads two primary keys."""
    row = connection.execute(_GET, {"tenant_id": tenant_id, "job_id": job_id}).one_or_none()
    if row is None:
        return None
    return FeedbackView(_answerer(row), row.score, row.compared, row.correct_output_json, row.note, row.created_at, row.updated_at)


def quality_by_model(connection: Connection, *, priors: Mapping[str, float | None]) -> dict[str, float]:
    """How good models are by the catalogue and by all tenants' feedback of the last 90 days; what nobody has scored is left out.

    Locks nothing; reads ``model_days_scored`` alone, a row for each model, tenant and day with feedback: callers remember the answer for a moment.

    Args:
        priors: the catalogue's figure of each model, None where it has none.
    """
    scores: dict[str, list[tuple[int, float]]] = {}
    for row in connection.execute(_SCORES, {"days": QUALITY_DAYS}):
        scores.setdefault(row.model, []).append((int(row.scores), row.score_sum))
    return {model: blended(priors[model], given) for model, given in scores.items() if model in priors}


def _answerer(job: Row[Any]) -> str:
    """The model that gave a job's output: its own, or the one whose answer its join took."""
    report = {} if job.report_json is None else orjson.loads(job.report_json)
    return str(report.get("model") or job.model)
