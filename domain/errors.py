"""Every error of the system: one tree, each with a stable public code and whether trying again can help.

HTTP statuses are given in ``api/errors.py`` alone, retry decisions in ``domain/retry.py`` alone. Foreign exceptions are
mapped once, where they enter, with ``raise … from``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

MAX_MESSAGE_CHARS = 2_000
MAX_ECHO_CHARS = 100


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field of a request: where (JSON Pointer, RFC 6901), which, and in words."""

    pointer: str
    code: str
    message: str


class MillpondError(Exception):
    """Root of all errors that a user may see; the class docstring is the default message."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None, errors: Sequence[FieldError] = ()) -> None:
        self.message = clean(message if message is not None else (type(self).__doc__ or "").strip())
        self.retry_after_s = retry_after_s
        self.errors = tuple(errors)
        super().__init__(self.message)


def clean(text: str) -> str:
    """Text fit to be stored and shown: no NUL, no lone surrogates, at most 2,000 characters."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")[:MAX_MESSAGE_CHARS]


# --- the start of a process -----------------------------------------------------------------------------------------


class ConfigurationError(MillpondError):
    """The settings or the catalogue are wrong; the message names the key."""

    code = "invalid_configuration"


class ModelsNotLoaded(MillpondError):
    """A pool's models cannot be loaded here; the message names the model, the reason, and what to do."""

    code = "models_not_loaded"


class PullFailed(MillpondError):
    """A model's weights could not be fetched; the message names the model, the file and the reason."""

    code = "pull_failed"


# --- a request that cannot be taken ---------------------------------------------------------------------------------


class RequestError(MillpondError):
    """The request cannot be served."""

    code = "invalid_request"


class InvalidJson(RequestError):
    """The body is not well-formed JSON."""

    code = "invalid_json"


class JsonTooDeep(RequestError):
    """The JSON is nested deeper than 64 levels."""

    code = "json_too_deep"


class InvalidNumber(RequestError):
    """JSON numbers must be finite."""

    code = "invalid_number"


class ValidationFailed(RequestError):
    """The request does not validate; `errors` lists every field."""

    code = "validation_failed"


class InvalidBatch(RequestError):
    """The batch holds jobs that do not validate; none was accepted."""

    code = "invalid_batch"


class InvalidFilter(RequestError):
    """A query parameter is unknown or has a value that it does not take."""

    code = "invalid_filter"


class InvalidHeader(RequestError):
    """A header has a value that it does not take."""

    code = "invalid_header"


class InvalidIdempotencyKey(RequestError):
    """Idempotency-Key takes 1 to 255 visible ASCII characters."""

    code = "invalid_idempotency_key"


class IdempotencyKeyReused(RequestError):
    """This Idempotency-Key was used with another body in the last 24 hours."""

    code = "idempotency_key_reused"


class IdempotencyInProgress(RequestError):
    """The first request with this Idempotency-Key is still being taken; ask again."""

    code = "idempotency_in_progress"
    retryable = True


class MissingKey(RequestError):
    """Send your key as `Authorization: Bearer <key>`."""

    code = "missing_key"


class InvalidKey(RequestError):
    """The key is not valid."""

    code = "invalid_key"


class InsufficientScope(RequestError):
    """The key may not do this."""

    code = "insufficient_scope"


class NotFound(RequestError):
    """Nothing is here."""

    code = "not_found"


class MethodNotAllowed(RequestError):
    """This method is not allowed here."""

    code = "method_not_allowed"


class UnsupportedMediaType(RequestError):
    """The body must be `application/json` in UTF-8."""

    code = "unsupported_media_type"


class UnsupportedEncoding(RequestError):
    """Content-Encoding is not supported; send the body as it is."""

    code = "unsupported_encoding"


class BodyTooLarge(RequestError):
    """The body is over the limit."""

    code = "body_too_large"


class InvalidMultipart(RequestError):
    """The body is no well-formed `multipart/form-data`."""

    code = "invalid_multipart"


class IncompleteBody(RequestError):
    """The body is shorter than its Content-Length."""

    code = "incomplete_body"


class RangeNotSatisfiable(RequestError):
    """The content has no such part."""

    code = "range_not_satisfiable"


class UriTooLong(RequestError):
    """The URL is over 8 KiB."""

    code = "uri_too_long"


class HeaderTooLarge(RequestError):
    """The headers are over 16 KiB."""

    code = "header_too_large"


class AlreadyFinal(RequestError):
    """The job has ended already."""

    code = "already_final"


class NotSucceeded(RequestError):
    """Only a job that has succeeded has an output to speak of."""

    code = "not_succeeded"


class ResultExpired(RequestError):
    """The input and the output were erased when their retention ended."""

    code = "result_expired"


class NotAvailable(RequestError):
    """This part of the contract is not built yet."""

    code = "not_available"


class ModelNotInstalled(RequestError):
    """The model's weights are not installed (run `millpond models pull`), or its provider's key is not set."""

    code = "model_not_installed"


class TooManyEndpoints(RequestError):
    """As many webhook endpoints are registered as may be; delete one first."""

    code = "too_many_endpoints"


class StorageQuotaExceeded(RequestError):
    """Your files, and what your jobs gave as files, take as much room as they may; delete some, or wait until some expire."""

    code = "storage_quota_exceeded"


class EndpointDisabled(RequestError):
    """The webhook endpoint is disabled or gone, so nothing is sent to it; enable it first."""

    code = "endpoint_disabled"


class UnknownEvent(RequestError):
    """There is no event of this id, or not any more; pull again from the start, and compare with what you have."""

    code = "unknown_event"


class WebhooksNotConfigured(RequestError):
    """Webhooks are off here: whoever runs this service must set MILLPOND_SECRET_KEYS first."""

    code = "webhooks_not_configured"


class Overloaded(RequestError):
    """The service cannot take this now; ask again later."""

    code = "overloaded"
    retryable = True


class ServiceUnavailable(RequestError):
    """A service that this needs is away; ask again later."""

    code = "service_unavailable"
    retryable = True


class InternalError(RequestError):
    """Something went wrong on our side; the request id finds it in our logs."""

    code = "internal"
    retryable = True
