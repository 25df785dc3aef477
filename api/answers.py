"""Shapes answers: JSON by orjson, problem details by RFC 9457."""

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson
from flask import Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

JSON = "application/json"
PROBLEM = "application/problem+json"
_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC


def to_json(value: object) -> bytes:
    """JSON in UTF-8: times in RFC 3339 with ``Z``, money as a decimal string; ``orjson.Fragment`` is put in as it stands."""
    return orjson.dumps(value, _decimal, _OPTIONS)


class WholeAnswer(Response):
    """An answer whose body is at hand and whose headers are final.

    werkzeug would walk over the headers to make relative URLs absolute and ASCII, and hand the server an iterator, which it sends
    in pieces: a tenth of the time that a submit takes.
    """

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
        """Gives the server all of it at once."""
        body: bytes = self.get_data()
        start_response(self.status, [*self.headers, ("Content-Length", str(len(body)))])
        return [b""] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def json_answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None, *, media_type: str = JSON) -> Response:
    """An answer with a JSON body."""
    return WholeAnswer(to_json(value), status, headers, content_type=media_type)


def stored_json(text: str | None) -> orjson.Fragment | None:
    """JSON text from the database, to be put into an answer unparsed."""
    return None if text is None else orjson.Fragment(text)


def retry_after(seconds: float) -> str:
    """The value of ``Retry-After``: whole seconds, rounded up, at least 1."""
    return str(max(1, -int(-seconds // 1)))


def _decimal(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    raise TypeError(f"{type(value).__name__} cannot be shown as JSON")
