"""From an error to an answer: the one table of HTTP statuses, and the problem details (RFC 9457) of every failure."""

from collections.abc import Mapping

import structlog
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed

from api.answers import PROBLEM, json_answer, retry_after
from domain import errors
from domain.errors import MAX_ECHO_CHARS, MillpondError, ValidationFailed
from models.transactions import DatabaseAway, LockedRow

log = structlog.get_logger(__name__)

DATABASE_RETRY_S = 2.0

STATUS: Mapping[type[MillpondError], int] = {
    errors.RequestError: 400,
    errors.InvalidJson: 400,
    errors.JsonTooDeep: 400,
    errors.InvalidNumber: 400,
    errors.IncompleteBody: 400,
    errors.InvalidMultipart: 400,
    errors.InvalidHeader: 400,
    errors.InvalidIdempotencyKey: 400,
    errors.MissingKey: 401,
    errors.InvalidKey: 401,
    errors.InsufficientScope: 403,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.IdempotencyInProgress: 409,
    errors.AlreadyFinal: 409,
    errors.NotSucceeded: 409,
    errors.TooManyEndpoints: 409,
    errors.StorageQuotaExceeded: 409,
    errors.EndpointDisabled: 409,
    errors.ResultExpired: 410,
    errors.UnknownEvent: 410,
    errors.BodyTooLarge: 413,
    errors.UriTooLong: 414,
    errors.UnsupportedMediaType: 415,
    errors.UnsupportedEncoding: 415,
    errors.RangeNotSatisfiable: 416,
    errors.ValidationFailed: 422,
    errors.InvalidBatch: 422,
    errors.InvalidFilter: 422,
    errors.IdempotencyKeyReused: 422,
    errors.NotAvailable: 422,
    errors.HeaderTooLarge: 431,
    errors.InternalError: 500,
    errors.ModelNotInstalled: 503,
    errors.WebhooksNotConfigured: 503,
    errors.Overloaded: 503,
    errors.ServiceUnavailable: 503,
}
"""Every error that a request can end in; what is missing here is a defect of ours and answers 500."""

_TITLE = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    410: "Gone",
    413: "Body too large",
    414: "URL too long",
    415: "Unsupported media type",
    416: "No such part",
    422: "The request does not validate",
    431: "Headers too large",
    500: "Internal error",
    503: "Unavailable",
}

_BY_HTTP_STATUS: Mapping[int, type[MillpondError]] = {
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.BodyTooLarge,
    414: errors.UriTooLong,
    415: errors.UnsupportedMediaType,
    431: errors.HeaderTooLarge,
}


def problem(error: MillpondError) -> Response:
    """The answer that says what went wrong."""
    status = STATUS.get(type(error), 500)
    if status == 500 and not isinstance(error, errors.InternalError):
        error = errors.InternalError()
    code = public_code(error)
    body: dict[str, object] = {
        "type": f"/docs#error-{code}",
        "title": _TITLE[status],
        "status": status,
        "detail": error.message,
        "instance": request.path[:MAX_ECHO_CHARS],
        "code": code,
        "retryable": error.retryable,
        "request_id": g.request_id,
    }
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        body["retry_after_s"] = error.retry_after_s
        headers["Retry-After"] = retry_after(error.retry_after_s)
    if error.errors:
        body["errors"] = [{"pointer": field.pointer, "code": field.code, "message": field.message} for field in error.errors]
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return json_answer(body, status, headers, media_type=PROBLEM)


def public_code(error: MillpondError) -> str:
    """An error's code; where one field alone does not validate, that field's."""
    if isinstance(error, ValidationFailed) and len(error.errors) == 1:
        return error.errors[0].code
    return error.code


def install(app: Flask) -> None:
    """Makes every failure inside Flask answer with problem details."""
    app.register_error_handler(MillpondError, _millpond)
    app.register_error_handler(DatabaseAway, _database_away)
    app.register_error_handler(LockedRow, _locked)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def _millpond(error: MillpondError) -> Response:
    if type(error) not in STATUS:
        return _unexpected(error)
    return problem(error)


def _database_away(error: DatabaseAway) -> Response:
    log.warning("database is away", request_id=g.request_id, path=request.path, error=str(error))
    return problem(errors.ServiceUnavailable("The database is away; ask again later.", retry_after_s=DATABASE_RETRY_S))


def _locked(error: LockedRow) -> Response:
    log.warning("a row stayed locked", request_id=g.request_id, path=request.path, error=str(error))
    return problem(errors.ServiceUnavailable("A record is busy; ask again.", retry_after_s=1.0))


def _http(error: HTTPException) -> Response:
    answer = problem(_BY_HTTP_STATUS.get(error.code or 500, errors.RequestError if (error.code or 500) < 500 else errors.InternalError)())
    if isinstance(error, WerkzeugMethodNotAllowed) and error.valid_methods:
        answer.headers["Allow"] = ", ".join(sorted({*error.valid_methods, "OPTIONS"}))
    return answer


def _unexpected(error: Exception) -> Response:
    log.error("unexpected error", request_id=g.request_id, method=request.method, path=request.path, exc_info=error)
    return problem(errors.InternalError())
