"""Pages of lists that are at hand whole."""

from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID

from flask import Response, request

from api.answers import json_answer
from api.operation import Parameter
from api.query import DEFAULT_LIMIT, MAX_LIMIT, cursor, limit, read_query, write_cursor
from api.urls import base_url

Row = TypeVar("Row")

LINK = {"Link": 'The next page, as `<…>; rel="next"`; not on the last one.'}


def page_parameters(rows: str) -> tuple[Parameter, Parameter]:
    """The parameters that ``page_answer`` reads; ``rows`` says of what."""
    return (
        Parameter("limit", "query", f"{rows} on a page.", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}),
        Parameter("cursor", "query", "The `next_cursor` of the page before."),
    )


def page_answer(rows: Sequence[Row], to_json: Callable[[Row], object]) -> Response:
    """The page of a list that this request asks for; its cursor is a place in the list, so what is new must come last.

    Raises:
        InvalidFilter: as ``read_query``.
    """
    given = read_query({"limit": limit, "cursor": cursor})
    size: int = given.get("limit", DEFAULT_LIMIT)
    start: int = given.get("cursor", UUID(int=0)).int
    end = start + size
    following = write_cursor(UUID(int=end)) if len(rows) > end else None
    headers = {"Link": f'<{base_url()}{request.path}?limit={size}&cursor={following}>; rel="next"'} if following else None
    return json_answer({"data": [to_json(row) for row in rows[start:end]], "next_cursor": following}, headers=headers)
