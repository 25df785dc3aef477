"""Shapes answers: JSON by orjson, problem details by RFC 9457."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flask import Response
from werkzeug.datastructures import Headers

from models.job_json import to_json

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

JSON = "application/json"
PROBLEM = "application/problem+json"


class WholeAnswer(Response):
    """An answer whose body is at hand and whose headers are final.

    werkzeug would walk over the headers to make relative URLs absolute and ASCII, and hand the server an iterator, which it sends
    in pieces: a tenth of the time that a submit takes.
    """

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
        """Gives the server all of it at once."""
        start_response(self.status, [*self.headers])
        return [b""] if environ["REQUEST_METHOD"] == "HEAD" else [self.get_data()]


def json_answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None, *, media_type: str = JSON) -> Response:
    """An answer with a JSON body."""
    body = to_json(value)
    return WholeAnswer([body], status, Headers([("Content-Type", media_type), ("Content-Length", str(len(body))), *(headers or {}).items()]))


def retry_after(seconds: float) -> str:
    """The value of ``Retry-After``: whole seconds, rounded up, at least 1."""
    return str(max(1, -int(-seconds // 1)))
