"""The list of jobs: filters, pages, cursor."""

from urllib.parse import urlencode

from flask import Blueprint, Response, request

from api.answers import json_answer
from api.auth import principal
from api.context import context
from api.job_answer import job_answers
from api.operation import Answer, Parameter, operation
from api.query import DEFAULT_LIMIT, MAX_LIMIT, cursor, limit, moment, one_of, read_query, several_of, verbatim, write_cursor
from api.schemas.batches import JobList
from api.urls import base_url
from domain.job import Priority, Status
from models.queries.read import JobFilters, list_jobs
from models.transactions import statement

blueprint = Blueprint("lists", __name__, url_prefix="/v1/jobs")

_READERS = {
    "limit": limit,
    "cursor": cursor,
    "status": several_of(Status),
    "task": verbatim,
    "model": verbatim,
    "priority": one_of(Priority),
    "created_after": moment,
    "created_before": moment,
    "error_code": verbatim,
}
_TIME = {"type": "string", "format": "date-time"}
_PARAMETERS = (
    Parameter("limit", "query", "Jobs on a page.", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}),
    Parameter("cursor", "query", "The `next_cursor` of the page before."),
    Parameter(
        "status",
        "query",
        "One status, or several with commas between them.",
        {"type": "array", "items": {"type": "string", "enum": [status.value for status in Status]}},
    ),
    Parameter("task", "query", "Jobs of this task."),
    Parameter("model", "query", "Jobs of this model."),
    Parameter("priority", "query", "Jobs of this priority.", {"type": "string", "enum": [priority.value for priority in Priority]}),
    Parameter("created_after", "query", "Jobs accepted at this moment or later.", _TIME),
    Parameter("created_before", "query", "Jobs accepted earlier than this.", _TIME),
    Parameter("error_code", "query", "Jobs that ended with this error."),
    Parameter(
        "metadata",
        "query",
        "Jobs with all of these pairs: `metadata[order]=42`.",
        {"type": "object", "additionalProperties": {"type": "string"}},
    ),
)


@blueprint.get("")
@operation(
    summary="List jobs",
    tag="Jobs",
    description="The newest first, without `input` and `output`. A cursor keeps its place while jobs come and go.",
    parameters=_PARAMETERS,
    answers={200: Answer("A page of jobs.", JobList, headers={"Link": 'The next page, as `<…>; rel="next"`; not on the last one.'})},
)
def list_of_jobs() -> Response:
    """A page of the caller's jobs."""
    given = read_query(_READERS, pairs=("metadata",))
    wanted: int = given.get("limit", DEFAULT_LIMIT)
    filters = JobFilters(
        statuses=given.get("status", ()),
        task=given.get("task"),
        model=given.get("model"),
        priority=given.get("priority"),
        error_code=given.get("error_code"),
        created_after=given.get("created_after"),
        created_before=given.get("created_before"),
        metadata=given.get("metadata"),
    )
    api = context()
    with statement(api.engine) as connection:
        jobs = list_jobs(connection, tenant_id=principal().tenant_id, filters=filters, before=given.get("cursor"), limit=wanted + 1)
    more = len(jobs) > wanted
    page, base = jobs[:wanted], base_url()
    next_cursor = write_cursor(page[-1].id) if more else None
    headers = {"Link": f'<{base}/v1/jobs?{_next_query(next_cursor)}>; rel="next"'} if next_cursor else None
    return json_answer({"data": job_answers(page, base, context=api, whole=False), "next_cursor": next_cursor}, headers=headers)


def _next_query(next_cursor: str) -> str:
    kept = [(name, value) for name, value in request.args.items() if name != "cursor"]
    return urlencode([*kept, ("cursor", next_cursor)])
