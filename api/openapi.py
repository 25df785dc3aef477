"""``openapi.json`` (OpenAPI 3.1), made from the routes, what they say of themselves, and the catalogue's contracts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import orjson
from flask import Flask
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from api.errors import STATUS
from api.operation import Answer, Operation, Parameter, operation_of
from api.schemas.problem import Problem
from api.validation import FIELD_CODES
from domain import errors, failures
from domain.catalogue import Catalogue
from domain.contracts import Contract
from domain.errors import MillpondError, RequestError, ValidationFailed

Json = dict[str, Any]
Mode = Literal["validation", "serialization"]

PROBLEM = "application/problem+json"
_REF = "#/components/schemas/"
_EVERYWHERE: Sequence[type[MillpondError]] = (errors.UriTooLong, errors.HeaderTooLarge, errors.InternalError)
_WITH_KEY: Sequence[type[MillpondError]] = (errors.MissingKey, errors.InvalidKey, errors.InvalidFilter, errors.ServiceUnavailable)
_WITH_BODY: Sequence[type[MillpondError]] = (
    errors.InvalidJson,
    errors.JsonTooDeep,
    errors.InvalidNumber,
    errors.IncompleteBody,
    errors.BodyTooLarge,
    errors.UnsupportedMediaType,
    errors.UnsupportedEncoding,
    errors.ValidationFailed,
    errors.Overloaded,
)
_WEBHOOK_EXAMPLES: Mapping[str, Json] = {
    "EndpointRequest": {"url": "https://example.com/hook", "events": ["job.failed", "batch.completed"]},
    "EndpointChanges": {"enabled": True},
    "RedeliverRequest": {"created_after": "2026-11-23T20:00:00Z", "state": "failed"},
}
_INTRODUCTION = """\
Takes inference jobs, queues them, runs real models and keeps every result. Submit a job to `POST /v1/jobs`, then poll it, wait
with `Prefer: wait`, follow its events, or get a webhook, signed by Standard Webhooks.

Ids are prefixed and sort by time. Times are RFC 3339 in UTC and end in `_at`; durations end in `_s` or `_ms`; money is a decimal
string and ends in `_usd`. Every URL that you need next is in the answer under `urls`. Unknown fields are refused, and
under `/v1` unknown parameters. Another tenant's id answers as an unknown one does. Within `/v1` things are only ever added."""


def openapi_document(app: Flask, catalogue: Catalogue) -> Json:
    """The document of an application whose routes are registered; reads nothing but them and the catalogue."""
    described = list(_described(app))
    operations = [operation for _, _, operation in described]
    components = {**_contract_schemas(catalogue), **_shape_schemas(operations)}
    _tie_contracts_to_jobs(components, catalogue)
    paths: dict[str, Json] = {}
    for rule, method, operation in described:
        paths.setdefault(path_of(rule), {})[method.lower()] = _operation(rule, operation, catalogue, rule.endpoint.rpartition(".")[2])
    return {
        "openapi": "3.1.0",
        "info": {"title": "Millpond", "version": "1", "description": _INTRODUCTION},
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in operations)],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "Your API key."}},
            "headers": {"X-Request-Id": {"description": "Yours, if you sent a valid one.", "schema": {"type": "string"}}},
        },
    }


def openapi_json(app: Flask, catalogue: Catalogue) -> bytes:
    """The document as JSON."""
    return orjson.dumps(openapi_document(app, catalogue))


def path_of(rule: Rule) -> str:
    """A route's path as OpenAPI writes it: ``/v1/jobs/{job_id}``."""
    return re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)


def methods_of(rule: Rule) -> list[str]:
    """A route's methods, without those that Flask adds to every route."""
    return sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})


def contract_name(task: str, part: str) -> str:
    """The name of a contract's component: ``TextEmbeddingInput``."""
    return "".join(word.title() for word in re.split(r"[^a-z0-9]", task)) + part


def request_codes() -> dict[str, type[MillpondError]]:
    """Every code that a refusal may have, without those of single fields."""
    return {code: error for code, error in failures.all_errors().items() if issubclass(error, RequestError) and error in STATUS}


def _described(app: Flask) -> Iterator[tuple[Rule, str, Operation]]:
    for rule in app.url_map.iter_rules():
        operation = operation_of(app.view_functions[rule.endpoint])
        if operation is not None:
            for method in methods_of(rule):
                yield rule, method, operation


def _shape_schemas(operations: Sequence[Operation]) -> dict[str, Json]:
    """The shapes of all bodies and answers."""
    wanted: dict[tuple[type[BaseModel], Mode], None] = {(Problem, "serialization"): None}
    for operation in operations:
        for body in (operation.body, operation.form):
            if body is not None:
                wanted[body, "validation"] = None
        for answer in operation.answers.values():
            if answer.body is not None:
                wanted[answer.body, "serialization"] = None
    _, document = models_json_schema(list(wanted), ref_template=_REF + "{model}")
    schemas: dict[str, Json] = document["$defs"]
    schemas["Problem"]["properties"]["code"]["enum"] = sorted({*request_codes(), *FIELD_CODES})
    return schemas


def _contract_schemas(catalogue: Catalogue) -> dict[str, Json]:
    """Input and Output of every task, with what they refer to, under names of their own."""
    schemas: dict[str, Json] = {}
    modes: Sequence[tuple[str, Mode]] = (("Input", "validation"), ("Output", "serialization"))
    for task in catalogue.offered:
        contract = catalogue.contracts[task]
        for part, mode in modes:
            shape: type[Contract] = contract.input if part == "Input" else contract.output
            schema = shape.model_json_schema(mode=mode, ref_template=_REF + contract_name(task, "{model}"))
            for name, inner in schema.pop("$defs", {}).items():
                schemas[contract_name(task, name)] = inner
            schemas[contract_name(task, part)] = {**schema, "title": f"{part} of {task}"}
    return schemas


def _tie_contracts_to_jobs(components: dict[str, Json], catalogue: Catalogue) -> None:
    """Says that a job's input is its task's Input, and its output that task's Output."""
    tasks = sorted(catalogue.offered)
    for task in tasks:
        components[contract_name(task, "Job")] = {
            "type": "object",
            "title": f"A job of {task}",
            "properties": {
                "task": {"const": task},
                "input": _ref(contract_name(task, "Input")),
                "model": {"enum": [*sorted(catalogue.models_of_task(task)), None]},
            },
            "required": ["task", "input"],
        }
    components["TaskChoice"] = {
        "title": "A task and its input",
        "oneOf": [_ref(contract_name(task, "Job")) for task in tasks],
        "discriminator": {"propertyName": "task", "mapping": {task: _REF + contract_name(task, "Job") for task in tasks}},
    }
    for request in ("JobRequest", "BatchJobRequest"):
        components[request]["allOf"] = [_ref("TaskChoice")]
    whole = components["Job"]["properties"]
    whole["input"] |= {"anyOf": [_ref(contract_name(task, "Input")) for task in tasks]}
    whole["output"] = {**whole["output"], "anyOf": [*(_ref(contract_name(task, "Output")) for task in tasks), {"type": "null"}]}


def _operation(rule: Rule, operation: Operation, catalogue: Catalogue, name: str) -> Json:
    document: Json = {"operationId": name, "summary": operation.summary, "tags": [operation.tag]}
    if operation.description:
        document["description"] = operation.description
    if operation.public:
        document["security"] = []
    if parameters := [*_path_parameters(rule, operation), *(_parameter(each) for each in operation.parameters if each.place != "path")]:
        document["parameters"] = parameters
    if operation.body is not None:
        document["requestBody"] = _request_body(operation, operation.body, catalogue)
    if operation.form is not None:
        document["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": _ref(operation.form.__name__)}}}
    document["responses"] = {**{str(status): _answer(answer) for status, answer in sorted(operation.answers.items())}, **_refusals(operation)}
    return document


def _path_parameters(rule: Rule, operation: Operation) -> Iterator[Json]:
    described = [parameter for parameter in operation.parameters if parameter.place == "path"]
    for name in sorted(rule.arguments):
        said = next((parameter for parameter in described if parameter.name == name), described[0] if len(described) == 1 else None)
        document: Json = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        yield {**document, "description": said.description} if said else document


def _parameter(parameter: Parameter) -> Json:
    document: Json = {"name": parameter.name, "in": parameter.place, "description": parameter.description, "schema": dict(parameter.schema)}
    if parameter.required:
        document["required"] = True
    if parameter.schema.get("type") == "array":
        document |= {"style": "form", "explode": False}
    if parameter.schema.get("type") == "object":
        document |= {"style": "deepObject", "explode": True}
    return document


def _request_body(operation: Operation, body: type[BaseModel], catalogue: Catalogue) -> Json:
    content: Json = {"application/json": {"schema": _ref(body.__name__), **_body_examples(body, catalogue)}}
    for media_type in operation.body_media_types:
        content[media_type] = {"schema": {"type": "string", "description": "One JSON document a line."}}
    return {"required": operation.body_required, "content": content}


def _body_examples(body: type[BaseModel], catalogue: Catalogue) -> Json:
    jobs = {f"{task}: {example.title}": {"task": task, "input": example.input} for task in catalogue.offered for example in catalogue.contracts[task].examples}
    if body.__name__ == "JobRequest":
        return {"examples": {name: {"value": job} for name, job in jobs.items()}}
    if (value := _WEBHOOK_EXAMPLES.get(body.__name__)) is not None:
        return {"examples": {"An example": {"value": value}}}
    if body.__name__ == "BatchRequest":
        batch = [{**job, "custom_id": f"line-{number}"} for number, job in enumerate(list(jobs.values())[:2], start=1)]
        return {"examples": {"Two jobs": {"value": {"jobs": batch}}}}
    return {}


def _answer(answer: Answer) -> Json:
    headers: Json = {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}}
    headers |= {name: {"description": said, "schema": {"type": "string"}} for name, said in answer.headers.items()}
    document: Json = {"description": answer.description, "headers": headers}
    if answer.body is not None and answer.media_type != "application/json":
        said = f"Lines of `{answer.body.__name__}`."
        document["content"] = {answer.media_type: {"schema": {"type": "string", "description": said}}}
    elif answer.body is not None:
        document["content"] = {"application/json": {"schema": _ref(answer.body.__name__)}}
    elif answer.media_type != "application/json":
        document["content"] = {answer.media_type: {"schema": {"type": "string"}}}
    return document


def errors_of(operation: Operation) -> dict[int, list[type[MillpondError]]]:
    """Every error that a route may give, by status."""
    found: dict[type[MillpondError], None] = dict.fromkeys(operation.errors)
    for more, applies in ((_WITH_KEY, not operation.public), (_WITH_BODY, operation.body is not None), (_EVERYWHERE, True)):
        if applies:
            found |= dict.fromkeys(more)
    by_status: dict[int, list[type[MillpondError]]] = {}
    for error in sorted(found, key=lambda each: (STATUS[each], each.code)):
        by_status.setdefault(STATUS[error], []).append(error)
    return by_status


def _refusals(operation: Operation) -> dict[str, Json]:
    answers: dict[str, Json] = {}
    for status, of_status in errors_of(operation).items():
        if status in operation.answers:
            continue
        codes = [error.code for error in of_status]
        if ValidationFailed in of_status:
            codes += sorted(set(FIELD_CODES) - set(codes))
        headers: Mapping[str, str] = {"Retry-After": "When to try again."} if any(error.retryable for error in of_status) else {}
        answers[str(status)] = {
            "description": "; ".join(f"`{error.code}`: {_sentence(error)}" for error in of_status),
            "headers": _answer(Answer("", headers=headers))["headers"],
            "content": {PROBLEM: {"schema": {"allOf": [_ref("Problem"), {"properties": {"code": {"enum": codes}}}]}}},
        }
    return answers


def _sentence(error: type[MillpondError]) -> str:
    return " ".join((error.__doc__ or "").split()).rstrip(".")


def _ref(name: str) -> Json:
    return {"$ref": _REF + name}
