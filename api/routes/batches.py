"""Batches: many jobs in one call, all of them or none."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from flask import Blueprint, Response, request

from api.answers import json_answer, retry_after
from api.auth import principal
from api.cancellation import cancel_children_of_batch
from api.context import ApiContext, context
from api.intake import idempotency_of, read_job, refuse_if_full, replay_of
from api.json_gate import BATCH_LIMIT_BYTES, BODY_LIMIT_BYTES, JSON_ONLY, as_object, parse_json, read_body, refuse_fields
from api.media import file_errors
from api.operation import Answer, Parameter, operation
from api.schemas.batches import MAX_JOBS, Batch, BatchRequest, BatchResultLine
from api.shadows import with_shadow
from api.submitter import IN_PROGRESS_RETRY_S, due_jobs
from api.urls import base_url
from domain.errors import (
    FieldError,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InvalidBatch,
    InvalidIdempotencyKey,
    ModelNotInstalled,
    NotFound,
    Overloaded,
    RequestError,
    ResultExpired,
    ServiceUnavailable,
    ValidationFailed,
    WebhooksNotConfigured,
)
from domain.failures import CanceledByUser, Failure
from domain.ids import Prefix, decode, encode
from domain.job import Status
from domain.keys import Principal
from models.identity import new_id
from models.job_json import batch_json, output_file_json, stored_json, to_json
from models.queries.batches import (
    ROUTE,
    BatchResult,
    BatchView,
    NewBatch,
    batch_results,
    get_batch,
    insert_batch,
    live_jobs_of_batch,
    mark_batch_canceled,
)
from models.queries.finish import Ending, finish_jobs
from models.queries.submit import Accepted, KeyReused, NewJob, Replayed, submit_jobs
from models.transactions import DatabaseAway, LockedRow, statement, unit_of_work

blueprint = Blueprint("batches", __name__, url_prefix="/v1/batches")

NDJSON = "application/x-ndjson"
WRITE_JOBS = 500  # in one statement; all statements of a batch share its transaction
CANCEL_JOBS = 500  # in one statement, each of which is its own transaction, so that no row stays locked for long
PUBLISH_JOBS = 1_000
MAX_ERRORS = 100
MAX_CUSTOM_ID_CHARS = 255
LOOK_AGAIN_S = 1.0

_ID = Parameter("batch_id", "path", "The batch's id.", required=True)
_KEY = Parameter("Idempotency-Key", "header", "1 to 255 visible ASCII characters; for 24 hours the same key and body give the same batch.")
_EXPIRED = Failure.of(ResultExpired())
_BROKEN_OFF = Failure.of(ServiceUnavailable("The results break off here: the database is away; ask again later."))


@blueprint.post("")
@operation(
    summary="Submit a batch",
    tag="Batches",
    description='Up to 10,000 jobs in 32 MiB, as `{"jobs": […]}` or as `application/x-ndjson` with one job a line. Either all are taken or none: '
    "if one does not validate, `errors` says which and why, with pointers such as `/jobs/17/input/text`, however they were sent.",
    body=BatchRequest,
    body_media_types=(NDJSON,),
    parameters=(_KEY,),
    answers={
        202: Answer("Accepted; or, for a key seen before, not finished yet.", Batch, headers={"Location": "The batch.", "Retry-After": "When to look."}),
        200: Answer("The batch that this key has made, finished.", Batch, headers={"Idempotency-Replayed": "`true`."}),
    },
    errors=(InvalidBatch, InvalidIdempotencyKey, IdempotencyKeyReused, IdempotencyInProgress, ModelNotInstalled, WebhooksNotConfigured, Overloaded),
)
def submit_batch() -> Response:
    """Takes a batch: checks every job, commits all of them, answers."""
    api, caller, batch_id = context(), principal(), new_id()
    if "HTTP_IDEMPOTENCY_KEY" not in request.environ:
        refuse_if_full(api)  # before 32 MiB are read
    values = _read_jobs()
    idempotency = idempotency_of({"jobs": values})
    try:
        refuse_if_full(api)
        jobs = _check_jobs(values, api=api, caller=caller, batch_id=batch_id)
    except RequestError:
        replayed = replay_of(api, caller, route=ROUTE, idempotency=idempotency)
        if replayed is None:
            raise
        return _replay(api, replayed)
    batch = NewBatch(id=batch_id, tenant_id=caller.tenant_id, key_id=caller.key_id, total=len(jobs), idempotency=idempotency)
    if api.secrets is not None and any(job.webhook for job in jobs):
        api.secrets.ensure_default(caller.tenant_id)
    outcome = _write(api, batch, jobs)
    if isinstance(outcome, KeyReused):
        raise IdempotencyKeyReused
    if isinstance(outcome, Replayed):
        return _replay(api, outcome)
    _publish(api, jobs, outcome)
    view = BatchView(batch_id, len(jobs), {Status.QUEUED: len(jobs)}, outcome[0].created_at, canceled_at=None, finished_at=None)
    return _answer(view, 202, {"Location": _url(batch_id)})


@blueprint.get("/<batch_id>")
@operation(
    summary="Look at a batch",
    tag="Batches",
    parameters=(_ID,),
    answers={200: Answer("The batch, its jobs counted by status.", Batch, headers={"Retry-After": "While it is not finished: when to look again."})},
    errors=(NotFound,),
)
def look_at_batch(batch_id: str) -> Response:
    """One batch as it stands."""
    return _answer(_find(context(), _decoded(batch_id)))


@blueprint.get("/<batch_id>/results")
@operation(
    summary="Stream a batch's results",
    tag="Batches",
    description="One line a job, in the order of the input; a job that is not final yet has neither output nor error. "
    "A stream that has to break off ends with a line whose `job_id` is null and whose `error` says why; a whole one has `total` lines.",
    parameters=(_ID,),
    answers={200: Answer("The results.", BatchResultLine, media_type=NDJSON)},
    errors=(NotFound,),
)
def stream_results(batch_id: str) -> Response:
    """What every job of a batch gave, so far."""
    api = context()
    view = _find(api, _decoded(batch_id))
    return Response(_result_pages(api, view.id, base_url()), content_type=NDJSON)


@blueprint.post("/<batch_id>/cancel")
@operation(
    summary="Cancel what is left of a batch",
    tag="Batches",
    description="Jobs that have ended stay as they are; asking again gives the same answer.",
    body_required=False,
    parameters=(_ID,),
    answers={200: Answer("The batch, none of its jobs waiting or running.", Batch)},
    errors=(NotFound,),
)
def cancel_batch(batch_id: str) -> Response:
    """Ends the jobs of a batch that nobody wants any more."""
    refuse_fields()
    api, wanted = context(), _decoded(batch_id)
    with statement(api.engine) as connection:
        if not mark_batch_canceled(connection, tenant_id=principal().tenant_id, batch_id=wanted):
            raise NotFound("There is no such batch.")
    canceled = Failure.of(CanceledByUser())
    while True:
        with statement(api.engine) as connection:
            live = live_jobs_of_batch(connection, batch_id=wanted, limit=CANCEL_JOBS)
        if not live:
            cancel_children_of_batch(api.engine, wanted)
            return _answer(_find(api, wanted))
        endings = [Ending(id=job_id, fence=fence, status=Status.CANCELED, failure=canceled, by_owner=False) for job_id, fence in live]
        with statement(api.engine) as connection:
            finish_jobs(connection, endings=endings)  # a job that has just changed hands is in the next look, with its new fence


def _read_jobs() -> list[Any]:
    """The jobs of the body as parsed JSON, however they were sent."""
    raw = read_body(BATCH_LIMIT_BYTES, (*JSON_ONLY, NDJSON))
    if request.mimetype == NDJSON:
        return _read_lines(raw)
    try:
        body = as_object(parse_json(raw))
    except ValidationFailed as error:
        raise InvalidBatch(errors=error.errors) from error
    errors = [FieldError(f"/{name[:100]}", "unknown_field", "is no field of this object") for name in body if name != "jobs"]
    jobs = body.get("jobs")
    if jobs is None:
        errors.append(FieldError("/jobs", "required", "is required"))
    elif not isinstance(jobs, list):
        errors.append(FieldError("/jobs", "wrong_type", "must be a list"))
    elif not errors:
        return _of_fair_number(jobs)
    raise InvalidBatch(errors=errors[:MAX_ERRORS])


def _read_lines(raw: bytes) -> list[Any]:
    lines = _of_fair_number([line for line in raw.split(b"\n") if line.strip()])
    values: list[Any] = []
    errors: list[FieldError] = []
    for place, line in enumerate(lines):
        try:
            values.append(parse_json(line))
        except ValidationFailed as error:
            errors += [FieldError(f"/jobs/{place}{field.pointer}", field.code, field.message) for field in error.errors]
        except RequestError as error:
            errors.append(FieldError(f"/jobs/{place}", error.code, error.message))
        if len(errors) >= MAX_ERRORS:
            break
    if errors:
        raise InvalidBatch(errors=errors[:MAX_ERRORS])
    return values


def _of_fair_number(jobs: list[Any]) -> list[Any]:
    if not jobs:
        raise InvalidBatch(errors=[FieldError("/jobs", "too_few", "must hold at least one job")])
    if len(jobs) > MAX_JOBS:
        raise InvalidBatch(errors=[FieldError("/jobs", "too_many_items", f"must hold at most {MAX_JOBS} jobs")])
    return jobs


def _check_jobs(values: Sequence[Any], *, api: ApiContext, caller: Principal, batch_id: UUID) -> list[NewJob]:
    """Every job, ready to be written.

    Raises:
        InvalidBatch: lists what is wrong, a hundred findings at most.
    """
    jobs: list[NewJob] = []
    errors: list[FieldError] = []
    places: dict[str, int] = {}
    for place, value in enumerate(values):
        pointer = f"/jobs/{place}"
        if not isinstance(value, dict):
            errors.append(FieldError(pointer, "not_an_object", "must be a JSON object"))
        else:
            custom_id = value.get("custom_id")
            errors += _custom_id_errors(custom_id, places, place)
            try:
                request_of_job = {name: field for name, field in value.items() if name != "custom_id"}
                job = read_job(request_of_job, context=api, principal=caller, pointer=pointer, batch_id=batch_id, custom_id=custom_id)
                job = with_shadow(job, context=api)
            except ValidationFailed as error:
                errors += error.errors
            else:
                if len(job.input_json) > BODY_LIMIT_BYTES:
                    errors.append(FieldError(f"{pointer}/input", "too_long", f"must have at most {BODY_LIMIT_BYTES} bytes"))
                jobs.append(job)
        if len(errors) >= MAX_ERRORS:
            break
    if errors:
        raise InvalidBatch(errors=errors[:MAX_ERRORS])
    return jobs


def _custom_id_errors(custom_id: object, places: dict[str, int], place: int) -> Iterator[FieldError]:
    pointer = f"/jobs/{place}/custom_id"
    if custom_id is None:
        return
    if not isinstance(custom_id, str):
        yield FieldError(pointer, "wrong_type", "must be a string")
    elif not custom_id:
        yield FieldError(pointer, "too_short", "must not be empty")
    elif len(custom_id) > MAX_CUSTOM_ID_CHARS:
        yield FieldError(pointer, "too_long", f"must have at most {MAX_CUSTOM_ID_CHARS} characters")
    elif places.setdefault(custom_id, place) != place:
        yield FieldError(pointer, "invalid_value", f"is the custom_id of /jobs/{places[custom_id]} already")


def _write(api: ApiContext, batch: NewBatch, jobs: Sequence[NewJob]) -> list[Accepted] | Replayed | KeyReused:
    """Writes a batch and its jobs in one transaction: a crash in the middle leaves nothing."""
    accepted: list[Accepted] = []
    try:
        with unit_of_work(api.engine) as connection:
            original = insert_batch(connection, batch=batch)
            if original is not None:
                return original
            if errors := file_errors(connection, jobs):
                raise InvalidBatch(errors=errors[:MAX_ERRORS])
            for start in range(0, len(jobs), WRITE_JOBS):
                accepted += [row for row in submit_jobs(connection, jobs=jobs[start : start + WRITE_JOBS]) if row is not None]
    except LockedRow as error:
        raise IdempotencyInProgress(retry_after_s=IN_PROGRESS_RETRY_S) from error
    return accepted


def _publish(api: ApiContext, jobs: Sequence[NewJob], accepted: Sequence[Accepted]) -> None:
    due = [each for job, row in zip(jobs, accepted, strict=True) for each in due_jobs(job, row)]
    for start in range(0, len(due), PUBLISH_JOBS):
        api.publish(due[start : start + PUBLISH_JOBS])


def _replay(api: ApiContext, replayed: Replayed) -> Response:
    view = _find(api, replayed.id)
    return _answer(view, 202 if view.finished_at is None else 200, {"Location": _url(view.id), "Idempotency-Replayed": "true"})


def _result_pages(api: ApiContext, batch_id: UUID, base: str) -> Iterator[bytes]:
    """The results page by page; between two pages no connection is held, however slow the client is.

    The server ends a broken stream as it ends a whole one (tried on granian 2.8), so one that must break off says so in its last line.
    """
    after: UUID | None = None
    while True:
        try:
            with statement(api.engine) as connection:
                page = batch_results(connection, batch_id=batch_id, after=after)
        except (DatabaseAway, LockedRow):
            yield to_json({"custom_id": None, "job_id": None, "status": None, "output": None, "error": _BROKEN_OFF.as_dict()}) + b"\n"
            return
        if not page:
            return
        after = page[-1].id
        yield b"".join(to_json(_result_line(result, base)) + b"\n" for result in page)


def _result_line(result: BatchResult, base: str) -> dict[str, object]:
    lost = result.erased and result.status is Status.SUCCEEDED
    return {
        "custom_id": result.custom_id,
        "job_id": encode(Prefix.JOB, result.id),
        "status": result.status,
        "output": stored_json(result.output_json),
        "output_file": output_file_json(result, base),
        "error": _EXPIRED.as_dict() if lost else stored_json(result.error_json),
    }


def _find(api: ApiContext, batch_id: UUID) -> BatchView:
    with statement(api.engine) as connection:
        view = get_batch(connection, tenant_id=principal().tenant_id, batch_id=batch_id)
    if view is None:
        raise NotFound("There is no such batch.")
    return view


def _decoded(public_id: str) -> UUID:
    batch_id = decode(Prefix.BATCH, public_id)
    if batch_id is None:
        raise NotFound("There is no such batch.")
    return batch_id


def _url(batch_id: UUID) -> str:
    return f"{base_url()}/v1/batches/{encode(Prefix.BATCH, batch_id)}"


def _answer(view: BatchView, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = batch_json(view, base_url())
    again = {} if view.finished_at is not None else {"Retry-After": retry_after(LOOK_AGAIN_S)}
    return json_answer(body, status, {**(headers or {}), **again})
