"""Every error of the system: one tree, each with a stable public code and whether trying again can help.

HTTP statuses are given in ``api/errors.py`` alone, retry decisions in ``domain/retry.py`` alone. Foreign exceptions are
mapped once, where they enter, with ``raise … from``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from domain.usage import Usage

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
    """The headers are over the limit."""

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


# --- a job that failed ------------------------------------------------------------------------------------------------


class InferenceError(MillpondError):
    """A run of a job failed."""

    code = "model_error"

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None, usage: Usage | None = None) -> None:
        """``usage``: the tokens that the run took before it failed, where they are known; they are counted and charged."""
        super().__init__(message, retry_after_s=retry_after_s)
        self.usage = usage or Usage()


class ModelError(InferenceError):
    """The model raised an error on this input."""

    code = "model_error"
    retryable = True


class InvalidInput(InferenceError):
    """The model cannot use this input."""

    code = "invalid_input"


class InvalidBase64(InferenceError):
    """The content is not base64 as RFC 4648 has it: padded, without line breaks, in the usual alphabet."""

    code = "invalid_base64"


class UnsupportedFormat(InferenceError):
    """The content is of no format that this input takes."""

    code = "unsupported_format"


class InputGone(InferenceError):
    """The file that the job was to work on was deleted, or has expired."""

    code = "input_gone"


class InputFetchFailed(InferenceError):
    """The content could not be fetched from its URL."""

    code = "input_fetch_failed"


class InputSourceAway(InputFetchFailed):
    """The content could not be fetched from its URL: whoever serves it does not answer just now."""

    retryable = True


class FilesUnavailable(InferenceError):
    """The store of files is away."""

    code = "files_unavailable"
    retryable = True


class InvalidImage(InferenceError):
    """The image cannot be read: it is damaged, cut off, empty, or not what it begins as."""

    code = "invalid_image"


class ImageTooLarge(InferenceError):
    """The image has more pixels than may be decoded."""

    code = "image_too_large"


class InvalidAudio(InferenceError):
    """The audio cannot be read: it is damaged, cut off, empty, or not what it begins as."""

    code = "invalid_audio"


class AudioTooLong(InferenceError):
    """The audio is longer than the model takes."""

    code = "audio_too_long"


class ContextTooLong(InferenceError):
    """The input is longer than the model's context."""

    code = "context_too_long"


class UnsupportedLanguage(InferenceError):
    """The model does not have this language, or not this pair of languages."""

    code = "unsupported_language"


class InvalidOutput(InferenceError):
    """The model's output does not keep the task's contract."""

    code = "invalid_output"


class OutputTooLarge(InferenceError):
    """The output is over the limit."""

    code = "output_too_large"


class OutOfMemory(InferenceError):
    """The model ran out of memory on this input."""

    code = "out_of_memory"
    retryable = True


class RunTimeout(InferenceError):
    """The attempt ran longer than its time-out."""

    code = "run_timeout"
    retryable = True


class WorkerLost(InferenceError):
    """The process that ran the job died, three times with this job alone in it."""

    code = "worker_lost"


class ProviderRateLimited(InferenceError):
    """The provider of the model takes no more requests just now."""

    code = "provider_rate_limited"
    retryable = True


class ProviderUnavailable(InferenceError):
    """The provider of the model cannot be reached, is out of order, or did not answer in time."""

    code = "provider_unavailable"
    retryable = True


class ProviderBadAnswer(InferenceError):
    """The provider of the model answered in a way that cannot be read."""

    code = "provider_bad_answer"
    retryable = True


class ProviderRefused(InferenceError):
    """The provider of the model does not serve us: the key, the account or the model's name is not accepted there."""

    code = "provider_refused"


class CostLimit(InferenceError):
    """Another attempt may cost more than `max_cost_usd` leaves."""

    code = "cost_limit"


class ContentPolicy(InferenceError):
    """The model's content policy does not allow this input or its answer."""

    code = "content_policy"


class NoAnswer(InferenceError):
    """None of the models gave an answer; `consensus` says why."""

    code = "no_answer"


class NoAgreement(InferenceError):
    """The models do not agree as far as was asked for; `consensus` says how far, and what each answered."""

    code = "no_agreement"


class RejectedInReview(InferenceError):
    """Whoever reviewed the models' answers took none of them."""

    code = "rejected_in_review"


class DeadlineExceeded(InferenceError):
    """The deadline passed before a result."""

    code = "deadline_exceeded"


class CanceledByUser(InferenceError):
    """The job was canceled."""

    code = "canceled_by_user"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure as it is stored on a job or an attempt: what the client sees under `error`."""

    code: str
    message: str
    retryable: bool

    @classmethod
    def of(cls, error: MillpondError) -> "Failure":
        """The stored form of an error."""
        return cls(code=error.code, message=error.message, retryable=error.retryable)

    def as_dict(self) -> dict[str, object]:
        """As JSON holds it."""
        return {"code": self.code, "message": self.message, "retryable": self.retryable}


def all_errors() -> Mapping[str, type[MillpondError]]:
    """Every public code and its class: the closed list that the docs are generated from."""
    found: dict[str, type[MillpondError]] = {}
    pending: list[type[MillpondError]] = [MillpondError]
    while pending:
        cls = pending.pop(0)
        found.setdefault(cls.code, cls)
        pending.extend(cls.__subclasses__())
    return found
