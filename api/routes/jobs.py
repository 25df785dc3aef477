"""Jobs: submit, look, cancel, run again, attempts."""

import math
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID
from zlib import crc32

from flask import Blueprint, Response, request

from api.answers import json_answer, retry_after
from api.auth import principal
from api.cancellation import cancel_children
from api.cascade import cascade_json
from api.consensus import new_family, with_family
from api.context import ApiContext, context
from api.intake import idempotency_of, read_job, read_rerun, refuse_if_full, replay_of, rerun_route
from api.job_answer import WAITING, job_answer, with_webhook
from api.json_gate import BODY_LIMIT_BYTES, as_object, has_body, json_object, parse_json, read_body, refuse_fields
from api.media import file_errors
from api.operation import Answer, Parameter, operation
from api.pages import LINK, page_answer, page_parameters
from api.schemas.jobs import AttemptList, EmptyRequest, Job, JobRequest, RerunRequest
from api.shadows import with_shadow
from api.urls import base_url
from api.waiting import preferred_wait_s, read_job_view, wait_until_final
from domain import errors
from domain.errors import AlreadyFinal, IdempotencyKeyReused, NotFound, RequestError, ResultExpired, ServiceUnavailable, ValidationFailed
from domain.failures import CanceledByUser, Failure
from domain.ids import Prefix, decode
from domain.job import Priority, Status
from models.job_json import attempt_json, job_json, to_json
from models.queries.consensus import read_families
from models.queries.finish import Ending, finish_jobs
from models.queries.read import JobView, attempts_of
from models.queries.submit import ROUTE, Accepted, KeyReused, NewJob, Replayed
from models.transactions import statement, unit_of_work

blueprint = Blueprint("jobs", __name__, url_prefix="/v1/jobs")

MOST_RETRY_S = 60.0
CANCEL_TRIES = 5  # a job may move on between the look and the write, each time with a newer fence

_ID = Parameter("id", "path", "The job's id.", required=True)
_WAIT = Parameter("Prefer", "header", "`wait=n` holds the answer until the job is final or n seconds (60 at most) have passed.")
_KEY = Parameter("Idempotency-Key", "header", "1 to 255 visible ASCII characters; for 24 hours the same key and body give the same job.")
_IF_NONE_MATCH = Parameter("If-None-Match", "header", "An `ETag` of this job: if it has not changed, the answer is 304.")
_SUBMIT_HEADERS = {"Location": "The job.", "Preference-Applied": "The wait that was kept.", "Idempotency-Replayed": "`true` if the key was seen before."}
_ACCEPTED = Answer(
    "Accepted; or, after the wait or for a key seen before, not final yet.", Job, headers={**_SUBMIT_HEADERS, "Retry-After": "When to look again."}
)
_FINAL = Answer("The job, final.", Job, headers=_SUBMIT_HEADERS)
_SUBMIT_ERRORS: Sequence[type[errors.MillpondError]] = (
    errors.InvalidIdempotencyKey,
    errors.IdempotencyKeyReused,
    errors.IdempotencyInProgress,
    errors.ModelNotInstalled,
    errors.WebhooksNotConfigured,
    errors.Overloaded,
)


@blueprint.post("")
@operation(
    summary="Submit a job",
    tag="Jobs",
    body=JobRequest,
    parameters=(_KEY, _WAIT),
    answers={202: _ACCEPTED, 200: _FINAL},
    errors=_SUBMIT_ERRORS,
)
def submit_job() -> Response:
    """Takes a job: checks it, commits it, answers."""
    api = context()
    body = json_object()
    idempotency = idempotency_of(body)

    def read() -> NewJob:
        return with_shadow(read_job(body, context=api, principal=principal(), idempotency=idempotency), context=api)

    return _submit(api, read, route=ROUTE, idempotency=idempotency)


@blueprint.get("/<job_id>")
@operation(
    summary="Look at a job",
    tag="Jobs",
    parameters=(_ID, _WAIT, _IF_NONE_MATCH),
    answers={
        200: Answer("The job.", Job, headers={"ETag": "Changes with the job.", "Retry-After": "While it is not final: when to look again."}),
        304: Answer("It has not changed.", headers={"ETag": "As it was sent."}),
    },
    errors=(NotFound, ResultExpired),
)
def get_job(job_id: str) -> Response:
    """One job as it stands, or as it stands after the wait."""
    api = context()
    found = _find(api, job_id)
    headers: dict[str, str] = {}
    job, body = _held(api, found, job_answer(found, base_url(), context=api), headers)
    if job.erased_at is not None:
        raise ResultExpired
    tag = f"{job.fence}-{job.event_seq}-{job.status}"
    if (webhook := body["webhook"]) is not None:
        tag += f"-{webhook['state']}-{webhook['tries']}"
    if body["children"] is not None:
        tag += f"-{crc32(to_json([body['children'], body['review']])):x}"
    headers["ETag"] = f'"{tag}"'
    if not job.status.final:
        headers["Retry-After"] = _when_to_look(api, job)
    if request.if_none_match.contains_weak(tag):
        return Response(status=304, headers=headers)
    return json_answer(body, 200, headers)


@blueprint.post("/<job_id>/cancel")
@operation(
    summary="Cancel a job",
    tag="Jobs",
    description="Final at once, running or not; asking again gives the same answer.",
    body=EmptyRequest,
    body_required=False,
    parameters=(_ID,),
    answers={200: Answer("The canceled job.", Job)},
    errors=(NotFound, AlreadyFinal),
)
def cancel_job(job_id: str) -> Response:
    """Ends a job that nobody wants any more."""
    api = context()
    refuse_fields()
    for _ in range(CANCEL_TRIES):
        job = _find(api, job_id)
        if job.status is Status.CANCELED:
            return json_answer(job_answer(job, base_url(), context=api))
        if job.status.final:
            raise AlreadyFinal(f"The job has ended already: it is {job.status}.")
        ending = Ending(
            id=job.id, fence=job.fence, status=Status.CANCELED, failure=Failure.of(CanceledByUser()), by_owner=False, may_be_child=job.parent_id is not None
        )
        with statement(api.engine) as connection:
            finish_jobs(connection, endings=[ending])
        if job.pending_children is not None:
            cancel_children(api.engine, job.id)
    raise ServiceUnavailable("The job changes hands too often to be canceled; ask again.", retry_after_s=1.0)


@blueprint.post("/<job_id>/rerun")
@operation(
    summary="Run a job again",
    tag="Jobs",
    description="A new job from the same input, linked by `rerun_of`.",
    body=RerunRequest,
    body_required=False,
    parameters=(_ID, _KEY, _WAIT),
    answers={202: _ACCEPTED, 200: _FINAL},
    errors=(NotFound, ResultExpired, *_SUBMIT_ERRORS),
)
def rerun_job(job_id: str) -> Response:
    """Makes a new job of an old one."""
    api = context()
    body = as_object(parse_json(read_body(BODY_LIMIT_BYTES))) if has_body() else {}
    original = _find(api, job_id)
    idempotency = idempotency_of(body)

    def read() -> NewJob:
        rule_json = None
        if original.pending_children is not None:
            with unit_of_work(api.engine) as connection:
                rule_json = read_families(connection, ids=[original.id])[original.id].rule_json
        return read_rerun(body, original, context=api, principal=principal(), idempotency=idempotency, rule_json=rule_json)

    return _submit(api, read, route=rerun_route(original.id), idempotency=idempotency)


@blueprint.get("/<job_id>/attempts")
@operation(
    summary="List a job's attempts",
    tag="Jobs",
    parameters=(_ID, *page_parameters("Attempts")),
    answers={200: Answer("The attempts, the first first, the running one included.", AttemptList, headers=LINK)},
    errors=(NotFound,),
)
def list_attempts(job_id: str) -> Response:
    """A page of a job's attempts."""
    api = context()
    job = _find(api, job_id)
    with statement(api.engine) as connection:
        attempts = attempts_of(connection, job_id=job.id)
    return page_answer(attempts, attempt_json)


def _submit(api: ApiContext, read: Callable[[], NewJob], *, route: str, idempotency: tuple[bytes, bytes] | None) -> Response:
    """Takes a job, or answers with the one that its Idempotency-Key has made before, which no refusal stands in the way of."""
    try:
        new = read()
        refuse_if_full(api)
        if new.files:
            _check_files(api, new)
    except RequestError:
        replayed = replay_of(api, principal(), route=route, idempotency=idempotency)
        if replayed is None:
            raise
        return _replay(api, replayed)
    if new.webhook is not None and api.secrets is not None:
        api.secrets.ensure_default(new.tenant_id)
    outcome = api.submitter.submit(new)
    if isinstance(outcome, KeyReused):
        raise IdempotencyKeyReused
    if isinstance(outcome, Replayed):
        return _replay(api, outcome)
    job, base = _accepted(new, outcome), base_url()
    body = with_webhook(job_json(job, base), WAITING if new.webhook else None)  # known, so that a submit asks nothing
    body = with_family(body, new_family(new), base) | {"cascade": cascade_json(job, api)}
    return _answer(api, job, body, {})


def _replay(api: ApiContext, replayed: Replayed) -> Response:
    job = read_job_view(api, principal().tenant_id, replayed.id)
    if job is None or job.erased_at is not None:
        raise ResultExpired
    return _answer(api, job, job_answer(job, base_url(), context=api), {"Idempotency-Replayed": "true"})


def _answer(api: ApiContext, job: JobView, body: dict[str, Any], headers: dict[str, str]) -> Response:
    job, body = _held(api, job, body, headers)
    headers["Location"] = body["urls"]["self"]
    if not job.status.final:
        headers["Retry-After"] = _when_to_look(api, job)
    return json_answer(body, 200 if job.status.final else 202, headers)


def _check_files(api: ApiContext, new: NewJob) -> None:
    with statement(api.engine) as connection:
        if wrong := file_errors(connection, [new]):
            raise ValidationFailed(errors=wrong)


def _held(api: ApiContext, job: JobView, body: dict[str, Any], headers: dict[str, str]) -> tuple[JobView, dict[str, Any]]:
    """The job and its JSON after the wait that the request asks for, if it asks for one."""
    wait_s = preferred_wait_s()
    if not wait_s or job.status.final:
        return job, body
    later, kept = wait_until_final(job, wait_s, context=api)
    if kept:
        headers["Preference-Applied"] = f"wait={wait_s}"
    return later, body if later is job else job_answer(later, base_url(), context=api)


def _accepted(new: NewJob, accepted: Accepted) -> JobView:
    """What the database would say of a job that was just written."""
    return JobView(
        id=new.id,
        tenant_id=new.tenant_id,
        key_id=new.key_id,
        batch_id=new.batch_id,
        rerun_of=new.rerun_of,
        fence=0,
        event_seq=1,
        status=Status.QUEUED,
        task=new.task,
        model=new.model,
        pool=new.pool,
        priority=Priority(new.priority),
        custom_id=new.custom_id,
        attempt=0,
        failures=0,
        max_attempts=new.max_attempts,
        timeout_s=new.timeout_s,
        retention_s=new.retention_s,
        created_at=accepted.created_at,
        available_at=accepted.available_at,
        deadline_at=accepted.deadline_at,
        started_at=None,
        attempt_started_at=None,
        finished_at=None,
        expires_at=None,
        erased_at=None,
        queue_ms=0.0,
        run_ms=0.0,
        input_tokens=None,
        output_tokens=None,
        cost_usd=None,
        error_json=None,
        metadata_json=new.metadata_json,
        input_json=new.input_json,
        has_webhook=new.webhook is not None,
        pending_children=new.pending_children,
        routing_json=new.routing_json,
    )


def _find(api: ApiContext, public_id: str) -> JobView:
    job_id = decode(Prefix.JOB, public_id)
    job = read_job_view(api, principal().tenant_id, job_id) if isinstance(job_id, UUID) else None
    if job is None:
        raise NotFound("There is no such job.")
    return job


def _when_to_look(api: ApiContext, job: JobView) -> str:
    if job.status is not Status.QUEUED or job.available_at is None or job.available_at == job.created_at:
        return retry_after(0.0)
    return retry_after(min(MOST_RETRY_S, math.ceil((job.available_at - api.now()).total_seconds())))
