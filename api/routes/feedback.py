"""Feedback: what a tenant says of a job's output, so that routes learn which model is good."""

from typing import Any
from uuid import UUID

import orjson
from flask import Blueprint, Response
from pydantic import ValidationError

from api.answers import json_answer
from api.auth import principal
from api.context import ApiContext, context
from api.json_gate import json_object
from api.operation import Answer, Parameter, operation
from api.schemas.feedback import Feedback, FeedbackRequest
from api.urls import base_url
from api.validation import field_errors, validate
from api.waiting import read_job_view
from domain.agreement.pair import agreement_of
from domain.errors import FieldError, NotFound, NotSucceeded, ResultExpired, ServiceUnavailable, ValidationFailed
from domain.ids import Prefix, decode, encode
from domain.job import Status
from models.job_json import stored_json
from models.queries.feedback import FeedbackView, NewFeedback, feedback_of, give_feedback
from models.queries.read import JobView
from models.transactions import statement, unit_of_work

blueprint = Blueprint("feedback", __name__, url_prefix="/v1/jobs/<job_id>/feedback")

_ID = Parameter("job_id", "path", "The job's id.", required=True)


@blueprint.post("")
@operation(
    summary="Give feedback on a job",
    tag="Jobs",
    description="Says how good the output of a job is, or what it should have been; it counts for the model that gave it. Given again, it replaces what was.",
    body=FeedbackRequest,
    parameters=(_ID,),
    answers={201: Answer("The first of this job.", Feedback, headers={"Location": "The feedback."}), 200: Answer("In place of what was there.", Feedback)},
    errors=(NotFound, NotSucceeded, ResultExpired),
)
def post_feedback(job_id: str) -> Response:
    """Takes feedback."""
    api = context()
    wanted = validate(FeedbackRequest, json_object())
    job = _scorable(api, job_id)
    if wanted.score is None and wanted.correct_output is None:
        raise ValidationFailed(errors=[FieldError("/score", "required", "give a score, the correct output, or both")])
    agreement = None if wanted.correct_output is None else _agreement(api, job, wanted.correct_output)
    score = agreement if wanted.score is None else wanted.score
    if score is None:
        raise ValidationFailed(errors=[FieldError("/score", "required", "this output cannot be compared with another; give a score")])
    feedback = NewFeedback(
        job_id=job.id,
        tenant_id=job.tenant_id,
        key_id=principal().key_id,
        score=score,
        compared=wanted.score is None,
        correct_output_json=None if wanted.correct_output is None else orjson.dumps(wanted.correct_output).decode(),
        note=wanted.note,
    )
    with unit_of_work(api.engine) as connection:
        first = give_feedback(connection, feedback=feedback)
        given = feedback_of(connection, tenant_id=job.tenant_id, job_id=job.id)
    if first is None or given is None:
        raise ResultExpired  # between the look and the write
    body = _body(job, given)
    return json_answer(body, 201 if first else 200, {"Location": body["urls"]["self"]} if first else None)


@blueprint.get("")
@operation(
    summary="Look at a job's feedback",
    tag="Jobs",
    parameters=(_ID,),
    answers={200: Answer("The feedback.", Feedback)},
    errors=(NotFound, NotSucceeded, ResultExpired),
)
def get_feedback(job_id: str) -> Response:
    """What was said of a job."""
    api = context()
    job = _scorable(api, job_id)
    with statement(api.engine) as connection:
        given = feedback_of(connection, tenant_id=job.tenant_id, job_id=job.id)
    if given is None:
        raise NotFound("There is no feedback on this job.")
    return json_answer(_body(job, given))


def _scorable(api: ApiContext, public_id: str) -> JobView:
    job_id = decode(Prefix.JOB, public_id)
    job = read_job_view(api, principal().tenant_id, job_id) if isinstance(job_id, UUID) else None
    if job is None:
        raise NotFound("There is no such job.")
    if job.status is not Status.SUCCEEDED:
        raise NotSucceeded(f"Only a job that has succeeded has an output to speak of; this one is {job.status}.")
    if job.erased_at is not None:
        raise ResultExpired
    return job


def _agreement(api: ApiContext, job: JobView, correct_output: Any) -> float | None:
    """How far the output agrees with the correct one, 0 to 1; None where it cannot be compared: large ones, which are in files, are not.

    Raises:
        ValidationFailed: the correct output does not keep the contract.
        ServiceUnavailable: the catalogue no longer has the job's task.
    """
    contract = api.catalogue.contracts.get(job.task)
    if contract is None:
        raise ServiceUnavailable(f"{job.task} is no task of this service any more.")
    correct_json = orjson.dumps(correct_output).decode()
    try:
        contract.output.model_validate_json(correct_json)
    except ValidationError as error:
        raise ValidationFailed(errors=field_errors(error, "/correct_output")) from error
    if job.input_json is None or job.output_json is None:
        return None
    return agreement_of(contract, input_json=job.input_json, output_json=job.output_json, other_json=correct_json)


def _body(job: JobView, given: FeedbackView) -> dict[str, Any]:
    public_id = encode(Prefix.JOB, job.id)
    url = f"{base_url()}/v1/jobs/{public_id}"
    return {
        "object": "feedback",
        "job_id": public_id,
        "model": given.model,
        "score": given.score,
        "score_source": "compared" if given.compared else "given",
        "correct_output": stored_json(given.correct_output_json),
        "note": given.note,
        "created_at": given.created_at,
        "updated_at": given.updated_at,
        "urls": {"self": f"{url}/feedback", "job": url, "report": f"{base_url()}/v1/models/{given.model}/report"},
    }
