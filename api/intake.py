"""From a request's JSON to a job about to be written: every check that needs no database, and what a key has made before."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from flask import request
from pydantic import ValidationError

from api.cascade import as_route, cascade_errors, cascade_of
from api.choices import choices
from api.consensus import consensus_errors, make_family, models_of
from api.context import ApiContext
from api.media import media_errors, named_files
from api.routing import choose, has_choice, not_installed, refuse_what_none_takes, route_errors
from api.schemas.jobs import MAX_ATTEMPTS, JobRequest, RerunRequest, WebhookRequest, parse_time
from api.validation import field_errors, validate
from api.webhook_urls import read_webhook_url
from domain.catalogue import Catalogue, TaskSpec
from domain.errors import (
    MAX_ECHO_CHARS,
    FieldError,
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    Overloaded,
    ResultExpired,
    ValidationFailed,
    WebhooksNotConfigured,
)
from domain.job import DEFAULT_DEADLINE_S, DEFAULT_MAX_ATTEMPTS
from domain.keys import Principal
from domain.routing.cascade import Cascade
from domain.routing.decision import Decision
from domain.trace import is_traceparent
from models.identity import new_id
from models.queries.read import JobView
from models.queries.submit import JobWebhook, KeyReused, NewJob, Replayed, original_of_key
from models.transactions import statement

FULL_RETRY_S = 5.0

_KEY = re.compile(r"[!-~]{1,255}")  # RFC 8941 would have it quoted; most clients send it bare
_QUOTED_KEY = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')


def read_job(
    value: Mapping[str, Any],
    *,
    context: ApiContext,
    principal: Principal,
    idempotency: tuple[bytes, bytes] | None = None,
    pointer: str = "",
    batch_id: UUID | None = None,
    custom_id: str | None = None,
) -> NewJob:
    """Checks a job's request, its input by the task's contract included.

    Args:
        value: the parsed JSON object, without ``custom_id``.
        context: the application's.
        principal: who submits.
        idempotency: what ``idempotency_of`` gave.
        pointer: where in the body the object stands.
        batch_id: the batch that it is a part of.
        custom_id: the caller's name for it inside its batch.

    Raises:
        ValidationFailed: lists every field that is wrong.
        ModelNotInstalled: the job is well formed, but the weights of its model are missing.
        WebhooksNotConfigured: it has a webhook, but there is no key to seal secrets with.
    """
    try:
        wanted = JobRequest.model_validate(value)
    except ValidationError as error:
        raise ValidationFailed(errors=[*field_errors(error, pointer), *_further_errors(value, context.catalogue, pointer)][:100]) from error
    catalogue = context.catalogue
    task = catalogue.offered.get(wanted.task)
    if task is None:
        raise ValidationFailed(errors=[_unknown_task(wanted.task, catalogue, pointer)])
    errors = list(route_errors(wanted, catalogue, pointer))
    model_name = wanted.model or task.default_model
    model = catalogue.models.get(model_name)
    if model is None or model.task != wanted.task:
        errors.append(_unknown_model(model_name, wanted.task, catalogue, pointer))
    parsed = _input(wanted, context, pointer, errors)
    errors += [*consensus_errors(wanted, parsed, context=context, pointer=pointer), *cascade_errors(wanted, parsed, context=context, pointer=pointer)]
    timeout_s = _timeout_s(wanted, task, pointer, errors)
    deadline_s = DEFAULT_DEADLINE_S if wanted.deadline_s is None else wanted.deadline_s
    not_before = _not_before(wanted, deadline_s, context, pointer, errors)
    webhook = None if wanted.webhook is None else _webhook(wanted.webhook, context, f"{pointer}/webhook", errors)
    if errors or model is None:
        raise ValidationFailed(errors=errors[:100])
    input_json = orjson.dumps(wanted.input)
    cascade = cascade_of(wanted, parsed, context)
    named = _named_models(wanted, cascade, parsed, context)
    decision = _decide(wanted, cascade, named, parsed, input_json, context=context, principal=principal, pointer=pointer)
    model_name = model_name if decision is None else decision.model
    job = NewJob(
        id=new_id(),
        tenant_id=principal.tenant_id,
        key_id=principal.key_id,
        task=wanted.task,
        model=model_name,
        pool=catalogue.models[model_name].pool,
        priority=wanted.priority,
        max_attempts=wanted.max_attempts or _attempts(decision),
        timeout_s=timeout_s,
        deadline_s=deadline_s,
        retention_s=task.retention_s,
        input_json=input_json.decode(),
        not_before=not_before,
        metadata_json=orjson.dumps(wanted.metadata).decode() if wanted.metadata else None,
        traceparent=_traceparent(),
        batch_id=batch_id,
        custom_id=custom_id,
        idempotency=idempotency,
        webhook=webhook,
        routing_json=None if decision is None else _routing(decision, cascade),
        files=() if parsed is None else tuple(named_files(parsed, catalogue.contracts[wanted.task].media, pointer=f"{pointer}/input")),
    )
    return job if wanted.consensus is None else make_family(job, wanted.consensus, named, context=context)


def read_rerun(
    value: Mapping[str, Any],
    original: JobView,
    *,
    context: ApiContext,
    principal: Principal,
    idempotency: tuple[bytes, bytes] | None,
    rule_json: str | None = None,
) -> NewJob:
    """A new job from the same input, with what the request changes; the webhook of the old one stays with the old one.

    A model that was pinned, the only one, or the default one of models that are not interchangeable, is the new job's too; where a route has chosen, the
    same route chooses again, by how things are now.

    Args:
        value: the parsed JSON object.
        original: the old job.
        context: the application's.
        principal: who asks.
        idempotency: what ``idempotency_of`` gave.
        rule_json: the old job's rule, if several models answered it.

    Raises:
        ValidationFailed: the request is wrong, or the catalogue or the contract has changed since.
        ResultExpired: the input was erased.
        ModelNotInstalled: as ``read_job``.
    """
    wanted = validate(RerunRequest, value)
    if original.erased_at is not None or original.input_json is None:
        raise ResultExpired
    deadline_s = (original.deadline_at - original.created_at).total_seconds()
    again: dict[str, Any] = {
        "task": original.task,
        "input": orjson.loads(original.input_json),
        **_route_again(wanted, original, rule_json),
        "priority": original.priority.value,
        "timeout_s": original.timeout_s,
        "deadline_s": deadline_s,
        "max_attempts": original.max_attempts,
        "metadata": orjson.loads(original.metadata_json or "{}"),
    }
    job = read_job(again, context=context, principal=principal, idempotency=idempotency)
    return replace(job, rerun_of=original.id, route=rerun_route(original.id))


def _route_again(wanted: RerunRequest, original: JobView, rule_json: str | None) -> dict[str, Any]:
    """Who answers a rerun. A model that is given pins; a route that is given alone chooses; models that are given are compared; else all is as it was."""
    if wanted.consensus is not None:
        return {"consensus": wanted.consensus.model_dump(), "model": wanted.model, "route": wanted.route and wanted.route.model_dump()}
    if rule_json is not None and wanted.route is None and wanted.model is None:
        return {"consensus": orjson.loads(rule_json)}
    routing = orjson.loads(original.routing_json) if original.routing_json else {"requested": {"model": original.model}}
    if "cascade" in routing and wanted.route is None and wanted.model is None:
        return {"cascade": routing["cascade"]}
    requested = routing["requested"]
    model = requested.pop("model")
    route = requested if wanted.route is None else wanted.route.model_dump()
    return {"model": wanted.model or (model if wanted.route is None else None), "route": route or None}


def _decide(
    wanted: JobRequest,
    cascade: Cascade | None,
    named: Sequence[str],
    parsed: Any,
    input_json: bytes,
    *,
    context: ApiContext,
    principal: Principal,
    pointer: str,
) -> Decision | None:
    """Which model is tried first, and which ones after it; None where there is nothing to decide.

    Raises:
        ModelNotInstalled: the request names a model that is not installed, or there is no other.
        ValidationFailed: no model keeps the limit of cost, or takes what the input gives.
    """
    asked = wanted if cascade is None else as_route(wanted, cascade)
    chosen = wanted.consensus is None and has_choice(asked, context.catalogue)
    only = [] if chosen or wanted.consensus else [wanted.model or context.catalogue.tasks[wanted.task].default_model]
    for name in (*named, *only):
        if not context.installed(name):
            raise not_installed(name, context)
    if only:
        refuse_what_none_takes(only, parsed, context=context, pointer=pointer)
    return choose(asked, parsed, input_json, context=context, principal=principal, pointer=pointer) if chosen else None


def _routing(decision: Decision, cascade: Cascade | None) -> str:
    """A decision as it is stored; with the cascade that it is a part of."""
    return orjson.dumps(decision.as_dict() if cascade is None else {**decision.as_dict(), "cascade": cascade.as_dict()}).decode()


def _named_models(wanted: JobRequest, cascade: Cascade | None, parsed: Any, context: ApiContext) -> Sequence[str]:
    """The models all of which a request needs."""
    if wanted.consensus is not None:
        return models_of(wanted.consensus, wanted.task, parsed, context)
    return () if cascade is None else cascade.models


def _attempts(decision: Decision | None) -> int:
    """How many runs may fail unless the job says: so many that every model which it may have gets one."""
    return DEFAULT_MAX_ATTEMPTS if decision is None else min(MAX_ATTEMPTS, max(DEFAULT_MAX_ATTEMPTS, 1 + len(decision.fallbacks)))


def refuse_if_full(context: ApiContext) -> None:
    """Takes nothing while as many jobs wait as may.

    Raises:
        Overloaded: with the time after which to ask again.
    """
    if context.queue_is_full():
        raise Overloaded("As many jobs wait as may; ask again later.", retry_after_s=FULL_RETRY_S)


def idempotency_of(value: Any) -> tuple[bytes, bytes] | None:
    """Hash of this request's Idempotency-Key and fingerprint of its body; None without a key.

    Args:
        value: the parsed body; equal JSON has an equal fingerprint, in whatever order its keys came.

    Raises:
        InvalidIdempotencyKey: the header is empty, too long, or holds anything but visible ASCII.
    """
    header = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if header is None:
        return None
    key = header.strip()
    if key.startswith('"'):
        quoted = _QUOTED_KEY.fullmatch(key)
        key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else ""
    if _KEY.fullmatch(key) is None:
        raise InvalidIdempotencyKey
    return sha256(key.encode()).digest(), sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).digest()


def replay_of(context: ApiContext, principal: Principal, *, route: str, idempotency: tuple[bytes, bytes] | None) -> Replayed | None:
    """What the key of a request that is about to be refused has made before: whoever asks again gets that, whatever has changed since.

    Args:
        context: the application's.
        principal: who asks.
        route: where the key was given, as it is stored with it.
        idempotency: what ``idempotency_of`` gave.

    Raises:
        IdempotencyKeyReused: it was made from another body.
    """
    if idempotency is None:
        return None
    with statement(context.engine) as connection:
        found = original_of_key(connection, tenant_id=principal.tenant_id, route=route, idempotency=idempotency)
    if isinstance(found, KeyReused):
        raise IdempotencyKeyReused
    return found


def rerun_route(job_id: UUID) -> str:
    """Where a key was given to run a job again."""
    return f"jobs/{job_id}/rerun"


def _input(wanted: JobRequest, context: ApiContext, pointer: str, errors: list[FieldError]) -> Any:
    """The input by the task's contract; adds to the errors what is wrong with it."""
    contract = context.catalogue.contracts[wanted.task]
    try:
        parsed = contract.input.model_validate(wanted.input)
    except ValidationError as error:
        errors += field_errors(error, f"{pointer}/input")
        return None
    if contract.media:
        errors += media_errors(parsed, contract.media, allow_private=context.fetch_allow_private, pointer=f"{pointer}/input")
    return parsed


def _timeout_s(wanted: JobRequest, task: TaskSpec, pointer: str, errors: list[FieldError]) -> float:
    """How long one attempt may take; adds to the errors what is wrong with that."""
    timeout_s = task.timeout_s if wanted.timeout_s is None else wanted.timeout_s
    if timeout_s > task.max_timeout_s:
        errors.append(FieldError(f"{pointer}/timeout_s", "out_of_range", f"must be at most {task.max_timeout_s:g} for {wanted.task}"))
    return timeout_s


def _not_before(wanted: JobRequest, deadline_s: float, context: ApiContext, pointer: str, errors: list[FieldError]) -> datetime | None:
    """When the job may start; adds to the errors what is wrong with that."""
    not_before = None if wanted.not_before is None else parse_time(wanted.not_before)
    if not_before is not None and not_before >= context.now() + timedelta(seconds=deadline_s):
        errors.append(FieldError(f"{pointer}/not_before", "out_of_range", "must be earlier than the deadline; `deadline_s` moves that"))
    return not_before


def _webhook(wanted: WebhookRequest, context: ApiContext, pointer: str, errors: list[FieldError]) -> JobWebhook | None:
    """Where a job's events go; adds to the errors what is wrong with it."""
    if context.secrets is None:
        raise WebhooksNotConfigured
    try:
        target = read_webhook_url(wanted.url, context=context, pointer=f"{pointer}/url")
    except ValidationFailed as error:
        errors += error.errors
        return None
    return JobWebhook(url=target.url, origin=target.origin, events=None if wanted.events is None else tuple(wanted.events))


def _further_errors(value: Mapping[str, Any], catalogue: Catalogue, pointer: str) -> list[FieldError]:
    """What is wrong with task and input of a request whose other fields are wrong already, so that one answer names everything."""
    task, job_input = value.get("task"), value.get("input")
    if not isinstance(task, str):
        return []
    if task not in catalogue.offered:
        return [_unknown_task(task, catalogue, pointer)]
    if not isinstance(job_input, dict):
        return []
    try:
        catalogue.contracts[task].input.model_validate(job_input)
    except ValidationError as error:
        return field_errors(error, f"{pointer}/input")
    return []


def _unknown_task(task: str, catalogue: Catalogue, pointer: str) -> FieldError:
    return FieldError(f"{pointer}/task", "unknown_task", f"there is no task {task[:MAX_ECHO_CHARS]!r}; {choices(task, catalogue.offered)}")


def _unknown_model(model: str, task: str, catalogue: Catalogue, pointer: str) -> FieldError:
    return FieldError(f"{pointer}/model", "unknown_model", f"{task} has no model {model[:MAX_ECHO_CHARS]!r}; {choices(model, catalogue.models_of_task(task))}")


def _traceparent() -> str | None:
    """The caller's trace context; one that is malformed is ignored, as W3C asks."""
    header = request.environ.get("HTTP_TRACEPARENT")
    return header if header is not None and is_traceparent(header) else None
