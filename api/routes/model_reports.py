"""Reports of models: what each did for the caller, day by day."""

from collections.abc import Iterable

from flask import Blueprint, Response

from api.answers import json_answer
from api.auth import principal
from api.context import context
from api.operation import Answer, Parameter, operation
from api.query import one_to, read_query
from api.schemas.feedback import ModelReport, ReportDay, ReportFigures, ReportLatency, ReportQuality, ReportShadow
from domain.errors import NotFound
from domain.run_counts import RunCounts
from models.queries.model_stats import ModelDay, days_of
from models.queries.shadows import ShadowReport, shadow_report
from models.transactions import statement

blueprint = Blueprint("model_reports", __name__, url_prefix="/v1/models/<model>/report")

DEFAULT_DAYS = 7
MAX_DAYS = 90

_PARAMETERS = (
    Parameter("model", "path", "The model's name.", required=True),
    Parameter("days", "query", "How many days (UTC), today included.", {"type": "integer", "minimum": 1, "maximum": MAX_DAYS, "default": DEFAULT_DAYS}),
)


@blueprint.get("")
@operation(
    summary="Report on a model",
    tag="Catalogue",
    description="What the model did for you, by day: jobs, errors, latency, tokens, cost, what your feedback says of it, and how it compares where it "
    "is on trial. What has just ended is in it a second or two later.",
    parameters=_PARAMETERS,
    answers={200: Answer("The report.", ModelReport)},
    errors=(NotFound,),
)
def get_report(model: str) -> Response:
    """What a model did for the caller."""
    api = context()
    days = read_query({"days": one_to(MAX_DAYS)}).get("days", DEFAULT_DAYS)
    if model not in api.catalogue.models:
        raise NotFound
    with statement(api.engine) as connection:
        found = days_of(connection, tenant_id=principal().tenant_id, model=model, days=days)
    with statement(api.engine) as connection:
        shadows = shadow_report(connection, tenant_id=principal().tenant_id, model=model, days=days)
    moments = sorted({*found, *(day for day in shadows if day is not None)})
    report = ModelReport(
        object="model_report",
        model=model,
        total=_figures(found.values(), shadows.get(None)),
        days=[ReportDay(day=day, **dict(_figures([found[day]] if day in found else [], shadows.get(day)))) for day in moments],
    )
    return json_answer(report.model_dump())


def _figures(days: Iterable[ModelDay], shadow: ShadowReport | None) -> ReportFigures:
    counts, scores, score_sum = RunCounts(), 0, 0.0
    for done in days:
        counts.add(done.counts)
        scores, score_sum = scores + done.scores, score_sum + done.score_sum
    return ReportFigures(
        jobs=counts.jobs,
        runs=counts.runs,
        errors=dict(sorted(counts.failures.items())),
        latency=_latency(counts),
        input_tokens=counts.input_tokens,
        output_tokens=counts.output_tokens,
        cost_usd=counts.cost_usd,
        quality=ReportQuality(mean_score=round(score_sum / scores, 6), scores=scores) if scores else None,
        shadow=None if shadow is None else _shadow(shadow),
    )


def _shadow(shadow: ShadowReport) -> ReportShadow:
    return ReportShadow(
        jobs=shadow.jobs,
        compared=shadow.compared,
        agreement=None if shadow.agreement is None else round(shadow.agreement, 4),
        failed=shadow.failed,
        primary_failed=shadow.primary_failed,
        run_p50_ms=None if shadow.run_p50_ms is None else round(shadow.run_p50_ms, 3),
        primary_run_p50_ms=None if shadow.primary_run_p50_ms is None else round(shadow.primary_run_p50_ms, 3),
        cost_usd=shadow.cost_usd,
        primary_cost_usd=shadow.primary_cost_usd,
    )


def _latency(counts: RunCounts) -> ReportLatency | None:
    p50_ms, p95_ms = counts.quantile_ms(0.5), counts.quantile_ms(0.95)
    return None if p50_ms is None or p95_ms is None else ReportLatency(samples=counts.run_ms.total(), run_p50_ms=p50_ms, run_p95_ms=p95_ms)
