"""The service itself: whether it lives, whether it is ready, and how it is to be used."""

from collections.abc import Sequence
from typing import cast

from flask import Blueprint, Flask, Response
from flask.blueprints import BlueprintSetupState

from api.answers import json_answer
from api.context import EXTENSION, ApiContext
from api.docs.page import docs_page
from api.openapi import openapi_document, openapi_json
from api.operation import Answer, operation
from api.remembered import remember, remembered
from api.schemas.service import HealthBody, ReadinessBody
from domain.catalogue import Catalogue
from models.migrate import known_revisions
from models.queries.service import applied_revision
from models.remembered import Remembered
from models.transactions import DatabaseAway, LockedRow, unit_of_work

READY_S = 1.0  # probes of many load balancers cost one look a second
PAGES_S = 86_400.0
OK = "ok"
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"

blueprint = Blueprint("service", __name__)


@blueprint.record
def _install(state: BlueprintSetupState) -> None:
    app = cast("Flask", state.app)
    revisions = known_revisions()
    remember(app, "readiness", Remembered(lambda: _look(app.extensions[EXTENSION], revisions), ttl_s=READY_S))
    remember(app, "openapi", Remembered(lambda: openapi_json(app, _catalogue(app)), ttl_s=PAGES_S))
    remember(app, "docs", Remembered(lambda: docs_page(openapi_document(app, _catalogue(app))), ttl_s=PAGES_S))


@blueprint.get("/healthz")
@operation(summary="Does the process live?", tag="Service", description="Asks nothing and nobody.", answers={200: Answer("It does.", HealthBody)}, public=True)
def healthz() -> Response:
    """The process lives."""
    return json_answer(HealthBody().model_dump())


@blueprint.get("/readyz")
@operation(
    summary="Should requests be sent here?",
    tag="Service",
    description="Not without the database. Without the broker they should: jobs are accepted and wait in the database, and `status` says `degraded`. "
    "What the broker's line says is what publishing has met lately; nothing is asked for it.",
    answers={200: Answer("Ready, or degraded.", ReadinessBody), 503: Answer("Unavailable.", ReadinessBody)},
    public=True,
)
def readyz() -> Response:
    """Whether this process can do its work."""
    body = remembered("readiness", ReadinessBody)
    return json_answer(body.model_dump(), 503 if body.status == "unavailable" else 200)


@blueprint.get("/openapi.json")
@operation(summary="This contract, as OpenAPI 3.1", tag="Service", answers={200: Answer("The document.", media_type="application/openapi+json")}, public=True)
def openapi() -> Response:
    """The contract, for machines."""
    return Response(remembered("openapi", bytes), content_type="application/openapi+json", headers={"Cache-Control": "no-cache"})


@blueprint.get("/docs")
@operation(summary="This contract, to be read", tag="Service", answers={200: Answer("A page that loads nothing else.", media_type="text/html")}, public=True)
def docs() -> Response:
    """The contract, for people."""
    headers = {"Cache-Control": "no-cache", "Content-Security-Policy": _PAGE_POLICY, "Referrer-Policy": "no-referrer"}
    return Response(remembered("docs", str), content_type="text/html; charset=utf-8", headers=headers)


def _catalogue(app: Flask) -> Catalogue:
    the_context: ApiContext = app.extensions[EXTENSION]
    return the_context.catalogue


def _look(the_context: ApiContext, revisions: Sequence[str]) -> ReadinessBody:
    """Every line is a fixed text: an exception's words may name hosts and users."""
    database, migrations = _look_at_database(the_context, revisions)
    checks = {
        "database": database,
        "migrations": migrations,
        "broker": "away: jobs are accepted and wait in the database" if the_context.broker_is_away() else OK,
    }
    if the_context.redis_answers is not None:
        checks["redis"] = OK if the_context.redis_answers() else "away: limits are stricter and nothing is cached"
    if {database, migrations} != {OK}:
        return ReadinessBody(status="unavailable", checks=checks)
    return ReadinessBody(status="ready" if set(checks.values()) == {OK} else "degraded", checks=checks)


def _look_at_database(the_context: ApiContext, revisions: Sequence[str]) -> tuple[str, str]:
    try:
        with unit_of_work(the_context.engine) as connection:
            applied = applied_revision(connection)
    except (DatabaseAway, LockedRow):
        return "away", "unknown while the database is away"
    if applied is None:
        return OK, "none applied: run `millpond migrate`"
    if applied in revisions[:-1]:
        return OK, f"{len(revisions) - 1 - revisions.index(applied)} to apply: run `millpond migrate`"
    return OK, OK  # the newest, or one that newer code has applied: migrations keep the release before them working
