"""``/docs``: ``openapi.json`` as one HTML page that loads nothing else, in light and dark."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from api.errors import STATUS
from api.openapi import Json, contract_name, request_codes
from api.validation import FIELD_CODES
from domain import failures
from domain.failures import InferenceError

_CODE = re.compile(r"`([^`]+)`")
_LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "{} or more characters",
    "maxLength": "up to {} characters",
    "minItems": "{} or more",
    "maxItems": "up to {}",
    "maxProperties": "up to {}",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A field or a parameter, as a line of a table."""

    name: str
    kind: Markup
    required: bool
    said: Markup
    place: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One route."""

    id: str
    method: str
    path: str
    summary: str
    said: Markup
    public: bool
    parameters: Sequence[Row]
    body: Sequence[Row]
    body_types: Sequence[str]
    curl: str
    answers: Sequence[tuple[str, Markup, Markup]]
    refusals: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Task:
    """A task's contract."""

    name: str
    said: str
    models: Sequence[str]
    input: Sequence[Row]
    output: Sequence[Row]
    examples: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Code:
    """One error code."""

    code: str
    where: str
    retryable: bool
    said: Markup


def docs_page(document: Json) -> str:
    """The page of a document that ``openapi_document`` has made."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    schemas: Mapping[str, Json] = document["components"]["schemas"]
    tags: dict[str, list[Operation]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tags[operation["tags"][0]].append(_operation(path, method, operation, schemas))
    tied = set(schemas["TaskChoice"]["discriminator"]["mapping"])
    hidden = {contract_name(task, part) for task in tied for part in ("Job", "Input", "Output")} | {"TaskChoice"}
    return environment.get_template("page.html").render(
        introduction=[_prose(" ".join(part.split())) for part in document["info"]["description"].split("\n\n")],
        tags=tags,
        tasks=[_task(task, document) for task in sorted(tied)],
        codes=list(_codes()),
        shapes={name: (_prose(schema.get("description", "")), _rows(schema)) for name, schema in schemas.items() if name not in hidden},
    )


def _operation(path: str, method: str, operation: Json, schemas: Mapping[str, Json]) -> Operation:
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema")
    answers = {status: answer for status, answer in operation["responses"].items() if "application/problem+json" not in answer.get("content", {})}
    refusals = {status: answer for status, answer in operation["responses"].items() if status not in answers}
    return Operation(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        said=_prose(operation.get("description", "")),
        public=operation.get("security") == [],
        parameters=[
            Row(each["name"], _kind(each["schema"]), each.get("required", False), _prose(each.get("description", "")), each["in"])
            for each in operation.get("parameters", [])
        ],
        body=_rows(schemas[schema["$ref"].rpartition("/")[2]]) if schema else [],
        body_types=list(content),
        curl=_curl(path, method, operation),
        answers=[(status, _prose(answer["description"]), _shape_of(answer)) for status, answer in answers.items()],
        refusals=[(status, re.findall(r"`([a-z_]+)`:", answer["description"])) for status, answer in refusals.items()],
    )


def _task(task: str, document: Json) -> Task:
    schemas = document["components"]["schemas"]
    offered = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    given, got = schemas[contract_name(task, "Input")], schemas[contract_name(task, "Output")]
    examples = {name.partition(": ")[2]: example["value"] for name, example in offered.items() if example["value"]["task"] == task}
    return Task(
        name=task,
        said=given.get("description", ""),
        models=[model for model in schemas[contract_name(task, "Job")]["properties"]["model"]["enum"] if model],
        input=_rows(given),
        output=_rows(got),
        examples=[(title, _curl_command("POST", "/v1/jobs", value, ("Prefer: wait=30",))) for title, value in examples.items()],
    )


def _rows(schema: Json) -> list[Row]:
    required = set(schema.get("required", ()))
    return [Row(name, _kind(field), name in required, _field_prose(field)) for name, field in schema.get("properties", {}).items()]


def _field_prose(field: Json) -> Markup:
    said = [_prose(field["description"])] if field.get("description") else []
    if field.get("default") is not None:
        said.append(Markup("Default <code>{}</code>.").format(_compact(field["default"])))
    return Markup(" ").join(said)


def _kind(schema: Json) -> Markup:
    """A schema in a few words, with links to what it refers to."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#schema-{0}">{0}</a>').format(name)
    if "const" in schema:
        return Markup("<code>{}</code>").format(_compact(schema["const"]))
    if "enum" in schema:
        return Markup(", ").join(Markup("<code>{}</code>").format(_compact(value)) for value in schema["enum"])
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return Markup(" or ").join(dict.fromkeys(_kind(each) for each in schema[choice]))
    return _plain_kind(schema)


def _plain_kind(schema: Json) -> Markup:
    kind = schema.get("type", "any JSON")
    if kind == "array":
        words = Markup("list of {}").format(_kind(schema.get("items", {})))
    elif kind == "object" and isinstance(schema.get("additionalProperties"), dict) and schema["additionalProperties"]:
        words = Markup("object of {}").format(_kind(schema["additionalProperties"]))
    else:
        words = escape({"date-time": "time"}.get(schema.get("format", ""), kind))
    limits = [said.format(f"{schema[name]:,.10g}") for name, said in _LIMITS.items() if name in schema]
    return words + (Markup(' <span class="limit">{}</span>').format(", ".join(limits)) if limits else Markup(""))


def _shape_of(answer: Json) -> Markup:
    parts = []
    for media_type, content in answer.get("content", {}).items():
        schema = content["schema"]
        parts.append(_kind(schema) if "$ref" in schema else Markup("{} {}").format(_prose(schema.get("description", "")), media_type))
    return Markup(", ").join(parts)


def _curl(path: str, method: str, operation: Json) -> str:
    examples = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("examples", {})
    body = next((example["value"] for example in examples.values()), None)
    placeholders = {
        "job_id": "$JOB",
        "batch_id": "$BATCH",
        "task": "text.embedding",
        "model": "minilm-l6",
        "pool": "text",
        "endpoint_id": "$ENDPOINT",
        "delivery_id": "$DELIVERY",
    }
    for name, value in placeholders.items():
        path = path.replace("{" + name + "}", value)
    return _curl_command(method.upper(), path, body, public=operation.get("security") == [])


def _curl_command(method: str, path: str, body: object = None, headers: Sequence[str] = (), *, public: bool = False) -> str:
    implied = method == ("GET" if body is None else "POST")
    lines = [f"curl {'' if implied else f'-X {method} '}$MILLPOND{path}"]
    if not public:
        lines.append('-H "Authorization: Bearer $KEY"')
    lines += [f"-H '{header}'" for header in headers]
    if body is not None:
        text = orjson.dumps(body).decode().replace("'", "'\\''")
        lines += ["-H 'Content-Type: application/json'", f"-d '{text}'"]
    return " \\\n  ".join(lines)


def _codes() -> Iterator[Code]:
    for code, error in sorted(request_codes().items(), key=lambda item: (STATUS[item[1]], item[0])):
        yield Code(code, str(STATUS[error]), error.retryable, _prose(" ".join((error.__doc__ or "").split())))
    for code, said in FIELD_CODES.items():
        if code not in request_codes():
            yield Code(code, "a field", retryable=False, said=_prose(said))
    for code, error in failures.all_errors().items():
        if issubclass(error, InferenceError):
            yield Code(code, "a failed job", error.retryable, _prose(" ".join((error.__doc__ or "").split())))


def _prose(text: str) -> Markup:
    """Text with `code` in it, as HTML."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(" ".join(text.split())))))  # noqa: S704 - escaped first


def _compact(value: Any) -> str:
    return orjson.dumps(value).decode()
