"""JSON Schemas that clients send for a model's answer: what is taken as one, and whether a text keeps it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
from referencing import Registry

from domain.failures import InvalidInput

NO_REMOTE_SCHEMAS: Registry[Any] = Registry()


def checked_schema(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuses what is no JSON Schema (2020-12), since a grammar takes anything and then constrains nothing.

    Raises:
        InvalidInput: naming the place and what is wrong there.
    """
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise InvalidInput(f"json_schema{error.json_path.removeprefix('$')}: {error.message}") from error
    for reference in _references(schema):
        if not _resolves(reference, schema):
            raise InvalidInput(f"json_schema: $ref {reference[:100]!r} names nothing in this schema")
    return schema


def mismatch(text: str, schema: Mapping[str, Any]) -> str | None:
    """Why a text is not JSON by a schema, or None when it is: a grammar leaves out rules that it does not know (``not``)."""
    try:
        jsonschema.Draft202012Validator(schema, registry=NO_REMOTE_SCHEMAS).validate(json.loads(text))
    except json.JSONDecodeError as error:
        return str(error)
    except jsonschema.ValidationError as error:
        return f"{error.json_path}: {error.message}"
    return None


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            elif key not in ("const", "enum", "default", "examples"):  # these hold data, not schemas
                yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _resolves(reference: str, schema: Mapping[str, Any]) -> bool:
    """Whether a reference is a JSON Pointer into the schema itself (``#``, ``#/$defs/name``)."""
    if not reference.startswith("#"):
        return False
    place: object = schema
    for part in reference.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(place, Mapping) and name in place:
            place = place[name]
        else:
            return False
    return reference == "#" or reference.startswith("#/")
