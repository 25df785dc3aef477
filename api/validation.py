"""From pydantic's findings to the field errors of a problem: one pointer, one code, one sentence each."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from api.json_gate import pointer_token
from domain.contracts import MEDIA_FORMS
from domain.errors import FieldError, ValidationFailed

Model = TypeVar("Model", bound=BaseModel)
MAX_ERRORS = 100

FIELD_CODES: Mapping[str, str] = {
    "unknown_field": "There is no such field.",
    "required": "The field is missing.",
    "wrong_type": "The value has another JSON type than the field.",
    "not_an_object": "The body, or a line of it, is no JSON object.",
    "too_short": "The text is empty, blank or shorter than the least.",
    "too_long": "The text is longer than the most.",
    "too_few": "The list is shorter than the least.",
    "too_many_items": "The list is longer than the most.",
    "too_many_fields": "An object has more fields than it may.",
    "out_of_range": "The number is below the least or above the most.",
    "invalid_value": "The value is none of those that the field takes.",
    "invalid_characters": "A text holds NUL or a lone surrogate, which cannot be stored.",
    "invalid_datetime": "The time is not RFC 3339 with an offset, or cannot be.",
    "invalid_metadata": "Metadata takes at most 16 pairs of strings, 4 KiB in all.",
    "unknown_task": "There is no such task.",
    "conflicting_fields": "The field cannot stand beside another one that is given, or one of several is missing.",
    "not_comparable": "Answers of this task, or to this input, cannot be compared.",
    "unknown_model": "The task has no such model.",
    "unsupported_by_model": "A model that the job would need does not take this field.",
    "unknown_policy": "There is no such routing policy.",
    "max_cost_too_low": "No model that the job may have is estimated to cost so little.",
    "invalid_url": "The address is none, or holds what an address must not.",
    "url_scheme": "The address has another scheme than it may; webhooks go to `https://`.",
    "url_port": "The address has a port that it may not have; webhooks go to 443 or 8443.",
    "url_forbidden": "The address is no public one.",
    "invalid_base64": "The content is not base64 as RFC 4648 has it: padded, without line breaks, in the usual alphabet.",
    "unsupported_format": "The content is of no format that the field takes.",
    "unknown_file": "There is no such file, or not any more.",
    "not_available": "This part of the contract is not built yet.",
}
"""Every code of a field error and what it says; ``validation_failed`` stands above them when there are several."""

_CODES = {
    "missing": "required",
    "extra_forbidden": "unknown_field",
    "string_too_short": "too_short",
    "string_too_long": "too_long",
    "too_short": "too_few",
    "too_long": "too_many_items",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
    "finite_number": "out_of_range",
    "int_from_float": "wrong_type",
    "invalid-json-value": "wrong_type",
}
_MESSAGES = {"required": "is required", "unknown_field": "is no field of this object"}
_BLANK = r"\S"


def validate(model: type[Model], value: Any, *, pointer: str = "") -> Model:
    """Checks a parsed JSON value against a shape.

    Args:
        pointer: where in the body the value stands.

    Raises:
        ValidationFailed: lists every field, a hundred at most.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ValidationFailed(errors=field_errors(error, pointer)) from error


def field_errors(error: ValidationError, pointer: str = "") -> list[FieldError]:
    """What pydantic found, in the words of this API; never echoes a value."""
    return [_field_error(found, pointer) for found in error.errors(include_url=False, include_input=False)[:MAX_ERRORS]]


def _field_error(found: Any, pointer: str) -> FieldError:
    kind: str = found["type"]
    context: Mapping[str, Any] = found.get("ctx", {})
    code = _CODES.get(kind) or (kind if kind in FIELD_CODES else "wrong_type" if kind.endswith("_type") else "invalid_value")
    message: str = found["msg"]
    if kind == "string_pattern_mismatch" and context.get("pattern") == _BLANK:
        code, message = "too_short", "must hold more than white space"
    elif kind == "value_error":
        message = str(context.get("error", message))
    where = pointer + "".join(f"/{pointer_token(part)}" for part in found["loc"] if part not in MEDIA_FORMS)
    return FieldError(where, code, _MESSAGES.get(code, message[:1].lower() + message[1:]))
