"""Reviews: what models could not agree on, for a person to say."""

from typing import Any
from uuid import UUID

import orjson
from flask import Blueprint, Response
from pydantic import ValidationError

from api.answers import json_answer
from api.auth import principal
from api.choices import choices
from api.consensus import review_json
from api.context import ApiContext, context
from api.json_gate import json_object
from api.operation import Answer, Parameter, operation
from api.pages import LINK, page_parameters
from api.query import DEFAULT_LIMIT, cursor, limit, read_query, write_cursor
from api.schemas.consensus import ResolveRequest, Review, ReviewList
from api.urls import base_url
from api.validation import field_errors, validate
from broker.publisher import Published
from domain.catalogue import QueueName
from domain.errors import MAX_ECHO_CHARS, AlreadyFinal, FieldError, NotFound, ResultExpired, ValidationFailed
from domain.ids import Prefix, decode, encode
from models.job_json import stored_json
from models.queries.reviews import ReviewView, get_review, open_reviews, resolve_review
from models.transactions import statement

blueprint = Blueprint("reviews", __name__, url_prefix="/v1/reviews")

_ID = Parameter("job_id", "path", "The job's id.", required=True)


@blueprint.get("")
@operation(
    summary="List open reviews",
    tag="Reviews",
    description="Jobs whose models disagree and that wait for a person, the newest first; fewer than `limit` where inputs and answers are large. "
    "A job that is not resolved expires at its deadline.",
    parameters=page_parameters("Reviews"),
    answers={200: Answer("A page of reviews.", ReviewList, headers=LINK)},
)
def list_of_reviews() -> Response:
    """A page of the caller's open reviews."""
    given = read_query({"limit": limit, "cursor": cursor})
    wanted: int = given.get("limit", DEFAULT_LIMIT)
    with statement(context().engine) as connection:
        page, more = open_reviews(connection, tenant_id=principal().tenant_id, before=given.get("cursor"), limit=wanted)
    next_cursor = write_cursor(page[-1].job_id) if more else None
    headers = {"Link": f'<{base_url()}/v1/reviews?limit={wanted}&cursor={next_cursor}>; rel="next"'} if next_cursor else None
    return json_answer({"data": [_json(view) for view in page], "next_cursor": next_cursor}, headers=headers)


@blueprint.get("/<job_id>")
@operation(
    summary="Look at a review",
    tag="Reviews",
    parameters=(_ID,),
    answers={200: Answer("The review, resolved or not.", Review)},
    errors=(NotFound,),
)
def look_at_review(job_id: str) -> Response:
    """One review."""
    return json_answer(_json(_find(context(), _decoded(job_id))))


@blueprint.post("/<job_id>")
@operation(
    summary="Resolve a review",
    tag="Reviews",
    description="Takes the answer of one model, gives another one, or rejects them all. The job ends as soon as its join has run again.",
    body=ResolveRequest,
    parameters=(_ID,),
    answers={200: Answer("The resolved review.", Review)},
    errors=(NotFound, AlreadyFinal, ResultExpired, ValidationFailed),
)
def resolve(job_id: str) -> Response:
    """Takes a person's word."""
    api, caller, wanted_id = context(), principal(), _decoded(job_id)
    wanted = validate(ResolveRequest, json_object())
    view = _find(api, wanted_id)
    if view.status.final or view.review.resolved_at is not None:
        raise AlreadyFinal("The review is resolved already, or its job has ended.")
    _check(wanted, view, api)
    resolution = orjson.dumps(wanted.model_dump(exclude_none=True)).decode()
    with statement(api.engine) as connection:
        due = resolve_review(connection, tenant_id=caller.tenant_id, job_id=wanted_id, key_id=caller.key_id, resolution_json=resolution)
    if due is None:
        raise AlreadyFinal("The review is resolved already, or its job has ended.")
    api.publish([Published(QueueName(due.pool, due.priority), due.model, wanted_id)])
    return json_answer(_json(_find(api, wanted_id)))


def _check(wanted: ResolveRequest, view: ReviewView, api: ApiContext) -> None:
    """Refuses what the job could not end with.

    Raises:
        ValidationFailed: lists every field that is wrong.
    """
    given = [name for name in ("accept", "output", "reject") if getattr(wanted, name) is not None]
    if len(given) != 1:
        raise ValidationFailed(errors=[FieldError(f"/{given[1]}" if given else "", "conflicting_fields", "give one of accept, output and reject")])
    if wanted.accept is not None:
        answered: list[str] = _report(view)["answered"]
        if wanted.accept not in answered:
            problem = f"{wanted.accept[:MAX_ECHO_CHARS]!r} has given no answer; {choices(wanted.accept, answered)}"
            raise ValidationFailed(errors=[FieldError("/accept", "unknown_model", problem)])
    if wanted.output is not None:
        try:
            api.catalogue.contracts[view.task].output.model_validate_json(orjson.dumps(wanted.output))
        except ValidationError as error:
            raise ValidationFailed(errors=field_errors(error, "/output")) from error


def _json(view: ReviewView) -> dict[str, Any]:
    public_id, base, report = encode(Prefix.JOB, view.job_id), base_url(), _report(view)
    return {
        "object": "review",
        "job_id": public_id,
        "task": view.task,
        "status": view.status,
        "deadline_at": view.deadline_at,
        **review_json(view.review),
        "input": stored_json(view.input_json),
        "agreement": report.get("agreement"),
        "leader": report.get("leader"),
        "answers": report.get("dissents", []),
        "urls": {"self": f"{base}/v1/reviews/{public_id}", "job": f"{base}/v1/jobs/{public_id}"},
    }


def _report(view: ReviewView) -> dict[str, Any]:
    return {} if view.report_json is None else dict(orjson.loads(view.report_json))


def _find(api: ApiContext, job_id: UUID) -> ReviewView:
    with statement(api.engine) as connection:
        view = get_review(connection, tenant_id=principal().tenant_id, job_id=job_id)
    if view is None:
        raise NotFound("There is no review of such a job.")
    return view


def _decoded(public_id: str) -> UUID:
    job_id = decode(Prefix.JOB, public_id)
    if job_id is None:
        raise NotFound("There is no review of such a job.")
    return job_id
