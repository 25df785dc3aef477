"""Query parameters, read strictly: what is unknown, stands twice or has a bad value is refused, and says where."""

import base64
import re
from binascii import Error as Base64Error
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeVar
from uuid import UUID

from flask import request

from api.json_gate import pointer_token
from api.schemas.jobs import parse_time
from domain.errors import FieldError, InvalidFilter
from domain.ids import Prefix, decode

Reader = Callable[[str], Any]
Choice = TypeVar("Choice", bound=StrEnum)

MAX_VALUE_CHARS = 4_096
MAX_PAIRS = 16
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200

_PAIR = re.compile(r"(\w+)\[(.+)\]", re.DOTALL)
_CURSOR_FORMAT = b"\x01"  # a cursor of another format than this is refused, not misread


class _Unreadable(InvalidFilter):
    """A value that a parameter does not take."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.field_code = code


def read_query(readers: Mapping[str, Reader], *, pairs: Collection[str] = ()) -> dict[str, Any]:
    """The query parameters of this request.

    Args:
        readers: what each parameter takes.
        pairs: parameters written ``name[key]=value``, any number of them; they come back as one mapping.

    Returns:
        What was given, by name.

    Raises:
        InvalidFilter: lists every parameter that is unknown, stands twice or has a bad value.
    """
    values: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, texts in request.args.lists():
        pair = _PAIR.fullmatch(name)
        try:
            if name in readers:
                values[name] = readers[name](_only(texts))
            elif pair is not None and pair[1] in pairs:
                _add_pair(values.setdefault(pair[1], {}), _storable(pair[2]), _only(texts))
            else:
                errors.append(FieldError(f"/{pointer_token(name)}", "unknown_field", "is no parameter of this route"))
        except _Unreadable as error:
            errors.append(FieldError(f"/{pointer_token(name)}", error.field_code, error.message))
    if errors:
        raise InvalidFilter(errors=errors[:100])
    return values


def one_to(most: int) -> Callable[[str], int]:
    """A whole number, 1 to ``most``, which has four digits at most."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= most):
            raise _Unreadable("out_of_range", f"must be a whole number from 1 to {most}")
        return int(text)

    return read


limit = one_to(MAX_LIMIT)
"""``limit``: 1 to 200."""


def verbatim(text: str) -> str:
    """A text that is compared as it stands."""
    if not text:
        raise _Unreadable("too_short", "must not be empty")
    return text


def one_of(choices: type[Choice]) -> Callable[[str], Choice]:
    """One value of an enumeration."""

    def read(text: str) -> Choice:
        try:
            return choices(text)
        except ValueError as error:
            raise _Unreadable("invalid_value", f"must be one of {', '.join(choices)}") from error

    return read


def several_of(choices: type[Choice]) -> Callable[[str], list[Choice]]:
    """Values of an enumeration with commas between them."""
    read_one = one_of(choices)
    return lambda text: [read_one(part) for part in text.split(",")]


def moment(text: str) -> datetime:
    """A time in RFC 3339, with its offset."""
    try:
        return parse_time(text)
    except ValueError as error:
        raise _Unreadable("invalid_datetime", f"{error} (in a query, write + as %2B)") from error


def id_of(prefix: Prefix) -> Callable[[str], UUID]:
    """A public id of one kind."""

    def read(text: str) -> UUID:
        found = decode(prefix, text)
        if found is None:
            raise _Unreadable("invalid_value", f"is no id; one begins with {prefix}_")
        return found

    return read


def write_cursor(last: UUID) -> str:
    """The cursor of the page that begins after ``last``; opaque to clients."""
    return base64.urlsafe_b64encode(_CURSOR_FORMAT + last.bytes).decode().rstrip("=")


def cursor(text: str) -> UUID:
    """What ``write_cursor`` was given."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (Base64Error, ValueError) as error:
        raise _Unreadable("invalid_value", "is no cursor that this list has given") from error
    if len(raw) != 17 or raw[:1] != _CURSOR_FORMAT or write_cursor(UUID(bytes=raw[1:])) != text:
        raise _Unreadable("invalid_value", "is no cursor that this list has given")
    return UUID(bytes=raw[1:])


def _only(texts: Sequence[str]) -> str:
    if len(texts) > 1:
        raise _Unreadable("invalid_value", "must stand once")
    return _storable(texts[0])


def _storable(text: str) -> str:
    if "\x00" in text:
        raise _Unreadable("invalid_characters", "must not hold NUL")
    if len(text) > MAX_VALUE_CHARS:
        raise _Unreadable("too_long", f"must have at most {MAX_VALUE_CHARS} characters")
    return text


def _add_pair(pairs: dict[str, str], key: str, value: str) -> None:
    if len(pairs) == MAX_PAIRS:
        raise _Unreadable("too_many_fields", f"must stand at most {MAX_PAIRS} times")
    pairs[key] = value
